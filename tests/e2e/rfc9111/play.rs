//! Plays cases against a proxy: one process and one origin for a whole table, every case on a path of its own.
//!
//! All failures of a table are told at once.

use super::case::{Ask, Case, Source, Step, Vars};
use super::judge::{Seen, faults};
use super::parse;
use super::script::{Board, Heard, Said};
use crate::client::Client;
use crate::harness::Proxy;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Cases under way at once. Some wait for a second to pass.
const LANES: usize = 6;
/// How long `eventually` goes on, and how long a request in the background may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// How soon what happens at once has happened.
const SOON: Duration = Duration::from_millis(200);

/// The upstreams document: each kind of route by the first segment of the path.
fn routes(port: u16) -> String {
    let mut text = format!("upstreams:\n  pool: {{ backends: [127.0.0.1:{port}] }}\nroutes:\n");
    for (name, more) in [
        ("origin", ""),
        ("sie", ", stale_if_error: 1h"),
        ("swr", ", stale_while_revalidate: 1h"),
    ] {
        text.push_str(&format!(
            "  - name: {name}\n    match: {{ path: /{name}/ }}\n    upstream: pool\n    retry: {{ tries: 1 }}\n    \
             cache: {{ respect_origin: true{more} }}\n"
        ));
    }
    text
}

/// Plays a table; fails with a list of what was not as it must be.
pub(super) fn run(table: &str) {
    let cases = parse::cases(table);
    let board = Board::default();
    let origin = board.origin();
    let proxy = Proxy::start(&routes(origin.port));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((number, case)) = take(&cases, &next) {
                    let player = Player::new(&board, proxy.port, number, case);
                    if let Err(fault) = player.play() {
                        let what = format!("{} {}\n    {fault}", case.section, case.title);
                        failures.lock().expect("failures").push((number, what));
                    }
                }
            });
        }
    });
    drop(proxy);
    let mut failures = failures.into_inner().expect("failures");
    failures.sort();
    let list: Vec<String> = failures.into_iter().map(|(_, what)| what).collect();
    assert!(
        list.is_empty(),
        "{} of {} cases failed:\n{}",
        list.len(),
        cases.len(),
        list.join("\n")
    );
}

fn take<'a>(cases: &'a [Case], next: &AtomicUsize) -> Option<(usize, &'a Case)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    cases.get(number).map(|case| (number, case))
}

struct Player<'a> {
    board: &'a Board,
    port: u16,
    number: usize,
    case: &'a Case,
    vars: Vars,
}

impl<'a> Player<'a> {
    fn new(board: &'a Board, port: u16, number: usize, case: &'a Case) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Player {
            board,
            port,
            number,
            case,
            vars: Vars {
                now: now.expect("after 1970").as_secs(),
                path: format!("/{}/{number}", case.route),
            },
        }
    }

    /// The first fault, with the step it is in.
    fn play(&self) -> Result<(), String> {
        // What the origin said in each step, and the step whose answer a hit is to be.
        let mut said: Vec<Option<Said>> = Vec::new();
        let mut newest = 0;
        for (number, step) in self.case.steps.iter().enumerate() {
            let stored = said.get(step.want.of.unwrap_or(newest)).cloned().flatten();
            let deadline = Instant::now() + PATIENCE;
            let heard = loop {
                self.board
                    .set(self.number, number, &step.script, &self.vars);
                let seen = self.see(step);
                let faults = faults(step, &seen, stored.as_ref(), &self.vars);
                if faults.is_empty() {
                    break seen.heard;
                }
                if !step.ask.eventually || Instant::now() > deadline {
                    return Err(format!("step {number}: {}", faults.join("; ")));
                }
                thread::park_timeout(Duration::from_millis(20));
            };
            let last = heard.said.last().cloned();
            let good = last
                .as_ref()
                .is_some_and(|s| (200..300).contains(&s.status));
            let may = !matches!(step.want.source, Source::StandsIn | Source::Error);
            let stored = step.want.stored;
            if step.ask.method == "GET" && stored.unwrap_or(good && may) {
                newest = number;
            }
            said.push(last);
        }
        Ok(())
    }

    fn see(&self, step: &Step) -> Seen {
        let target = if step.ask.suffix.contains("://") {
            self.vars.fill(&step.ask.suffix)
        } else {
            format!("{}{}", self.vars.path, step.ask.suffix)
        };
        let clients = step.ask.together.max(1);
        let begun = (0..clients).map(|_| self.begin(&step.ask, &target));
        let begun: Vec<_> = begun.collect();
        let answers = begun.into_iter().map(|client| {
            let answer = client.and_then(|mut c| c.try_answer_to(&step.ask.method));
            answer.map_err(|e| format!("no answer: {e}"))
        });
        Seen {
            answers: answers.collect(),
            heard: self.hear(step),
        }
    }

    /// Sends the request.
    fn begin(&self, ask: &Ask, target: &str) -> std::io::Result<Client> {
        let mut text = format!("{} {target} HTTP/1.1\r\n", ask.method);
        let fields = self.vars.fill_all(&ask.fields);
        if !fields.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            text.push_str("Host: example.com\r\n");
        }
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let content = match ask.method.as_str() {
            "POST" | "PUT" | "PATCH" => "content",
            _ => "",
        };
        if !content.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", content.len()));
        }
        text.push_str(&format!("\r\n{content}"));
        let mut client = Client::try_to(self.port)?;
        client.try_send(text)?;
        Ok(client)
    }

    /// What the origin heard. Where it is to be asked behind the client's back, that may come a little later; and where
    /// by one of many, only time tells that nobody else asks.
    fn hear(&self, step: &Step) -> Heard {
        if step.want.source != Source::Background {
            return self.board.heard(self.number);
        }
        let patience = if step.ask.eventually { SOON } else { PATIENCE };
        let deadline = Instant::now() + patience;
        while self.board.heard(self.number).said.is_empty() && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(4));
        }
        if step.ask.together > 1 {
            thread::park_timeout(SOON);
        }
        self.board.heard(self.number)
    }
}
