//! The pages that an operator has for answers of our own: which one is for which status, and what is filled in.

use super::{Told, html, json, reason};
use http::{HeaderValue, StatusCode};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

/// What kind of file a page is, by how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.html`
    Html,
    /// `.json`
    Json,
    /// `.txt`
    Text,
}

impl Kind {
    /// By the name of a file; `None` for any other.
    pub fn of(name: &str) -> Option<Kind> {
        let (stem, ending) = name.rsplit_once('.')?;
        let is_hidden = stem.is_empty() || stem.ends_with('/');
        match ending {
            _ if is_hidden => None,
            "html" => Some(Kind::Html),
            "json" => Some(Kind::Json),
            "txt" => Some(Kind::Text),
            _ => None,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Kind::Html => "text/html; charset=utf-8",
            Kind::Json => "application/json",
            Kind::Text => "text/plain; charset=utf-8",
        }
    }

    fn escaped(self, text: &str) -> Cow<'_, str> {
        match self {
            Kind::Html => html(text),
            Kind::Json => json(text),
            Kind::Text => Cow::Borrowed(text),
        }
    }
}

/// A page of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    kind: Kind,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Arc<[u8]>),
    Status,
    Reason,
    RequestId,
}

/// What a page may name. Every other brace stands for itself: style sheets and JSON are full of them.
pub(super) const VARIABLES: [(&str, Piece); 3] = [
    ("{status}", Piece::Status),
    ("{reason}", Piece::Reason),
    ("{request_id}", Piece::RequestId),
];

/// The body that a page makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageBody {
    /// The same for every request.
    Shared(Arc<[u8]>),
    /// Made for this one.
    Made(String),
}

impl Page {
    /// Reads a page.
    pub fn parse(kind: Kind, text: &str) -> Page {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            let named = VARIABLES
                .iter()
                .find(|(written, _)| from.starts_with(written));
            let Some((written, piece)) = named else {
                literal.push('{');
                rest = &from[1..];
                continue;
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(
                    std::mem::take(&mut literal).into_bytes().into(),
                ));
            }
            pieces.push(piece.clone());
            rest = &from[written.len()..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into_bytes().into()));
        }
        Page { kind, pieces }
    }

    /// Its `Content-Type`.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(self.kind.content_type())
    }

    /// Its body for one request, what is filled in escaped as its kind needs it.
    pub fn body(&self, told: &Told<'_>) -> PageBody {
        match &self.pieces[..] {
            [] => PageBody::Made(String::new()),
            [Piece::Literal(all)] => PageBody::Shared(all.clone()),
            pieces => PageBody::Made(self.filled(pieces, told)),
        }
    }

    fn filled(&self, pieces: &[Piece], told: &Told<'_>) -> String {
        let lengths = pieces.iter().map(|piece| match piece {
            Piece::Literal(bytes) => bytes.len(),
            _ => told.request_id.len(),
        });
        let mut out = String::with_capacity(lengths.sum::<usize>() + 32);
        for piece in pieces {
            match piece {
                // It was text when it was read.
                Piece::Literal(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
                Piece::Status => {
                    // Writing to a `String` cannot fail.
                    let _ = write!(out, "{}", told.status.as_u16());
                }
                Piece::Reason => out.push_str(&self.kind.escaped(reason(told.status))),
                Piece::RequestId => out.push_str(&self.kind.escaped(told.request_id)),
            }
        }
        out
    }
}

/// Which answers a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageFor {
    /// Those with this status.
    Status(u16),
    /// Those with one from so many hundreds on: 4 or 5.
    Class(u16),
}

/// The pages of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorPages(pub Vec<(PageFor, Arc<Page>)>);

impl ErrorPages {
    /// The page for an answer with this status: its own before that of its class.
    pub fn find(&self, status: StatusCode) -> Option<&Page> {
        let status = status.as_u16();
        let at = |wanted| self.0.iter().find(|(what, _)| *what == wanted);
        let found = at(PageFor::Status(status)).or_else(|| at(PageFor::Class(status / 100)));
        found.map(|(_, page)| &**page)
    }
}
