//! Certificates fetched from an authority: Pebble, the one that Let's Encrypt tests clients with, as Debian has it.

use crate::admin::with_admin;
use crate::client::get;
use crate::client_tls::{Authority, Tls};
use crate::harness::{Proxy, Setup, eventually, free_port, until};
use crate::observe::{metrics, value};
use crate::program::Program;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ANSWER: &str =
    "routes:\n  - { match: { path: / }, respond: { status: 200, body: \"from within\" } }\n";

/// Where an authority will be, and where it looks for proofs.
struct Pebble {
    dir: tempfile::TempDir,
    port: u16,
    management: u16,
    own: Authority,
    proofs: (u16, u16),
}

/// One that runs.
struct Running {
    _authority: Program,
    _names: Program,
}

impl Pebble {
    /// One that looks for proofs on these ports, in clear text and by TLS.
    fn new(proofs: (u16, u16)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = Authority::new();
        own.write(&dir.path().join("ca.pem"));
        Pebble {
            dir,
            port: free_port(),
            management: free_port(),
            own,
            proofs,
        }
    }

    /// The section of the configuration.
    fn yaml(&self, more: &str) -> String {
        format!(
            "{{ path: {dir}/acme, contact: ops@example.com, directory: \"https://127.0.0.1:{}/dir\", ca: {dir}/ca.pem{more} }}",
            self.port,
            dir = self.dir.path().display()
        )
    }

    fn start(&self) -> Option<Running> {
        let pair = self.own.sign(self.dir.path(), "pebble", &["127.0.0.1"]);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": pair.cert,
            "privateKey": pair.key,
            "httpPort": self.proofs.0,
            "tlsPort": self.proofs.1,
        }});
        let file = self.dir.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        // Every name is this machine.
        let dns = format!("127.0.0.1:{}", free_port());
        let of_names = free_port();
        let names = Program::start(
            "/usr/bin/pebble-challtestsrv",
            &[
                "-dns01",
                &dns,
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-defaultIPv6",
                "",
                "-management",
                &format!("127.0.0.1:{of_names}"),
            ],
        )?;
        let authority = Program::start(
            "/usr/bin/pebble",
            &["-config", file.to_str().unwrap(), "-dnsserver", &dns],
        )?;
        for port in [of_names, self.management, self.port] {
            until("the authority listens", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        Some(Running {
            _authority: authority,
            _names: names,
        })
    }

    /// A client that believes it.
    fn client(&self) -> Tls {
        let mut management = self
            .own
            .client()
            .to(self.management, "127.0.0.1")
            .expect("its management");
        Tls::believing(&management.get("/roots/0").expect("its root").body)
    }

    /// What was fetched, for the certificate of this name.
    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("acme").join(format!("{name}.pem"))
    }
}

fn fetching(names: &str) -> String {
    format!("tls: {{ certificates: [{{ acme: [{names}] }}] }}")
}

/// A process that sends who comes in clear text to TLS, and fetches the certificate for that.
fn in_clear(pebble: &Pebble, plain: u16, tls: u16, names: &str) -> Setup {
    let second = format!("{{ address: \"127.0.0.1:{tls}\", {} }}", fetching(names));
    Proxy::with()
        .port(plain)
        .listener("redirect_to_https: true, deny: [127.0.0.0/8]")
        .and_listener(&second)
        .key("acme", &pebble.yaml(""))
}

#[test]
fn a_certificate_is_fetched_and_kept_over_a_restart() {
    let (plain, tls) = (free_port(), free_port());
    let pebble = Pebble::new((plain, tls));
    let setup = in_clear(&pebble, plain, tls, "site.example.test, www.example.test");
    let proxy = setup.clone().start(ANSWER);
    // The authority is not there yet: it is served all the same, with a certificate that nobody believes.
    proxy.said("no certificate for site.example.test, www.example.test could be fetched");
    let refused = pebble.own.client().to(tls, "site.example.test");
    let refused = refused.err().expect("nobody believes it").to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let Some(_running) = pebble.start() else {
        return;
    };
    proxy.reload_with(ANSWER);
    proxy.said("there is a new certificate for site.example.test, www.example.test");
    let client = pebble.client();
    let mut connection = eventually("its certificate is shown", || {
        client.to(tls, "site.example.test").ok()
    });
    assert_eq!(connection.get("/").unwrap().text(), "from within");
    let shown = connection.shown();
    assert_eq!(client.to(tls, "www.example.test").unwrap().shown(), shown);
    // A proof is there only while it is asked for, and nobody else comes in.
    let path = "/.well-known/acme-challenge/x";
    assert_eq!(get(proxy.port, path).status, 403);
    for file in std::fs::read_dir(pebble.dir.path().join("acme")).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
    drop(proxy);
    let proxy = setup.start(ANSWER);
    let connection = client.to(tls, "site.example.test").unwrap();
    assert_eq!(connection.shown(), shown);
    // What is due at a start is fetched before anybody can ask for a reload.
    proxy.reload_with(ANSWER);
    assert_eq!(proxy.count_said("fetching"), 0);
}

#[test]
fn a_handshake_proves_a_name_too() {
    let port = free_port();
    let pebble = Pebble::new((free_port(), port));
    let Some(_running) = pebble.start() else {
        return;
    };
    let proxy = Proxy::with()
        .port(port)
        .http2()
        .listener(&fetching("One.example.test, two.example.test"))
        .key("acme", &pebble.yaml(""))
        .start(ANSWER);
    proxy.said("there is a new certificate for one.example.test, two.example.test");
    let client = pebble.client();
    for host in ["one.example.test", "two.example.test"] {
        let offering = client.clone().offering(&["h2", "http/1.1"]);
        let connection = eventually("its certificate is shown", || offering.to(port, host).ok());
        assert_eq!(connection.protocol().as_deref(), Some("h2"));
    }
    let mut connection = client.to(port, "one.example.test").unwrap();
    assert_eq!(connection.get("/").unwrap().text(), "from within");
    // Without a proof to show there is no handshake of that kind.
    let asks = client.offering(&["acme-tls/1"]);
    assert!(asks.to(port, "one.example.test").is_err());
}

#[test]
fn what_ends_soon_or_is_for_other_names_is_fetched_anew() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for (names, left, is_due) in [
        (&["site.example.test"][..], 10 * DAY, true),
        (&["old.example.test"], 50 * DAY, true),
        (&["more.example.test", "site.example.test"], 50 * DAY, false),
    ] {
        let port = free_port();
        let pebble = Pebble::new((free_port(), port));
        let Some(_running) = pebble.start() else {
            return;
        };
        let own = Authority::new();
        let before = own.sign_for(pebble.dir.path(), "before", names, left);
        let both = [&before.key, &before.cert].map(|file| std::fs::read_to_string(file).unwrap());
        let file = pebble.file("site.example.test");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, both.concat()).unwrap();
        // One more, which is fetched last: then it is known what became of the first.
        let certificates =
            "tls: { certificates: [{ acme: [site.example.test] }, { acme: [last.example.test] }] }";
        let proxy = Proxy::with()
            .port(port)
            .listener(certificates)
            .key("acme", &pebble.yaml(", challenge: tls-alpn-01"))
            .start(ANSWER);
        proxy.said("there is a new certificate for last.example.test");
        let fetched = proxy.count_said("there is a new certificate for site.example.test") == 1;
        assert_eq!(fetched, is_due, "{names:?}");
        let client = match is_due {
            true => pebble.client(),
            false => own.client(),
        };
        until("it is shown", || {
            client.to(port, "site.example.test").is_ok()
        });
    }
}

/// Another one is shown, as long as there is one, for what is still to be fetched; and what is spoiled is fetched anew.
#[test]
fn what_stands_in_comes_last() {
    let port = free_port();
    let pebble = Pebble::new((free_port(), port));
    let own = Authority::new();
    let wild = own.sign(pebble.dir.path(), "wild", &["*.example.test"]);
    let file = pebble.file("site.example.test");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "spoiled").unwrap();
    let certificates = format!(
        "tls: {{ certificates: [{{ acme: [site.example.test] }}, {}] }}",
        wild.yaml()
    );
    let (setup, admin) = with_admin();
    let proxy = setup
        .port(port)
        .listener(&certificates)
        .key("acme", &pebble.yaml(""))
        .start(ANSWER);
    for host in ["site.example.test", "other.example.test"] {
        assert_eq!(own.client().to(port, host).unwrap().shown(), wild.der());
    }
    // Whoever watches the ends of certificates is told.
    let series = format!(
        "backstop_certificate_expiry_timestamp_seconds{{file=\"{}\"}}",
        file.display()
    );
    let left = || {
        let end = value(&metrics(admin), &series).expect("its end");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        end - now.as_secs_f64()
    };
    assert!(left() <= 0.0);
    let Some(_running) = pebble.start() else {
        return;
    };
    proxy.said("no certificate for site.example.test could be fetched");
    proxy.reload_with(ANSWER);
    proxy.said("there is a new certificate for site.example.test");
    let client = pebble.client();
    until("it is shown", || {
        client.to(port, "site.example.test").is_ok()
    });
    assert_eq!(
        own.client().to(port, "other.example.test").unwrap().shown(),
        wild.der()
    );
}

/// An authority that was set up anew knows nobody.
#[test]
fn who_is_forgotten_makes_another_account() {
    let port = free_port();
    let pebble = Pebble::new((free_port(), port));
    let fetching_for = |name: &str| {
        Proxy::with()
            .port(port)
            .listener(&fetching(name))
            .key("acme", &pebble.yaml(", challenge: tls-alpn-01"))
            .start(ANSWER)
    };
    let Some(running) = pebble.start() else {
        return;
    };
    let proxy = fetching_for("one.example.test");
    proxy.said("there is a new certificate for one.example.test");
    drop((proxy, running));
    let _running = pebble.start();
    let proxy = fetching_for("two.example.test");
    let said = proxy.said("no certificate for two.example.test could be fetched");
    assert!(said.contains("account"), "{said}");
    proxy.reload_with(ANSWER);
    proxy.said("there is a new certificate for two.example.test");
    let client = pebble.client();
    until("it is shown", || {
        client.to(port, "two.example.test").is_ok()
    });
}

#[test]
fn what_cannot_be_proved_is_said_and_tried_again() {
    let (plain, tls) = (free_port(), free_port());
    // It looks elsewhere.
    let pebble = Pebble::new((free_port(), free_port()));
    let Some(_running) = pebble.start() else {
        return;
    };
    let proxy = in_clear(&pebble, plain, tls, "site.example.test").start(ANSWER);
    let said = proxy.said("no certificate for site.example.test could be fetched");
    assert!(
        said.contains("site.example.test could not be proved"),
        "{said}"
    );
    assert!(said.contains("connection refused"), "{said}");
    proxy.said("it is tried again in");
    assert!(!pebble.file("site.example.test").exists());
    proxy.reload_with(ANSWER);
    until("it was tried again", || {
        proxy.count_said("could be fetched") == 2
    });
    // Not each time: authorities count. Nor by a process that starts again.
    let failed = pebble.file("site.example.test").with_extension("failed");
    assert_eq!(std::fs::read_to_string(failed).unwrap(), "2");
    proxy.reload_with(ANSWER);
    drop(proxy);
    let proxy = in_clear(&pebble, plain, tls, "site.example.test").start(ANSWER);
    proxy.reload_with(ANSWER);
    assert_eq!(proxy.count_said("fetching"), 0);
}
