//! The fields that tell of caching: `Age` (RFC 9111 §5.1), `Date` (RFC 9110 §6.6.1), `Pragma` (§5.4), `Warning`
//! (§5.5), `Cache-Status` (RFC 9211). Then interim answers (RFC 9110 §15.2) and trailers (RFC 9111 §3.1).

use super::play::run;

pub(super) const CASES: &str = r#"

§4 a hit has an Age
> GET
< Cache-Control: max-age=60
= stored | no Age
> GET
= hit | age 0..20

§5.1 the Age of a hit grows
> GET
< Cache-Control: max-age=60
= stored
> GET
= hit | age 1..20 | eventually

§5.1 the Age of a hit includes the Age it came with
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET
= hit | age 100..120

§5.1 the same where the lifetime is in Expires
> GET
< Expires: {now+600} | Age: 100
= stored
> GET
= hit | age 100..120

§5.1 an Age that came is passed on
> GET
< Cache-Control: max-age=600 | Age: 100
= stored | age 100..120

§5.1 an Age of {} is ignored
* abc -100 100.5 0x64
> GET
< Cache-Control: max-age=60 | Age: {}
= stored
> GET
= hit | age 0..20

§5.1 of an Age with a list the first counts, being the greater
< Cache-Control: max-age=60 | Age: 100, 0
= not fresh

§5.1 of an Age with a list the first counts, being the less
< Cache-Control: max-age=60 | Age: 0, 100
= fresh

§5.1 of two Ages the first counts, being the greater
< Cache-Control: max-age=60 | Age: 100 | Age: 0
= not fresh

§5.1 of two Ages the first counts, being the less
> GET
< Cache-Control: max-age=60 | Age: 0 | Age: 100
= stored
> GET
= hit | age 0..20

§1.2.2 an Age of {} is a long time
* 2147483647 2147483648 4294967296 99999999999999999999
< Cache-Control: max-age=60 | Age: {}
= not fresh

§4 an Age is there on a hit with 304 and with 206 as well
> GET
< Cache-Control: max-age=600 | Age: 100 | ETag: "a" | body 0123456789
= stored
> GET | If-None-Match: "a"
= hit | status 304 | age 100..120
> GET | Range: bytes=0-4
= hit | status 206 | body 01234 | age 100..120
> HEAD
= hit | age 100..120

§9110:6.6.1 a hit keeps its Date
> GET
< Cache-Control: max-age=60 | Date: {now-20}
= stored
> GET
= hit | Date: {now-20} | age 20..40

§9110:6.6.1 an answer that is passed on keeps its Date
> GET
< Cache-Control: no-store | Date: {now-20}
= not-stored | Date: {now-20}

§5.3 a hit keeps its Expires and Last-Modified
> GET
< Expires: {now+60} | Last-Modified: {now-1000}
= stored
> GET
= hit | Expires: {now+60} | Last-Modified: {now-1000}

§9110:6.6.1 an answer without Date gets one
> GET
< Cache-Control: max-age=60 | undated
= stored | Date: *
> GET
= hit | Date: *

§9110:6.6.1 an answer without Date that is not stored gets one too
> GET
< Cache-Control: no-store | undated
= not-stored | Date: *
> GET
= forwarded

§5.4 Pragma: no-cache asks the origin where there is no Cache-Control
> GET
< Cache-Control: max-age=60
= stored
> GET | Pragma: no-cache
= forwarded | sent Pragma: no-cache

§5.4 Pragma means nothing beside Cache-Control
> GET
< Cache-Control: max-age=60
= stored
> GET | Pragma: no-cache | Cache-Control: max-age=1000
= hit

§5.4 any other Pragma means nothing
> GET
< Cache-Control: max-age=60
= stored
> GET | Pragma: own
= hit

§5.4 Pragma means nothing in an answer
< Cache-Control: max-age=60 | Pragma: no-cache
= fresh

§5.5 no Warning is made for a stale answer
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored | no Warning
> GET
< 503
= stands-in | no Warning

§9211:2.1 a hit says hit, for a HEAD too
> GET
< Cache-Control: max-age=60
= stored | fwd uri-miss
> GET
= hit
> HEAD
= hit

§9211:2.2 what is not found says uri-miss
> GET
< Cache-Control: no-store
= not-stored | fwd uri-miss
> GET
= not-stored | fwd uri-miss

§9211:2.2 another variant says vary-miss
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo
= stored | fwd uri-miss
> GET | Foo: 2
< Cache-Control: max-age=60 | Vary: Foo
= stored | fwd vary-miss

§9211:2.2 what was stale says stale
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored | fwd uri-miss
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "b"
= stored | fwd stale
> GET
< confirms | ETag: "b"
= validated | fwd stale

§9211:2.2 what the client did not want says request
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | Cache-Control: no-cache
< confirms | ETag: "a"
= validated | fwd request
> GET | Cache-Control: max-age=0
< Cache-Control: max-age=60
= stored | fwd request

§9211:2.2 {} says method
* POST PUT DELETE OPTIONS FROB
> GET
< Cache-Control: max-age=60
= stored
> {}
= not-stored | fwd method/bypass

§9211:2 what caches before said comes first
> GET
< Cache-Control: max-age=60 | Cache-Status: own; hit; ttl=5
= stored | check own first
> GET
= hit | check own first

§9110:15.2 an interim answer is passed on, and the final one stored
> GET
< interim 103 Link: </a>; rel=preload | Cache-Control: max-age=60
= stored | interim 103 | status 200
> GET
= hit | status 200

§9110:15.2 an interim answer is not stored, nor its fields
> GET
< interim 103 X-Interim: 1 | Cache-Control: max-age=60 | X-Own: 1
= stored | no X-Interim | X-Own: 1
> GET
= hit | interim none | no X-Interim | X-Own: 1

§9110:15.2 several interim answers are passed on
> GET
< interim 102 | interim 103 Link: </a>; rel=preload | Cache-Control: max-age=60
= stored | interim 102 103
> GET
= hit | interim none

§3.1 trailers do not become header fields
> GET
< Cache-Control: max-age=60 | trailer X-Trailer: 1 | Trailer: X-Trailer
= stored | no X-Trailer
> GET
= hit | no X-Trailer

§3.1 trailers change no header fields
> GET
< Cache-Control: max-age=60 | trailer Cache-Control: no-store | trailer X-Own: 2 | X-Own: 1
= stored | X-Own: 1 | Cache-Control: max-age=60
> GET
= hit | X-Own: 1 | Cache-Control: max-age=60
"#;

#[test]
fn fields_of_answers_from_a_cache() {
    run(CASES);
}
