//! Heads of requests: what is judged sound is read in one way only.
#![no_main]

use backstop::policy::framing::judge;
use backstop::policy::http1::Http1;
use backstop::policy::limits::Limits;
use backstop::policy::target::{is_host, normalise_host, normalise_path};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = request.parse(data) else {
        return;
    };
    let (Some(target), Some(minor)) = (request.path, request.version) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return;
        };
        headers.append(name, value);
    }
    let version = match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let uri = target.parse::<http::Uri>().ok();
    let authority = uri
        .as_ref()
        .and_then(|uri| uri.authority())
        .map(|a| a.as_str());
    let mut http1 = Http1::default();
    http1.see(&data[..length]);
    if http1.doubt().is_none() && judge(version, authority, &headers).is_ok() {
        // Nothing but what may stand in a head is in it, as it came.
        let head = &data[..length];
        assert!(head.ends_with(b"\r\n\r\n"));
        let mut before = 0;
        for &byte in head {
            assert!(byte != b'\n' || before == b'\r');
            assert!(!byte.is_ascii_control() || b"\r\n\t".contains(&byte));
            before = byte;
        }
        let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
        let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
        assert!(lengths.len() + codings.len() <= 1, "{headers:?}");
        for length in lengths {
            let digits = length.as_bytes();
            assert!(
                !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
                "{length:?}"
            );
        }
        for coding in codings {
            assert!(
                coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
                "{coding:?}"
            );
        }
        assert!(headers.get_all(header::HOST).iter().count() <= 1);
    }
    if let Ok(path) = normalise_path(target) {
        // `OPTIONS *` asks about all of the server.
        assert!(
            path == "*"
                || path.starts_with('/')
                    && !path.split('/').any(|part| part == ".." || part == "."),
            "{path:?}"
        );
        assert!(!path.contains("//"), "{path:?}");
    }
    for host in headers.get_all(header::HOST) {
        if let Ok(host) = host.to_str()
            && is_host(host.as_bytes())
        {
            let once = normalise_host(host).into_owned();
            assert_eq!(normalise_host(&once), once);
        }
    }
    let limits = Limits {
        target: 100,
        fields: 10,
        head: 1000,
    };
    let _ = limits.judge(target, &headers);
});
