//! How long each part of a request may take, and which limit a deadline belongs to.
//!
//! Decides deadlines only; the clock is the caller's. `proxy/` arms them, `policy::retry` judges what follows when one passes.

use std::time::Duration;

/// The limits of a route. All are greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening a connection to a backend.
    pub connect: Duration,
    /// From the request having a connection to the first byte of the response head, for one try.
    pub first_byte: Duration,
    /// Between two pieces of a response body, and between two writes of a request body.
    pub idle: Duration,
    /// All tries and waits together, from the request head to the last byte of the response.
    pub total: Duration,
    /// How long a WebSocket may be silent, both ways; the others do not concern it once it is one.
    pub websocket: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(20),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(60),
            websocket: Duration::from_secs(3600),
        }
    }
}

/// Which limit a deadline stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Timeouts::connect`]
    Connect,
    /// [`Timeouts::first_byte`]
    FirstByte,
    /// [`Timeouts::idle`]
    Idle,
    /// [`Timeouts::total`]
    Total,
}

impl Limit {
    /// The configuration's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Limit::Connect => "connect",
            Limit::FirstByte => "first_byte",
            Limit::Idle => "idle",
            Limit::Total => "total",
        }
    }
}

/// What a request is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A connection to a backend.
    Connecting,
    /// The response head.
    AwaitingHead,
    /// More of the response body.
    AwaitingBody,
}

impl Timeouts {
    /// When a wait that begins `elapsed` after the request did has to end, counted from the request's start, and which
    /// limit ends it: the phase's own, or `total` where that comes first.
    pub fn deadline(&self, phase: Phase, elapsed: Duration) -> (Duration, Limit) {
        let (span, limit) = match phase {
            Phase::Connecting => (self.connect, Limit::Connect),
            Phase::AwaitingHead => (self.first_byte, Limit::FirstByte),
            Phase::AwaitingBody => (self.idle, Limit::Idle),
        };
        let own = elapsed.saturating_add(span);
        if own < self.total {
            (own, limit)
        } else {
            (self.total, Limit::Total)
        }
    }

    /// What is left of `total`.
    pub fn left(&self, elapsed: Duration) -> Duration {
        self.total.saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_of_phase_and_total_ends_a_wait() {
        let t = Timeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(20),
            idle: Duration::from_secs(5),
            total: Duration::from_secs(30),
            ..Timeouts::default()
        };
        let s = Duration::from_secs;
        for (phase, elapsed, expected) in [
            (Phase::Connecting, 0, (s(2), Limit::Connect)),
            (Phase::Connecting, 29, (s(30), Limit::Total)),
            (Phase::AwaitingHead, 1, (s(21), Limit::FirstByte)),
            (Phase::AwaitingHead, 10, (s(30), Limit::Total)),
            (Phase::AwaitingBody, 20, (s(25), Limit::Idle)),
            (Phase::AwaitingBody, 26, (s(30), Limit::Total)),
            (Phase::AwaitingBody, 40, (s(30), Limit::Total)),
        ] {
            assert_eq!(
                t.deadline(phase, s(elapsed)),
                expected,
                "{phase:?} at {elapsed} s"
            );
        }
        assert_eq!(t.left(s(31)), Duration::ZERO);
    }
}
