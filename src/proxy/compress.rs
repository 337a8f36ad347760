//! Streaming encoders: an answer's content goes in piece by piece, and comes out compressed.
//!
//! `proxy/` makes one [`Encoder`] for each answer that `policy::encoding` has chosen a coding for. It decides nothing,
//! and works on the thread that calls it, which has other things to do between pieces of some 64 KiB.
//!
//! Measured with 100 KB of JSON in pieces of 16 KiB, on one core of a server:
//!
//! | coding | level | time | size | memory while it lives |
//! |---|---|---|---|---|
//! | zstd | 3 | 0.5 ms | 23 % | 0.9 MiB, 1.6 MiB for long answers |
//! | br | 5 | 2.5 ms | 21 % | 2.0 MiB, 3 MiB for long answers |
//! | gzip | 5 | 1.3 ms | 22 % | 0.3 MiB |
//!
//! Level 5 of zstd takes three times as much of both for the same 23 %; level 6 of gzip takes half the time again;
//! level 4 of brotli packs worse than gzip.

use crate::policy::encoding::Coding;
use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

const GZIP_LEVEL: u32 = 5;
const BROTLI_LEVEL: u32 = 5;
/// 512 KiB. With less, this level packs worse than the one below it.
const BROTLI_WINDOW_BITS: u32 = 19;
const ZSTD_LEVEL: i32 = 3;
/// 512 KiB: a quarter of what the level would take, for one per mille of size. RFC 9659 allows 8 MiB.
const ZSTD_WINDOW_BITS: u32 = 19;
/// What brotli takes in at once.
const BROTLI_BUFFER: usize = 4096;
/// What an encoder may hold back. Left to itself, brotli would hold a MiB, and take three more to do so.
const MOST_HELD: usize = 128 * 1024;

/// The state of one answer's content on its way out.
pub struct Encoder {
    /// `None` once the end has been written.
    stream: Option<Stream>,
    /// How many bytes went in since the last flush.
    held: usize,
}

enum Stream {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// Begins an answer, of so many bytes if that is known: what zstd sets aside, and has to clear, is no more than they need.
    /// There are to be as many, then.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        let out = Vec::new();
        let stream = match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_BITS)?;
                encoder.set_pledged_src_size(length)?;
                Stream::Zstd(encoder)
            }
            Coding::Brotli => {
                let (level, window) = (BROTLI_LEVEL, BROTLI_WINDOW_BITS);
                let encoder = CompressorWriter::new(out, BROTLI_BUFFER, level, window);
                Stream::Brotli(Box::new(encoder))
            }
            Coding::Gzip => Stream::Gzip(GzEncoder::new(out, Compression::new(GZIP_LEVEL))),
        };
        Ok(Encoder {
            stream: Some(stream),
            held: 0,
        })
    }

    /// Takes in a piece and gives what has come out, which may be nothing. With `end`, it is the last one.
    ///
    /// With `flush`, all that went in so far can be read from what came out. That is for content of unknown length,
    /// which its origin may go on producing as slowly as it likes: nobody sees whether it will pause, so each piece that is
    /// all there is for now is flushed. That is what one read of the backend's connection gave, so a fast backend makes
    /// large ones: flushed each 16 KiB, the content grows by 1 %, each 1 KiB by a fifth. What has a length, or is stored,
    /// was whole before it was sent: without `flush` it comes out when there are 128 KiB of it, and better packed.
    ///
    /// # Errors
    /// When a piece follows the end, when zstd gets more or fewer bytes than it was told, and when the encoder fails, which has no
    /// cause but memory. The answer breaks off.
    pub fn encode(&mut self, piece: &[u8], end: bool, flush: bool) -> io::Result<Bytes> {
        self.encode_all([piece], end, flush)
    }

    /// The same for a piece that is in several places.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_all<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
        end: bool,
        flush: bool,
    ) -> io::Result<Bytes> {
        let mut parts = parts.into_iter();
        let Some(mut stream) = self.stream.take() else {
            let nothing = parts.all(<[u8]>::is_empty).then(Bytes::new);
            return nothing.ok_or_else(|| io::Error::other("content after its end"));
        };
        for part in parts {
            stream.writer().write_all(part)?;
            self.held = self.held.saturating_add(part.len());
        }
        // Flushing nothing would give an empty block.
        if !end && (self.held >= MOST_HELD || flush && self.held > 0) {
            stream.writer().flush()?;
            self.held = 0;
        }
        let out = if end {
            stream.finish()?
        } else {
            let out = std::mem::take(stream.out());
            self.stream = Some(stream);
            out
        };
        Ok(out.into())
    }
}

impl Stream {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Stream::Zstd(encoder) => encoder,
            Stream::Brotli(encoder) => encoder,
            Stream::Gzip(encoder) => encoder,
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Stream::Zstd(encoder) => encoder.get_mut(),
            Stream::Brotli(encoder) => encoder.get_mut(),
            Stream::Gzip(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Stream::Zstd(encoder) => encoder.finish(),
            Stream::Brotli(encoder) => Ok(encoder.into_inner()),
            Stream::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests;
