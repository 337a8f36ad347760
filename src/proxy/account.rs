//! What is left of a request that ended, for its line in the log.
//!
//! To make the line takes more code than to serve a small answer. Where nothing else needs the request any more, it is handed to
//! [`crate::observe::access_log`] as it is: the lines of some are made and written in one go.

use super::client::Client;
use super::ctx::Ctx;
use super::record::{self, Finish};
use crate::observe::access_log::{Line, Untold};
use crate::policy::redact::Redaction;
use crate::server::stream::ClientStream;
use http::StatusCode;
use pingora::http::RequestHeader;
use std::fmt;
use std::time::Duration;

/// How it looked to its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The final status, if there was one, and how many bytes of a body.
    pub(super) sent: (Option<StatusCode>, usize),
    /// Bytes of its own body that came.
    pub(super) received: usize,
    /// From the end of what was before on the connection to its first byte.
    pub(super) idle: Option<Duration>,
}

impl Seen {
    /// By this client.
    pub(super) fn by(client: &dyn Client, ctx: &Ctx) -> Self {
        Seen {
            sent: record::sent(client, ctx),
            received: client.body_bytes_read(),
            idle: client.stream().and_then(ClientStream::idle),
        }
    }
}

/// A line that there is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// When its request ended.
    pub(super) finish: Finish,
    /// The share of such requests of which there are lines, where that is not all.
    pub(super) sample: Option<f64>,
}

/// A request that ended.
pub(super) struct Account {
    head: Box<RequestHeader>,
    head_bytes: usize,
    ctx: Box<Ctx>,
    seen: Seen,
    due: Due,
}

impl Account {
    /// Of a request of which a line is due. `head`: its head, and how many bytes that had.
    pub(super) fn new(
        (head, head_bytes): (Box<RequestHeader>, usize),
        mut ctx: Box<Ctx>,
        (seen, due): (Seen, Due),
    ) -> Self {
        ctx.let_go();
        Account {
            head,
            head_bytes,
            ctx,
            seen,
            due,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut account = f.debug_struct("Account");
        let account = account.field("seen", &self.seen).field("due", &self.due);
        account.finish_non_exhaustive()
    }
}

impl Untold for Account {
    fn line(&self, redaction: &Redaction, claim: &str) -> Line<'_> {
        let Due { finish, sample } = self.due;
        let rules = (redaction, claim);
        let mut line = record::plain(&self.head, &self.ctx, (self.seen, finish), rules);
        line.summary.sample = sample;
        line
    }

    fn bytes(&self) -> usize {
        self.head_bytes
    }
}
