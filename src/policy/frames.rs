//! Where in the frames of HTTP/2 a connection is: within a head, or not (RFC 9113 §4.1, §6.2, §6.10).
//!
//! Fed by `server::stream` with the bytes that a client sends, so that a head may take no longer there than in HTTP/1. Checks
//! nothing: that is the h2 library's.

/// What every connection begins with (RFC 9113 §3.4).
const PREFACE: u64 = 24;
/// Bytes of a frame before what it carries.
const HEAD: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// A connection's frames as they come.
#[derive(Debug)]
pub struct Frames {
    /// Bytes until the next frame begins.
    left: u64,
    /// What is there of the next frame's head.
    head: [u8; HEAD],
    got: usize,
    /// Whether a head is not at its end: its last frame is still to come, or still coming.
    within: bool,
    /// Whether the frame that is coming is the last of a head.
    is_last: bool,
    /// Heads that have begun.
    heads: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Frames {
            left: PREFACE,
            head: [0; HEAD],
            got: 0,
            within: false,
            is_last: false,
            heads: 0,
        }
    }
}

impl Frames {
    /// These bytes came next.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = bytes
                    .len()
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= here as u64;
                bytes = bytes.get(here..).unwrap_or_default();
                self.end_of_frame();
                continue;
            }
            let (first, rest) = bytes.split_at(bytes.len().min(HEAD - self.got));
            if let Some(place) = self.head.get_mut(self.got..self.got + first.len()) {
                place.copy_from_slice(first);
            }
            self.got += first.len();
            bytes = rest;
            if self.got == HEAD {
                self.begin();
            }
        }
    }

    /// Whether a head has begun and not ended.
    pub fn is_within_head(&self) -> bool {
        self.within
    }

    /// How many heads have begun.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.got = 0;
        self.left = u64::from(u32::from_be_bytes([0, a, b, c]));
        self.heads = self.heads.wrapping_add(u32::from(kind == HEADERS));
        if matches!(kind, HEADERS | CONTINUATION) {
            self.within = true;
            self.is_last = flags & END_HEADERS != 0;
        }
        self.end_of_frame();
    }

    fn end_of_frame(&mut self) {
        if self.left == 0 && self.is_last {
            self.within = false;
            self.is_last = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(len: u32, kind: u8, flags: u8) -> Vec<u8> {
        let mut frame = len.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + len as usize, 7);
        frame
    }

    /// The preface, settings, and then what is given.
    fn after(frames: &[Vec<u8>]) -> Frames {
        let mut seen = Frames::default();
        seen.see(&[b'x'; 24]);
        seen.see(&frame(6, 4, 0));
        seen.see(&frames.concat());
        seen
    }

    #[test]
    fn a_head_lasts_from_its_first_frame_to_the_end_of_its_last() {
        let (open, whole) = (frame(5, HEADERS, 0), frame(5, HEADERS, END_HEADERS));
        let (more, last) = (
            frame(3, CONTINUATION, 0),
            frame(3, CONTINUATION, END_HEADERS),
        );
        for (frames, within) in [
            (vec![], false),
            (vec![whole.clone()], false),
            (vec![whole[..13].to_vec()], true),
            (vec![open.clone()], true),
            (vec![open.clone(), more.clone()], true),
            (vec![open.clone(), more, last.clone()], false),
            (vec![open.clone(), last[..11].to_vec()], true),
            (vec![open, frame(0, CONTINUATION, END_HEADERS)], false),
            (vec![whole.clone(), frame(100, 0, END_HEADERS)], false),
            (vec![whole, frame(100, 0, 0)[..50].to_vec()], false),
        ] {
            assert_eq!(after(&frames).is_within_head(), within, "{frames:?}");
        }
    }

    proptest! {
        #[test]
        fn however_they_come(
            frames in prop::collection::vec((0..40_u32, 0..10_u8, 0..8_u8), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let frames: Vec<Vec<u8>> = frames.into_iter().map(|(l, k, f)| frame(l, k, f)).collect();
            let mut rest = &frames.concat()[..];
            let mut seen = after(&[]);
            for cut in cuts {
                let (now, later) = rest.split_at(cut.index(rest.len() + 1));
                seen.see(now);
                rest = later;
            }
            seen.see(rest);
            prop_assert_eq!(seen.is_within_head(), after(&frames).is_within_head());
        }
    }
}
