//! RFC 9111 §5.2.1: what a client may ask of a cache.

use super::play::run;

pub(super) const CASES: &str = r#"

§5.2 directives of a request are passed on
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: max-age=0, own="1, 2"
= forwarded | sent Cache-Control: max-age=0, own="1, 2"

§5.2 names of directives have no case
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: No-Cache
= forwarded

§5.2 directives on several lines are one list
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: own | Cache-Control: no-cache
= forwarded

§5.2 an argument may be quoted
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET | Cache-Control: max-age="50"
= forwarded

§5.2 what stands in quotes is no directive
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: own="a, no-cache, max-age=0"
= hit

§5.2.3 unknown directives are ignored
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: own, own-age=0
= hit

§5.2.3 directives of answers mean nothing in a request
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: must-revalidate, private, s-maxage=0, proxy-revalidate
= hit

§5.2.1.1 max-age=0 asks the origin
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: max-age=0
= forwarded

§5.2.1.1 max-age=0 validates
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | Cache-Control: max-age=0
< confirms | ETag: "a" | Cache-Control: max-age=60
= validated | sent If-None-Match: "a"
> GET
= hit

§5.2.1.1 an answer older than max-age is not taken
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET | Cache-Control: max-age=50
= forwarded

§5.2.1.1 an answer younger than max-age is
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET | Cache-Control: max-age=200
= hit

§5.2.1.1 max-age does not make a stale answer fresh
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: max-age=1000
= forwarded

§5.2.1.1 unless max-stale comes with it
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: max-age=1000, max-stale=1000
= hit

§5.2.1.2 max-stale takes what has been stale for less
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: max-stale=100
= hit | age 100..120

§5.2.1.2 max-stale does not take what has been stale for longer
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: max-stale=10
= forwarded

§5.2.1.2 max-stale without a value takes anything
> GET
< Cache-Control: max-age=60 | Age: 100000 | ETag: "a"
= stored
> GET | Cache-Control: max-stale
= hit

§5.2.1.2 without max-stale nothing stale is given out
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
= forwarded

§5.2.1.2 max-stale takes what is stale by Expires too
> GET
< Expires: {now-10} | Date: {now-20} | ETag: "a"
= stored
> GET | Cache-Control: max-stale=1000
= hit

§5.2.1.2 {} of the answer wins over max-stale
* must-revalidate,max-age=60 proxy-revalidate,max-age=60 s-maxage=60 no-cache,max-age=60
> GET
< Cache-Control: {} | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: max-stale
< confirms | ETag: "a"
= validated

§5.2.1.2 max-stale does not touch no-cache of a fresh answer
> GET
< Cache-Control: max-age=600, no-cache | ETag: "a"
= stored
> GET | Cache-Control: max-stale=1000
< confirms | ETag: "a"
= validated

§5.2.1.3 an answer that is fresh for long enough satisfies min-fresh
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET | Cache-Control: min-fresh=400
= hit

§5.2.1.3 an answer that is not fresh for long enough does not
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET | Cache-Control: min-fresh=550
= forwarded

§5.2.1.4 no-cache asks the origin
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: no-cache
= forwarded

§5.2.1.4 no-cache validates by an entity tag
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | Cache-Control: no-cache
< confirms | ETag: "a"
= validated | sent If-None-Match: "a"

§5.2.1.4 no-cache validates by Last-Modified
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored
> GET | Cache-Control: no-cache
< confirms | Last-Modified: {now-1000}
= validated | sent If-Modified-Since: {now-1000}

§5.2.1.4 what no-cache brings is stored
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: no-cache
< Cache-Control: max-age=60
= stored
> GET
= hit | of 1

§5.2.1.4 no-cache wins over max-stale
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | Cache-Control: max-stale, no-cache
= forwarded

§5.2.1.5 the answer to no-store is not stored
> GET | Cache-Control: no-store
< Cache-Control: max-age=60
= not-stored
> GET
= forwarded

§5.2.1.5 no-store among others counts
> GET | Cache-Control: max-age=1000, NO-STORE
< Cache-Control: public, max-age=60
= not-stored
> GET
= forwarded

§5.2.1.5 no-store does not take away what is stored
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: no-store
< Cache-Control: max-age=60
= not-stored
> GET
= hit | of 0

§5.2.1.6 no-transform is passed on, and changes nothing for a cache
> GET | Cache-Control: no-transform
< Cache-Control: max-age=60
= stored | sent Cache-Control: no-transform
> GET | Cache-Control: no-transform
= hit

§5.2.1.7 only-if-cached is answered from what is stored
> GET
< Cache-Control: max-age=60
= stored
> GET | Cache-Control: only-if-cached
= hit

§5.2.1.7 only-if-cached gets 504 where nothing is stored
> GET | Cache-Control: only-if-cached
= unasked | status 504
> GET
< Cache-Control: max-age=60
= stored

§5.2.1.7 only-if-cached gets 504 where what is stored is stale
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: only-if-cached
= unasked | status 504

§5.2.1.7 only-if-cached takes stale answers with max-stale
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | Cache-Control: only-if-cached, max-stale
= hit

§5.2.1.7 only-if-cached gets 504 where another variant is stored
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 2 | Cache-Control: only-if-cached
= unasked | status 504

§5.2.1.7 only-if-cached with max-age gets 504 where what is stored is too old
> GET
< Cache-Control: max-age=600 | Age: 100
= stored
> GET | Cache-Control: only-if-cached, max-age=50
= unasked | status 504

§5.2.1.7 only-if-cached gets 504 where the answer must be validated
> GET
< Cache-Control: no-cache | ETag: "a"
= stored
> GET | Cache-Control: only-if-cached
= unasked | status 504

§5.2.1.7 only-if-cached with {0} is not forwarded
* If-Match|"a" If-Unmodified-Since|{now}
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | Cache-Control: only-if-cached | {0}: {1}
= unasked | status 504
"#;

#[test]
fn s5_2_1_what_a_client_asks_of_the_cache() {
    run(CASES);
}
