//! RFC 9111 §4.2.4 and RFC 5861: when an answer past its lifetime is given out: while it is refreshed, when the origin
//! fails, and never where the answer forbids it. What a client allows with `max-stale` is in `request_directives.rs`.

use super::play::run;

pub(super) const CASES: &str = r#"

§4.2.4 nothing stale is given out while the origin answers
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
= forwarded

§4.2.4 without permission an error of the origin is passed on
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< 503
= forwarded | status 503

§5861:3 stale-while-revalidate gives the stale answer and asks behind the client's back
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | ETag: "b"
= background | of 0 | age 100..120 | sent If-None-Match: "a" | sent GET
> GET
= hit | of 1 | ETag: "b" | age 0..20 | eventually

§5861:3 the one behind the client's back may be a confirmation
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | X-Own: 2
= background | of 0
> GET
< confirms | ETag: "a" | X-Own: 2
= hit | of 0 | X-Own: 2 | age 0..20 | eventually

§5861:3 it works by Last-Modified too
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | Last-Modified: {now-1000}
= stored
> GET
< confirms | Last-Modified: {now-1000} | Cache-Control: max-age=60
= background | of 0 | sent If-Modified-Since: {now-1000}

§5861:3 when it fails, the stale answer stays
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
< 500
= background | of 0
> GET
< Cache-Control: max-age=60 | ETag: "b"
= background | of 0 | eventually
> GET
= hit | of 2 | eventually

§5861:3 many clients have it refreshed once
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | late 400
= background | of 0 | together 5

§5861:3 past its time the client waits for the origin
> GET
< Cache-Control: max-age=60, stale-while-revalidate=10 | Age: 100 | ETag: "a"
= stored
> GET
= forwarded

§5861:3 within the lifetime it changes nothing
> GET
< Cache-Control: max-age=600, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
= hit

§5861:3 {} wins over it
* must-revalidate,max-age=60 proxy-revalidate,max-age=60 s-maxage=60 no-cache,max-age=60
> GET
< Cache-Control: {}, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated

§5861:3 a client that says {} waits for the origin
* no-cache max-age=0
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: {}
< confirms | ETag: "a"
= validated

§5861:3 stale-while-revalidate={} is no permission
* abc -1 1.5
> GET
< Cache-Control: max-age=60, stale-while-revalidate={} | Age: 100 | ETag: "a"
= stored
> GET
= forwarded

§5861:4 stale-if-error lets the stale answer stand in for {}
* 500 502 503 504
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< {}
= stands-in | status 200 | age 100..120

§5861:4 stale-if-error lets the stale answer stand in for an origin that does not answer
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< reset
= stands-in | status 200 | age 100..120

§5861:4 {} is an answer, for which nothing stands in
* 400 404 410 429 501
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< {}
= forwarded | status {}

§5861:4 the origin is asked first
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< Cache-Control: max-age=60 | ETag: "b"
= stored
> GET
= hit | of 1

§5861:4 past its time the error is passed on
> GET
< Cache-Control: max-age=60, stale-if-error=10 | Age: 100 | ETag: "a"
= stored
> GET
< 503
= forwarded | status 503

§5861:4 what stood in is asked for again next time
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< 503
= stands-in
> GET
< confirms | ETag: "a" | Cache-Control: max-age=60
= validated | of 0
> GET
= hit | of 0

§5861:4 what stands in is judged by the client's condition
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET | If-None-Match: "a"
< 503
= stands-in | status 304

§5861:4 a HEAD gets the stale answer's head
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a" | body 0123456789
= stored
> HEAD
< 503
= stands-in | status 200 | Content-Length: 10

§5861:4 another variant does not stand in
> GET | Foo: 1
< Cache-Control: max-age=60, stale-if-error=1000 | Age: 100 | ETag: "a" | Vary: Foo
= stored
> GET | Foo: 2
< 503
= forwarded | status 503

§5861:4 a client may allow it
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: stale-if-error=1000
< 503
= stands-in | status 200

§5861:4 a client may allow less than it takes
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: stale-if-error=10
< 503
= forwarded | status 503

§5861:4 {} wins over it
* must-revalidate,max-age=60 proxy-revalidate,max-age=60 s-maxage=60 no-cache,max-age=60
> GET
< Cache-Control: {}, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< 503
= forwarded | status 503
> GET
< reset
= error

§5861:4 {} wins over a client that allows it
* must-revalidate,max-age=60 proxy-revalidate,max-age=60 s-maxage=60 no-cache,max-age=60
> GET
< Cache-Control: {} | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: stale-if-error=1000
< 503
= forwarded | status 503

§4.2.4 a configured time lets a stale answer stand in @sie
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< 503
= stands-in | status 200

§4.2.4 a configured time is the least: the origin's own is shorter @sie
> GET
< Cache-Control: max-age=60, stale-if-error=1 | Age: 100 | ETag: "a"
= stored
> GET
< reset
= stands-in | status 200

§4.2.4 past the configured time the error is passed on @sie
> GET
< Cache-Control: max-age=60 | Age: 10000 | ETag: "a"
= stored
> GET
< 503
= forwarded | status 503

§4.2.4 the origin's own time may be longer than the configured one @sie
> GET
< Cache-Control: max-age=60, stale-if-error=100000 | Age: 10000 | ETag: "a"
= stored
> GET
< 503
= stands-in | status 200

§4.2.4 {} wins over a configured time to stand in @sie
* must-revalidate,max-age=60 proxy-revalidate,max-age=60 s-maxage=60 no-cache,max-age=60
> GET
< Cache-Control: {} | Age: 100 | ETag: "a"
= stored
> GET
< reset
= error

§4.2.4 a configured time lets a stale answer be given while it is refreshed @swr
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< Cache-Control: max-age=60 | ETag: "b"
= background | of 0
> GET
= hit | of 1 | eventually

§4.2.4 {} wins over a configured time to refresh @swr
* must-revalidate,max-age=60 proxy-revalidate,max-age=60 s-maxage=60 no-cache,max-age=60
> GET
< Cache-Control: {} | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated
"#;

#[test]
fn s4_2_4_what_is_given_out_stale() {
    run(CASES);
}
