//! The access log in the forms of other programs: compared with nginx itself, and with the expression that AWS publishes.

use crate::client::Client;
use crate::client_tls::Authority;
use crate::harness::{Proxy, Setup, eventually, free_port, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use regex::Regex;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const NGINX: &str = "/usr/sbin/nginx";

fn with_format(dir: &Path, format: &str) -> Setup {
    let log = dir.join("access.log");
    Proxy::with().key(
        "access_log",
        &format!("{{ path: {}, format: {format} }}", log.display()),
    )
}

fn lines(dir: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// An nginx of our own, ended with this.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nginx(dir: &Path, port: u16) -> Nginx {
    let conf = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/error.log; events {{ }}\n\
         http {{ access_log {0}/nginx.log combined; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }}\n\
         location /gone {{ return 410 gone; }} }} }}\n",
        dir.display()
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, conf).unwrap();
    let child = Command::new(NGINX)
        .args(["-c", file.to_str().unwrap(), "-p", dir.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let nginx = Nginx(child);
    until("nginx listens", || Client::try_to(port).is_ok());
    nginx
}

/// Fifty requests, some of them odd, none of which nginx and we would answer otherwise.
fn requests() -> Vec<String> {
    let agents = [
        "curl/8.0",
        "a \"quoted\" one",
        "back\\slash",
        "\u{e9}t\u{e9}",
        "",
    ];
    let referers = ["https://a.example/?q=\"x\"", ""];
    let mut all = Vec::new();
    for (n, agent) in agents.iter().enumerate() {
        for referer in referers {
            for (method, target) in [
                ("GET", "/"),
                ("HEAD", "/a?b=c"),
                ("GET", "/gone"),
                ("GET", "/%22x%22?%0a"),
                ("DELETE", "/x"),
            ] {
                let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n");
                if !agent.is_empty() {
                    text.push_str(&format!("User-Agent: {agent}\r\n"));
                }
                if !referer.is_empty() {
                    text.push_str(&format!("Referer: {referer}\r\n"));
                }
                if n % 2 == 1 {
                    text.push_str("Authorization: Basic YW5uOnNlY3JldA==\r\n");
                }
                all.push(text + "\r\n");
            }
        }
    }
    assert_eq!(all.len(), 50);
    all
}

#[test]
fn a_combined_line_is_the_one_that_nginx_writes() {
    if !Path::new(NGINX).exists() {
        assert!(std::env::var_os("CI").is_none(), "nginx is missing");
        return eprintln!("nginx is not installed: not compared");
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _nginx = nginx(dir.path(), port);
    let yaml = "routes:\n  - { match: { path: / }, respond: { status: 200, body: hello } }\n  - { match: { path: /gone }, respond: { status: 410, body: gone } }\n";
    let proxy = with_format(dir.path(), "combined").start(yaml);
    for port in [port, proxy.port] {
        let mut client = Client::to(port);
        for request in requests() {
            client.send(&request);
            client.answer_to(request.split(' ').next().unwrap());
        }
    }
    until("all lines", || {
        ["nginx.log", "access.log"]
            .iter()
            .all(|file| lines(dir.path(), file).len() == 50)
    });
    let time = Regex::new(r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]").unwrap();
    let without_time = |file: &str| -> Vec<String> {
        let all = lines(dir.path(), file);
        assert!(all.iter().all(|line| time.is_match(line)), "{all:?}");
        all.iter()
            .map(|line| time.replace(line, "[]").into_owned())
            .collect()
    };
    let (theirs, ours) = (without_time("nginx.log"), without_time("access.log"));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(ours, theirs);
    }
}

/// What AWS publishes for a table over the logs of its Application Load Balancers, as docs/athena.md has it.
fn published() -> Regex {
    let text = include_str!("../../docs/athena.md");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("'input.regex' = '"));
    let quoted = line.unwrap().trim_end_matches('\'');
    Regex::new(&format!(
        "^{}$",
        quoted.replace("\\\"", "\"").replace("\\\\", "\\")
    ))
    .unwrap()
}

#[test]
fn s9_a_line_of_a_load_balancer_is_read_by_its_published_table() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::new(|r| match r.number {
        0 => Reply::status(500),
        _ => Reply::ok("hello"),
    });
    let yaml = one_route(&[origin.port], "retry: { tries: 2, wait: 1ms }");
    let proxy = with_format(dir.path(), "alb").start(&yaml);
    let mut client = Client::to(proxy.port);
    let fields = [
        ("Host", "api.example"),
        ("User-Agent", "a \"b\" c"),
        ("X-Request-ID", "id-1"),
    ];
    assert_eq!(client.request("GET", "/a?b=c", &fields, b"").status, 200);
    assert_eq!(client.request("POST", "/%zz", &fields, b"body").status, 400);
    let mut other = Client::to(proxy.port);
    other.send("GET / HTTP/1.1\r\nHost : a\r\n\r\n");
    assert_eq!(other.answer().status, 400);
    let all = eventually("three lines", || {
        Some(lines(dir.path(), "access.log")).filter(|l| l.len() == 3)
    });
    let table = published();
    let read = |line: &str| -> Vec<String> {
        let read = table
            .captures(line)
            .unwrap_or_else(|| panic!("not read: {line}"));
        read.iter()
            .skip(1)
            .map(|c| c.map_or(String::new(), |c| c.as_str().to_string()))
            .collect()
    };
    let first = read(&all[0]);
    let backend = origin.port.to_string();
    for (column, value) in [
        (0, "http"),
        (3, "127.0.0.1"),
        (5, "127.0.0.1"),
        (6, &backend),
        (10, "200"),
        (11, "200"),
        (14, "GET"),
        (15, "http://api.example:80/a?b=c"),
        (16, "HTTP/1.1"),
        (17, "a \\x22b\\x22 c"),
        (18, "-"),
        (20, "pool"),
        (21, "Root=id-1"),
        (26, "forward"),
        (30, "500,200"),
    ] {
        assert_eq!(first[column], value, "column {column} of {}", all[0]);
    }
    // The head and five bytes.
    let sent: usize = first[13].parse().unwrap();
    assert!((100..600).contains(&sent), "{sent}");
    // The second try began after the first and the wait, and was answered at once.
    let seconds = |column: usize| first[column].parse::<f64>().unwrap();
    assert!(
        seconds(7) >= 0.001 && seconds(8) >= 0.0 && first[9] == "0.000",
        "{}",
        all[0]
    );
    assert_eq!(read(&all[1])[10], "400");
    assert_eq!(read(&all[2])[10], "400");

    // By TLS.
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    std::fs::remove_file(dir.path().join("access.log")).unwrap();
    let tls = pair.tls();
    let proxy = with_format(dir.path(), "alb").listener(&tls).start(&yaml);
    authority
        .client()
        .to(proxy.port, "a.example")
        .unwrap()
        .get("/")
        .unwrap();
    let all = eventually("a line", || {
        Some(lines(dir.path(), "access.log")).filter(|l| l.len() == 1)
    });
    let line = read(&all[0]);
    assert_eq!(
        (&*line[0], &*line[19], &*line[22]),
        ("https", "TLSv1.3", "a.example")
    );
    assert!(line[18].starts_with("TLS_AES"), "{}", line[18]);

    // What does not go to a backend, and one that cannot be reached.
    std::fs::remove_file(dir.path().join("access.log")).unwrap();
    let proxy = with_format(dir.path(), "alb").start(&format!(
        "upstreams: {{ gone: {{ backends: [127.0.0.1:{}] }} }}\nroutes:\n  - {{ match: {{ path: /old }}, redirect: {{ to: \"https://b.example/new?token=x\" }} }}\n  - {{ match: {{ path: /here }}, respond: {{ status: 200 }} }}\n  - {{ match: {{ path: /gone }}, upstream: gone, retry: {{ tries: 1 }} }}\n",
        crate::harness::free_port()
    ));
    let mut client = Client::to(proxy.port);
    for path in ["/old", "/here", "/gone"] {
        client.get(path);
    }
    let all = eventually("three lines", || {
        Some(lines(dir.path(), "access.log")).filter(|l| l.len() == 3)
    });
    for (line, action, to, times) in [
        (&all[0], "redirect", "https://b.example/new?token=***", "-1"),
        (&all[1], "fixed-response", "-", "-1"),
        (&all[2], "forward", "-", "-1"),
    ] {
        let line = read(line);
        assert_eq!((&*line[26], &*line[27]), (action, to));
        assert_eq!(line[7..10], [times, times, times], "{line:?}");
    }
}

/// A page hands its own address on, with the secrets in it.
#[test]
fn where_one_came_from_has_no_secrets_either() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = with_format(dir.path(), "combined")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200, body: hello } }\n");
    let from = (
        "Referer",
        "https://a.example/cb?code=LEAK&page=2&token=LEAK#top",
    );
    Client::to(proxy.port).request("GET", "/a", &[from], b"");
    let all = eventually("a line", || {
        Some(lines(dir.path(), "access.log")).filter(|l| l.len() == 1)
    });
    let expected = "\"https://a.example/cb?code=***&page=2&token=***";
    assert!(
        all[0].contains(expected) && !all[0].contains("LEAK"),
        "{}",
        all[0]
    );
}

#[test]
fn the_common_log_format_has_two_fields_less() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = with_format(dir.path(), "clf")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200, body: hello } }\n");
    Client::to(proxy.port).get("/a");
    let all = eventually("a line", || {
        Some(lines(dir.path(), "access.log")).filter(|l| l.len() == 1)
    });
    let expected =
        Regex::new(r#"^127\.0\.0\.1 - - \[[^]]+ \+0000\] "GET /a HTTP/1\.1" 200 5$"#).unwrap();
    assert!(expected.is_match(&all[0]), "{}", all[0]);
}

#[test]
fn a_line_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let format = "'{client.address} \"{http.request.method} {url.path}\" {http.response.status_code} {http.request.header.x-tenant} {outcomes}'";
    let origin = Origin::new(|r| match r.number {
        0 => Reply::status(500),
        _ => Reply::ok("fine"),
    });
    let rules = "retry: { tries: 2, wait: 1ms }";
    let proxy = with_format(dir.path(), format).start(&one_route(&[origin.port], rules));
    Client::to(proxy.port).request("GET", "/a%22b?c", &[("X-Tenant", "one \"two\"")], b"");
    let all = eventually("a line", || {
        Some(lines(dir.path(), "access.log")).filter(|l| l.len() == 1)
    });
    let expected = "127.0.0.1 \"GET /a%22b\" 200 one \\x22two\\x22 status 500, ok";
    assert_eq!(all, [expected]);
}
