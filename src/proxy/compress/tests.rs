//! What went in comes out again, in whatever pieces, and in time.

use super::*;
use proptest::prelude::*;

const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

/// What a client can read of the bytes that it has, and whether that is the whole content.
fn read(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut reader: Box<dyn io::Read> = match coding {
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
    };
    let mut out = Vec::new();
    let mut some = [0; 4096];
    loop {
        match reader.read(&mut some) {
            Ok(0) => return (out, true),
            Ok(count) => out.extend(&some[..count]),
            Err(_) => return (out, false),
        }
    }
}

/// Something like what is served: neither random nor all the same.
fn text(length: usize) -> Vec<u8> {
    let words = (0_u64..).map(|i| format!("{{\"id\":{},\"name\":\"n{}\"}},", i, i * i % 977));
    words.flat_map(String::into_bytes).take(length).collect()
}

#[test]
fn an_encoder_may_live_in_a_request() {
    fn fits<T: Send + Sync>() {}
    fits::<Encoder>();
}

#[test]
fn a_flushed_piece_comes_out_at_once() {
    for coding in CODINGS {
        let mut encoder = Encoder::new(coding, None).unwrap();
        let (mut sent, mut out) = (Vec::new(), Vec::new());
        let long = text(100_000);
        for piece in [&b"{"[..], b"\"a\":1,", &long, b"}", &long[..20_000]] {
            out.extend(encoder.encode(piece, false, true).unwrap());
            sent.extend(piece);
            let (got, ended) = read(coding, &out);
            assert!(got == sent, "{coding:?}: {} of {}", got.len(), sent.len());
            assert!(!ended, "{coding:?}");
        }
        // Nothing in, nothing out: there is nothing to flush.
        assert!(encoder.encode(b"", false, true).unwrap().is_empty());
        out.extend(encoder.encode(b"", true, true).unwrap());
        assert!(read(coding, &out) == (sent, true), "{coding:?}");
    }
}

#[test]
fn unflushed_content_does_not_pile_up() {
    for coding in CODINGS {
        let mut encoder = Encoder::new(coding, None).unwrap();
        let (mut sent, mut out) = (0, Vec::new());
        for piece in text(1_000_000).chunks(50_000) {
            out.extend(encoder.encode(piece, false, false).unwrap());
            sent += piece.len();
            let late = sent - read(coding, &out).0.len();
            assert!(late < MOST_HELD, "{coding:?}: {late} of {sent}");
        }
    }
}

#[test]
fn an_end_is_an_end() {
    for coding in CODINGS {
        let mut encoder = Encoder::new(coding, None).unwrap();
        let out = encoder.encode(b"abc", true, false).unwrap();
        assert_eq!(read(coding, &out), (b"abc".to_vec(), true), "{coding:?}");
        // An end needs no flush.
        let flushed = Encoder::new(coding, None)
            .unwrap()
            .encode(b"abc", true, true);
        assert_eq!(flushed.unwrap(), out, "{coding:?}");
        assert!(encoder.encode(b"", true, true).unwrap().is_empty());
        assert!(encoder.encode(b"d", false, false).is_err());
        // Content that breaks off is not taken for whole.
        let mut encoder = Encoder::new(coding, None).unwrap();
        let out = encoder.encode(b"abc", false, true).unwrap();
        assert_eq!(read(coding, &out), (b"abc".to_vec(), false), "{coding:?}");
        // Nor is content of nothing no content.
        let out = Encoder::new(coding, None).unwrap().encode(b"", true, false);
        assert_eq!(
            read(coding, &out.unwrap()),
            (Vec::new(), true),
            "{coding:?}"
        );
    }
}

#[test]
fn more_or_less_than_was_told_is_not_taken_for_whole() {
    for length in [2, 4] {
        let mut encoder = Encoder::new(Coding::Zstd, Some(length)).unwrap();
        assert!(encoder.encode(b"abc", true, false).is_err());
    }
}

#[test]
fn text_gets_much_smaller() {
    let content = text(100_000);
    for coding in CODINGS {
        for (piece, flush) in [(100_000, false), (16 * 1024, true)] {
            let mut encoder = Encoder::new(coding, None).unwrap();
            let mut size = 0;
            for piece in content.chunks(piece) {
                size += encoder.encode(piece, false, flush).unwrap().len();
            }
            size += encoder.encode(b"", true, false).unwrap().len();
            assert!(size < content.len() / 4, "{coding:?}: {size}");
        }
    }
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        (0usize..200_000).prop_map(text),
        (any::<u8>(), 0usize..200_000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(
        content in content(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..8),
        coding in prop::sample::select(CODINGS.to_vec()),
        end_alone in any::<bool>(),
        is_told in any::<bool>(),
    ) {
        let mut places: Vec<(usize, bool)> =
            cuts.iter().map(|(i, flush)| (i.index(content.len() + 1), *flush)).collect();
        places.sort_unstable();
        let mut encoder = Encoder::new(coding, is_told.then_some(content.len() as u64)).unwrap();
        let mut out = Vec::new();
        let mut from = 0;
        for (to, flush) in places {
            out.extend(encoder.encode(&content[from..to], false, flush).unwrap());
            let (got, ended) = read(coding, &out);
            prop_assert!(content.starts_with(&got) && !ended);
            if flush && to > from {
                prop_assert_eq!(got.len(), to);
            }
            from = to;
        }
        if end_alone {
            out.extend(encoder.encode(&content[from..], false, false).unwrap());
            from = content.len();
        }
        out.extend(encoder.encode(&content[from..], true, false).unwrap());
        let (got, ended) = read(coding, &out);
        prop_assert!(got == content && ended);
    }
}
