//! Chromium without a window, told what to do over WebDriver (W3C) by chromedriver, both of Debian.

use crate::client::request;
use crate::harness::{eventually, free_port};
use crate::program::Program;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One window. Dropping it ends the browser. There is one at a time: several starting at once take longer than their driver waits.
pub(crate) struct Browser {
    port: u16,
    session: String,
    _driver: Program,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    /// `None` where it is not installed: then the test is over.
    pub(crate) fn start() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let port = free_port();
        let driver = Program::start("/usr/bin/chromedriver", &[&format!("--port={port}")])?;
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        eventually("chromedriver listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let begun = ask(port, "POST", "/session", &wanted);
        let session = begun["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {begun}"));
        Some(Browser {
            port,
            session: session.to_string(),
            _driver: driver,
            _alone: alone,
        })
    }

    fn tell(&self, method: &str, what: &str, body: &Value) -> Value {
        ask(
            self.port,
            method,
            &format!("/session/{}{what}", self.session),
            body,
        )
    }

    /// Goes there, and waits until it is loaded.
    pub(crate) fn open(&self, url: &str) {
        self.tell("POST", "/url", &json!({ "url": url }));
    }

    /// What a function with this body returns there.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.tell(
            "POST",
            "/execute/sync",
            &json!({ "script": script, "args": [] }),
        )
    }

    /// What it promises.
    pub(crate) fn promised(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; ({script}).then(done, (e) => done(String(e)));"
        );
        self.tell(
            "POST",
            "/execute/async",
            &json!({ "script": script, "args": [] }),
        )
    }

    /// Makes the page as wide and high as that, whatever a window's least width is, and light or dark.
    pub(crate) fn look(&self, width: u32, height: u32, scheme: &str) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.develop("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.develop("Emulation.setEmulatedMedia", &scheme);
    }

    fn develop(&self, command: &str, parameters: &Value) -> Value {
        self.tell(
            "POST",
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        )
    }

    /// Sees all later pages without a script.
    pub(crate) fn without_scripts(&self) {
        self.develop(
            "Emulation.setScriptExecutionDisabled",
            &json!({ "value": true }),
        );
    }

    /// A picture of the whole page, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        use base64::Engine;
        let taken = self.develop(
            "Page.captureScreenshot",
            &json!({ "captureBeyondViewport": true }),
        );
        let text = taken["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("a picture")
    }

    /// What it said on its console since the last time.
    pub(crate) fn console(&self) -> Vec<String> {
        let lines = self.tell("POST", "/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().expect("lines").iter();
        lines.map(|line| line["message"].to_string()).collect()
    }

    /// What axe-core has against the page, a line for each; `None` where it was not fetched (`.ci/axe`).
    pub(crate) fn violations(&self) -> Option<Vec<String>> {
        let axe = axe()?;
        self.run(&std::fs::read_to_string(axe).expect("axe-core"));
        let found = self.promised("axe.run()");
        let violations = found["violations"]
            .as_array()
            .unwrap_or_else(|| panic!("{found}"));
        assert!(
            found["passes"]
                .as_array()
                .is_some_and(|passes| passes.len() > 10),
            "{found}"
        );
        let line = |v: &Value| format!("{}: {} {}", v["id"], v["help"], v["nodes"][0]["html"]);
        Some(violations.iter().map(line).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver would leave it behind.
        if !std::thread::panicking() {
            self.tell("DELETE", "", &Value::Null);
        } else {
            let path = format!("/session/{}", self.session);
            let _ = std::panic::catch_unwind(|| request(self.port, "DELETE", &path, &[], b""));
        }
    }
}

fn axe() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let files = std::fs::read_dir(directory).ok()?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    let found = paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("axe-core-") && name.ends_with(".js")
    });
    if found.is_none() {
        eprintln!(
            "axe-core is not there (.ci/axe fetches it): nobody judged whether everybody can use the page"
        );
    }
    found
}

/// The value that it answers.
fn ask(port: u16, method: &str, path: &str, body: &Value) -> Value {
    let host = format!("127.0.0.1:{port}");
    let fields = [
        ("Host", host.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let answer = request(port, method, path, &fields, &body);
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer.status, 200, "{path}: {told}");
    told["value"].clone()
}
