//! The built-in flaky backends of `backstop demo`, alone or with Backstop itself in front of them.
//!
//! Called by `main` for the subcommand. Decides what is started in which order and how it all ends. It must not reach into
//! the proxy: Backstop runs as a child process, on the same configuration and with the same signals as in production.

mod backend;
mod chance;
mod proxy;
mod screen;

use backend::{Backend, Counts};
use chance::Chance;
use proxy::{Event, Proxy};
use screen::Screen;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long Backstop may take until all its listeners accept.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What the demo's backends are like.
#[derive(Debug, Clone, PartialEq)]
pub struct Demo {
    /// How many there are; at least 1.
    pub backends: u16,
    /// The first one's port on 127.0.0.1; the others follow it.
    pub port: u16,
    /// The share of requests that fail, from 0.0 to 1.0: a third each with 500, 502 and a reset connection.
    pub fail: f64,
    /// The pause before each answer.
    pub slow: Duration,
}

/// Runs the backends until Ctrl-C or TERM, and returns the exit code. With `config`, Backstop runs on that file in front of
/// them; its end is the demo's end, with its exit code.
///
/// # Errors
/// A port that cannot be listened on, and a Backstop that cannot be started or does not come up within 30 s.
pub fn run(demo: Demo, config: Option<&Path>) -> io::Result<i32> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut stop = Stop::listen()?;
            let listeners = bind(demo.port, demo.backends).await?;
            let counts = Arc::new(Counts::default());
            for listener in listeners {
                let chance = Chance::new(demo.fail, chance::seed());
                let backend = Backend::new(&listener, chance, demo.slow, counts.clone())?;
                tokio::spawn(backend.serve(listener));
            }
            let screen = Arc::new(Screen::new());
            match config {
                None => alone(&demo, &counts, &screen, &mut stop).await,
                Some(config) => with_proxy(&demo, config, &counts, &screen, &mut stop).await,
            }
        })
}

/// The signals that end the demo. HUP is one of them because it is what a closing terminal sends.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// All backends' sockets, or the first one's error, so that a demo never runs with half of them.
async fn bind(port: u16, count: u16) -> io::Result<Vec<TcpListener>> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
    if count == 0 {
        return Err(invalid("a demo needs at least one backend".into()));
    }
    if port == 0 || u32::from(port) + u32::from(count) > 65_536 {
        return Err(invalid(format!(
            "{count} backends do not fit on ports from {port} (1 to 65535)"
        )));
    }
    let mut listeners = Vec::with_capacity(count.into());
    for port in (port..=u16::MAX).take(count.into()) {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| {
            let remedy = match e.kind() {
                io::ErrorKind::AddrInUse => "; is another demo running? --port chooses other ports",
                _ => "",
            };
            io::Error::new(
                e.kind(),
                format!("no backend can listen on 127.0.0.1:{port}: {e}{remedy}"),
            )
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn alone(demo: &Demo, counts: &Counts, screen: &Screen, stop: &mut Stop) -> io::Result<i32> {
    screen.say(&screen::backends(demo));
    tokio::select! {
        _ = stop.asked() => {}
        _ = show_counters(counts, screen) => {}
    }
    screen.close();
    Ok(0)
}

async fn with_proxy(
    demo: &Demo,
    config: &Path,
    counts: &Counts,
    screen: &Arc<Screen>,
    stop: &mut Stop,
) -> io::Result<i32> {
    let program = std::env::current_exe()?;
    let in_force = match proxy::in_force(&program, config)? {
        Ok(in_force) => in_force,
        Err(code) => return Ok(code),
    };
    let mut proxy = Proxy::start(&program, config, screen)?;
    tokio::select! {
        _ = stop.asked() => return end(&mut proxy, screen, stop).await,
        event = tokio::time::timeout(START_LIMIT, proxy.event()) => match event {
            Ok(Ok(Event::Ready)) => {}
            Ok(Ok(Event::Ended(code))) => return dead(code, screen),
            Ok(Err(e)) => return Err(e),
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("Backstop was not ready within {} s", START_LIMIT.as_secs()),
                ));
            }
        },
    }
    screen.say(&screen::tour(demo, config, &program, proxy.id(), &in_force));
    tokio::select! {
        _ = stop.asked() => {}
        code = proxy.ended() => return dead(code?, screen),
        _ = show_counters(counts, screen) => {}
    }
    end(&mut proxy, screen, stop).await
}

/// Backstop ended before it was asked to.
fn dead(code: i32, screen: &Screen) -> io::Result<i32> {
    screen.say(&format!("Backstop ended with exit code {code}."));
    Ok(code)
}

/// Lets Backstop drain while the backends still answer; a second signal of ours is a second one for it, which ends it at once.
async fn end(proxy: &mut Proxy, screen: &Screen, stop: &mut Stop) -> io::Result<i32> {
    screen.say("Stopping Backstop; once more stops it at once.");
    proxy.terminate()?;
    loop {
        tokio::select! {
            code = proxy.ended() => {
                screen.close();
                return code;
            }
            _ = stop.asked() => proxy.terminate()?,
        }
    }
}

/// Never returns. Without a terminal there is nobody to watch a line change, and nothing is written.
async fn show_counters(counts: &Counts, screen: &Screen) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        screen.live(&format!(
            "answered by the backends: {} ok, {} failed (500: {}, 502: {}, reset: {})",
            counts.ok.load(Relaxed),
            counts.failed(),
            counts.status_500.load(Relaxed),
            counts.status_502.load(Relaxed),
            counts.reset.load(Relaxed),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(port: u16, count: u16) -> String {
        bind(port, count).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let message = refusal(address.port(), 1).await;
        assert!(message.contains(&address.to_string()), "{message}");
        assert!(message.contains("--port"), "{message}");
    }

    #[tokio::test]
    async fn impossible_numbers_are_refused() {
        assert!(refusal(9001, 0).await.contains("at least one"));
        assert!(refusal(65_535, 2).await.contains("do not fit"));
        assert!(refusal(0, 1).await.contains("do not fit"));
    }
}
