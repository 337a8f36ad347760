//! `timeouts`, as written.
//!
//! What a route leaves out comes from `defaults`, and what those leave out from the policy's own defaults.

use super::duration::PositiveSpan;
use crate::policy::timeouts::Timeouts;
use serde::{Deserialize, Serialize};

/// `timeouts`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { connect: 2s, total: 60s }"
)]
pub(crate) struct TimeoutsSpec {
    connect: Option<PositiveSpan>,
    first_byte: Option<PositiveSpan>,
    idle: Option<PositiveSpan>,
    total: Option<PositiveSpan>,
    websocket: Option<PositiveSpan>,
}

impl TimeoutsSpec {
    /// What is said here, and what `base` says where this says nothing.
    pub(crate) fn over(&self, base: &TimeoutsSpec) -> TimeoutsSpec {
        TimeoutsSpec {
            connect: self.connect.or(base.connect),
            first_byte: self.first_byte.or(base.first_byte),
            idle: self.idle.or(base.idle),
            total: self.total.or(base.total),
            websocket: self.websocket.or(base.websocket),
        }
    }

    /// Every key filled in.
    pub(crate) fn filled(&self) -> TimeoutsSpec {
        let Timeouts {
            connect,
            first_byte,
            idle,
            total,
            websocket,
        } = Timeouts::default();
        self.over(&TimeoutsSpec {
            connect: Some(PositiveSpan(connect)),
            first_byte: Some(PositiveSpan(first_byte)),
            idle: Some(PositiveSpan(idle)),
            total: Some(PositiveSpan(total)),
            websocket: Some(PositiveSpan(websocket)),
        })
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self) -> Timeouts {
        let default = Timeouts::default();
        let or = |span: Option<PositiveSpan>, default| span.map_or(default, |span| span.0);
        Timeouts {
            connect: or(self.connect, default.connect),
            first_byte: or(self.first_byte, default.first_byte),
            idle: or(self.idle, default.idle),
            total: or(self.total, default.total),
            websocket: or(self.websocket, default.websocket),
        }
    }
}
