//! Lines that are not written out yet: what requests leave for them, until there are enough to be written in one go.
//!
//! The code that writes a line is not in the processor's cache of instructions any more when the next request ends, and costs more
//! to fetch than to run. It is fetched once for all that pend. Where nobody needs the request any more, that pends as a whole;
//! else no more than a copy of what its line has: the texts one after the other, without what surrounds them in the log.

use super::access_log::{Line, Summary, TryLine, TrySummary, Untold};
use crate::policy::redact::Redaction;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// So many lines are written at once: enough that each has only a small share of what it takes to begin, and few enough that they
/// are still at hand.
const LINES: usize = 32;
/// So many are requests as a whole: the next ones cannot have the memory that those were served in, which is at hand.
const WHOLE: usize = 16;
/// And no more once their texts have so many bytes.
const TEXTS: usize = 32 * 1024;

/// Lines, in order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    lines: Vec<Entry>,
    tries: Vec<Attempt>,
    /// All texts of all lines, in the order in which [`Pending::write`] reads them.
    text: String,
    /// Names of programs, which may be no text.
    agents: Vec<u8>,
    /// Requests as a whole, each after so many of the lines; how many bytes their texts have.
    untold: Vec<(usize, Box<dyn Untold>)>,
    held: usize,
}

/// How long a text is; `None` where there is none.
type Length = Option<usize>;

/// A line.
#[derive(Debug)]
struct Entry {
    summary: Summary,
    identity: Length,
    request_id: usize,
    method: usize,
    host: usize,
    path: usize,
    cipher: Length,
    user_agent: Length,
    route: Length,
    upstream: Length,
    tries: usize,
}

/// One of its tries.
#[derive(Debug)]
struct Attempt {
    backend: usize,
    summary: TrySummary,
}

impl Pending {
    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len() + self.untold.len()
    }

    /// Whether they are to be written before there is another one.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= LINES
            || self.untold.len() >= WHOLE
            || self.text.len() + self.agents.len() + self.held >= TEXTS
    }

    /// One more, of a request as a whole.
    pub(super) fn keep(&mut self, untold: Box<dyn Untold>) {
        self.held += untold.bytes();
        self.untold.push((self.lines.len(), untold));
    }

    /// One more: all of it but for what no log has, and for [`Line::more`].
    pub(super) fn push(&mut self, line: &Line<'_>) {
        // In the order of `write`.
        let mut put = |text: &str| {
            self.text.push_str(text);
            text.len()
        };
        let entry = Entry {
            summary: line.summary,
            identity: line.identity.as_deref().map(&mut put),
            request_id: put(line.request_id),
            method: put(line.method),
            host: put(line.host),
            path: put(&line.path),
            cipher: line.cipher.map(&mut put),
            route: line.route.map(&mut put),
            upstream: line.upstream.map(&mut put),
            user_agent: line.user_agent.map(|agent| {
                self.agents.extend_from_slice(agent);
                agent.len()
            }),
            tries: line.tries.len(),
        };
        for one in &line.tries {
            self.tries.push(Attempt {
                backend: put(one.backend),
                summary: one.summary,
            });
        }
        self.lines.push(entry);
    }

    /// Hands each to `write`, which appends it to `out`, and forgets them. What a panic leaves of one is taken back, and it is lost;
    /// says how many were.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        (redaction, claim): &(Arc<Redaction>, Arc<str>),
        write: impl Fn(&mut Vec<u8>, &Line<'_>),
    ) -> u64 {
        let mut lost = 0;
        let mut put = |write: &dyn Fn(&mut Vec<u8>)| {
            let before = out.len();
            if catch_unwind(AssertUnwindSafe(|| write(out))).is_err() {
                out.truncate(before);
                lost += 1;
            }
        };
        let tell = |out: &mut Vec<u8>, one: &dyn Untold| write(out, &one.line(redaction, claim));
        let mut untold = self.untold.drain(..).peekable();
        let (mut text, mut agents) = (self.text.as_str(), self.agents.as_slice());
        let mut attempts = self.tries.iter();
        let mut line = Line::default();
        for (number, entry) in self.lines.iter().enumerate() {
            while let Some((_, one)) = untold.next_if(|(after, _)| *after <= number) {
                put(&|out| tell(out, &*one));
            }
            // What was counted is there; were it not, a text would be cut short.
            let mut take = |length: usize| {
                let (taken, rest) = text.split_at_checked(length).unwrap_or((text, ""));
                text = rest;
                taken
            };
            line.summary = entry.summary;
            line.identity = entry.identity.map(|length| take(length).to_owned());
            line.request_id = take(entry.request_id);
            line.method = take(entry.method);
            line.host = take(entry.host);
            line.path = take(entry.path).into();
            line.cipher = entry.cipher.map(&mut take);
            line.route = entry.route.map(&mut take);
            line.upstream = entry.upstream.map(&mut take);
            line.tries.clear();
            let tries = attempts.by_ref().take(entry.tries);
            line.tries.extend(tries.map(|one| TryLine {
                backend: take(one.backend),
                summary: one.summary,
            }));
            line.user_agent = entry.user_agent.map(|length| {
                let (agent, rest) = agents.split_at_checked(length).unwrap_or((agents, &[]));
                agents = rest;
                agent
            });
            put(&|out| write(out, &line));
        }
        for (_, one) in untold {
            put(&|out| tell(out, &*one));
        }
        drop(line);
        self.held = 0;
        self.lines.clear();
        self.tries.clear();
        self.text.clear();
        self.agents.clear();
        // What was unusually long leaves no more room than that.
        self.text.shrink_to(2 * TEXTS);
        self.agents.shrink_to(2 * TEXTS);
        self.tries.shrink_to(4 * LINES);
        lost
    }
}
