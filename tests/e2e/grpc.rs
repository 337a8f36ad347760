//! A backend that speaks HTTP/2 and answers health checks of gRPC, as its script says.

use bytes::Bytes;
use h2::server;
use http::{HeaderMap, Response};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Such a backend; it serves until the test ends.
pub(crate) struct GrpcHealth {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    status: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<(String, Vec<u8>)>>,
}

impl GrpcHealth {
    /// One that is SERVING.
    pub(crate) fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let status = Arc::new(AtomicU8::new(1));
        let asked = Arc::new(AtomicUsize::new(0));
        let last = Arc::<Mutex<(String, Vec<u8>)>>::default();
        let shared = (status.clone(), asked.clone(), last.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                listener.set_nonblocking(true).expect("a socket");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                while let Ok((tcp, _)) = listener.accept().await {
                    let (status, asked, last) = shared.clone();
                    tokio::spawn(async move {
                        let Ok(mut connection) = server::handshake(tcp).await else {
                            return;
                        };
                        while let Some(Ok((request, mut respond))) = connection.accept().await {
                            let (status, asked, last) =
                                (status.clone(), asked.clone(), last.clone());
                            tokio::spawn(async move {
                                let path = request.uri().path().to_string();
                                let mut body = request.into_body();
                                let mut message = Vec::new();
                                while let Some(Ok(piece)) = body.data().await {
                                    message.extend_from_slice(&piece);
                                    let _ = body.flow_control().release_capacity(piece.len());
                                }
                                *last.lock().expect("last") = (path, message);
                                asked.fetch_add(1, Ordering::SeqCst);
                                let head = Response::builder()
                                    .header("content-type", "application/grpc")
                                    .body(())
                                    .expect("a head");
                                let Ok(mut stream) = respond.send_response(head, false) else {
                                    return;
                                };
                                let status = status.load(Ordering::SeqCst);
                                let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                                let _ = stream.send_data(message, false);
                                let mut trailers = HeaderMap::new();
                                trailers.insert("grpc-status", "0".parse().expect("a value"));
                                let _ = stream.send_trailers(trailers);
                            });
                        }
                    });
                }
            });
        });
        GrpcHealth {
            port,
            status,
            asked,
            last,
        }
    }

    /// From now on, this status: 1 is SERVING.
    pub(crate) fn say(&self, status: u8) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The path and the message of the last call.
    pub(crate) fn last(&self) -> (String, Vec<u8>) {
        self.last.lock().expect("last").clone()
    }
}
