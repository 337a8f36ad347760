//! Conformance: HTTP caching as RFC 9111 has it, with what it uses of RFC 9110, 9211, 9213 and 5861, through the real
//! proxy. One file per section, one case per requirement.
//!
//! A case is a short transcript in a table of text. Client and origin are both scripted:
//!
//! ```text
//! §4.3.1 an entity tag goes into If-None-Match                     section and title; a case begins
//! > GET                                                            what the client asks
//! < Cache-Control: max-age=60 | Age: 100 | ETag: "a"               what the origin answers, if it is asked
//! = stored                                                         what must be seen
//! > GET
//! < confirms | ETag: "a"
//! = validated | sent If-None-Match: "a"
//! ```
//!
//! `|` separates items of a line. `# ` begins a comment. `{now}`, `{now-100}` and `{now+60}` stand for dates, `{path}`
//! for the case's own path. `§9213:2.2` is a section of RFC 9213. A line `* 200 404` has the case played with each of
//! these words in place of `{}`; `a|b` in it gives `{0}` and `{1}`, and `_` is a space. A title may end in `@sie` or
//! `@swr`: the case runs on a route that is configured to give stale answers.
//!
//! **The client's lines** (`>`): a method and, if need be, what follows the case's path (`GET ?q=1`, `GET /other`, or a
//! whole target); header fields.
//!
//! **The origin's lines** (`<`): a status (else 200); header fields; `undated`, or `Date` is the time of the answer;
//! `body TEXT` (else a text that no other answer has); `confirms`: 304 if the request is conditional; `resource`: heeds
//! `If-None-Match`, `If-Modified-Since`, `Range` and `If-Range`; `reset`: no answer; `cut N`: breaks off after so many
//! bytes of the body; `late N`: after so many milliseconds; `chunked`; `trailer FIELD`; `interim STATUS FIELD`.
//!
//! **What must be seen** (`=`), first where the answer came from, by what the origin saw and by `Cache-Status`:
//!
//! | Word | Where the answer came from |
//! |---|---|
//! | `hit` | the cache; the origin was not asked |
//! | `background` | the same, and the origin is asked once behind the client's back |
//! | `stands-in` | the cache, after the origin was asked and failed |
//! | `forwarded` | the origin, which was asked once |
//! | `stored`, `not-stored` | the same, and `Cache-Status` tells whether it was stored |
//! | `validated` | the cache, after the origin was asked once, with a condition |
//! | `error` | the proxy, after the origin was asked and failed |
//! | `unasked` | the proxy; neither a hit nor asked |
//! | `any` | not asserted |
//!
//! What was forwarded must have the origin's status and body; what came from the cache those of the newest answer that
//! could be stored, or of that of step `of N`. In place of two steps, `fresh` and `not fresh` say what a second GET
//! finds; without a `>` the first is a GET too.
//!
//! Then the rest: `status N`, `body TEXT`, `fwd REASON` (`A/B`: either), `age A..B`, `asked A..B`, `interim N` or
//! `interim none`; header fields of the answer (`Name: value`; `Name: *` for any value), `no NAME`; what was forwarded
//! (`sent Name: value`, `sent no NAME`, `sent METHOD`); `broken`: the answer may be cut short; `check NAME`: see
//! `judge.rs`. `eventually`: the step is repeated until it is so. `together N`: so many clients ask at once;
//! `distinct`: each has an answer of its own.

mod case; // what a case is made of
mod judge; // what must be seen
mod parse; // from text to cases
mod play; // cases against a proxy
mod script; // the origin's side

mod fields; // Age, Date, Cache-Status, Pragma, Warning; interim answers and trailers
mod freshness; // §4.2
mod invalidation; // §4.4
mod keys_and_vary; // §2, §4, §4.1
mod partial; // §3.3, §3.4 and ranges
mod request_directives; // §5.2.1
mod response_directives; // §5.2 and §5.2.2
mod stale; // §4.2.4 and RFC 5861
mod storing; // §3
mod targeted; // RFC 9213
mod validation; // §4.3

use crate::harness::ROOT;

#[test]
fn the_readme_counts_the_cases() {
    let tables = [
        fields::CASES,
        freshness::CASES,
        invalidation::CASES,
        keys_and_vary::CASES,
        partial::CASES,
        request_directives::CASES,
        response_directives::CASES,
        stale::CASES,
        storing::CASES,
        targeted::CASES,
        validation::CASES,
    ];
    let count: usize = tables.iter().map(|table| parse::count(table)).sum();
    let readme = std::fs::read_to_string(std::path::Path::new(ROOT).join("README.md"));
    let sentence = format!("{count} cases, one per requirement of RFC 9111");
    let flat = readme.expect("README.md").replace('\n', " ");
    assert!(
        flat.contains(&sentence),
        "README.md does not say: {sentence}"
    );
}
