//! RFC 9111 §5.2 and §5.2.2: how `Cache-Control` of an answer is read, and what each directive means.

use super::play::run;

pub(super) const CASES: &str = r#"

§5.2 directives of an answer are passed on as they are
> GET
< Cache-Control: max-age=60, OWN="1, 2", private-ish
= stored | Cache-Control: max-age=60, OWN="1, 2", private-ish
> GET
= hit | Cache-Control: max-age=60, OWN="1, 2", private-ish

§5.2 names of directives have no case
< Cache-Control: mAX-aGE=60
= fresh

§5.2 an argument may be quoted
< Cache-Control: max-age="60"
= fresh

§5.2 directives on several lines are one list
< Cache-Control: max-age=60 | Cache-Control: no-store
= not fresh

§5.2 empty members of the list mean nothing
< Cache-Control: ,, max-age=60 ,
= fresh

§5.2 no space is needed after a comma
< Cache-Control: own,max-age=60,own2
= fresh

§5.2 a lifetime in quotes is none
< Cache-Control: own="max-age=60"
= not fresh

§5.2 a lifetime in quotes is none, before the real one
< Cache-Control: own="max-age=60", max-age=0
= not fresh

§5.2 a lifetime in quotes is none, after the real one
< Cache-Control: max-age=0, own="max-age=60"
= not fresh

§5.2 a directive in quotes is none
< Cache-Control: max-age=60, own="a, no-store, no-cache"
= fresh

§5.2 a quoted quote does not end the quotes
< Cache-Control: max-age=60, own="a\", no-store, b"
= fresh

§5.2 a name that only begins like a directive is another one
< Cache-Control: max-age=60, no-storehouse, x-no-store, private-ish
= fresh

§5.2 space around the equals sign is no directive of that name
< Cache-Control: max-age = 60
= not fresh

§5.2.3 unknown directives are ignored
< Cache-Control: max-age=60, own, own-age=0, own="a"
= fresh

§5.2.3 directives of requests mean nothing in an answer
< Cache-Control: max-age=60, max-stale=0, min-fresh=1000, only-if-cached
= fresh

§5.2.2.2 must-revalidate leaves a fresh answer as it is
< Cache-Control: max-age=60, must-revalidate
= fresh

§5.2.2.2 must-revalidate has a stale answer validated
> GET
< Cache-Control: max-age=60, must-revalidate | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | Cache-Control: max-age=60, must-revalidate
= validated
> GET
= hit

§5.2.2.2 must-revalidate makes an error of an origin that does not answer
> GET
< Cache-Control: max-age=60, must-revalidate | Age: 100 | ETag: "a"
= stored
> GET
< reset
= error

§5.2.2.2 must-revalidate lets an error of the origin through
> GET
< Cache-Control: max-age=60, must-revalidate | Age: 100 | ETag: "a"
= stored
> GET
< 503
= forwarded | status 503

§5.2.2.3 must-understand lets a known status be stored in spite of no-store
< Cache-Control: no-store, must-understand, max-age=60
= fresh

§5.2.2.3 must-understand lets a known error be stored in spite of no-store
< 404 | Cache-Control: must-understand, max-age=60, no-store
= fresh

§5.2.2.3 must-understand forbids to store an unknown status
> GET
< 599 | Cache-Control: must-understand, max-age=60
= not-stored
> GET
= forwarded

§5.2.2.3 no-store counts where the status is unknown
> GET
< 599 | Cache-Control: no-store, must-understand, max-age=60
= not-stored
> GET
= forwarded

§5.2.2.4 no-cache has an answer validated each time
> GET
< Cache-Control: no-cache | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | Cache-Control: no-cache
= validated
> GET
< confirms | ETag: "a" | Cache-Control: no-cache
= validated

§5.2.2.4 no-cache wins over max-age
> GET
< Cache-Control: max-age=60, no-cache | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated
> GET
< confirms | ETag: "a"
= validated

§5.2.2.4 no-cache wins over s-maxage and Expires
> GET
< Cache-Control: No-Cache, s-maxage=60 | Expires: {now+100} | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated

§5.2.2.4 no-cache validates by Last-Modified too
> GET
< Cache-Control: no-cache | Last-Modified: {now-100000}
= stored
> GET
< confirms | Last-Modified: {now-100000}
= validated

§5.2.2.4 no-cache without a validator asks for the whole
> GET
< Cache-Control: no-cache, max-age=60
= forwarded
> GET
= forwarded | sent no If-None-Match

§5.2.2.4 no-cache on a line of its own counts
< Cache-Control: max-age=60 | Cache-Control: no-cache
= not fresh

§5.2.2.4 no-cache makes an error of an origin that does not answer
> GET
< Cache-Control: max-age=60, no-cache | ETag: "a"
= stored
> GET
< reset
= error

# The field it names could be left out instead.
§5.2.2.4 no-cache with field names counts as no-cache
> GET
< Cache-Control: max-age=60, no-cache="X-Own" | ETag: "a" | X-Own: 1
= stored
> GET
< confirms | ETag: "a" | X-Own: 2
= validated | X-Own: 2

§5.2.2.4 no-cache with a field name that is not quoted counts as well
> GET
< Cache-Control: max-age=60, no-cache=X-Own | ETag: "a" | X-Own: 1
= stored
> GET
< confirms | ETag: "a" | X-Own: 2
= validated | X-Own: 2

§5.2.2.5 no-store forbids to store
> GET
< Cache-Control: no-store
= not-stored
> GET
= forwarded

§5.2.2.5 no-store wins over max-age, s-maxage, public and Expires
> GET
< Cache-Control: public, max-age=60, No-Store, s-maxage=60 | Expires: {now+100} | ETag: "a"
= not-stored
> GET
= forwarded | sent no If-None-Match

§5.2.2.5 no-store with an argument is no-store
> GET
< Cache-Control: max-age=60, no-store="x"
= not-stored
> GET
= forwarded

§5.2.2.5 an answer with no-store is given to the client, and nothing of it kept
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< Cache-Control: no-store | ETag: "b"
= not-stored
> GET
= forwarded

§5.2.2.6 no-transform does not hinder, and nothing is transformed
> GET | Accept-Encoding: gzip, br, zstd
< Cache-Control: max-age=60, no-transform | Content-Type: text/plain
= stored | no Content-Encoding
> GET | Accept-Encoding: gzip, br, zstd
= hit | no Content-Encoding | Cache-Control: max-age=60, no-transform

§5.2.2.7 private forbids a shared cache to store
> GET
< Cache-Control: private, max-age=60
= not-stored
> GET
= forwarded

§5.2.2.7 private wins over public and s-maxage
> GET
< Cache-Control: public, s-maxage=60, Private
= not-stored
> GET
= forwarded

# The fields it names could be left out instead.
§5.2.2.7 private with field names counts as private
> GET
< Cache-Control: max-age=60, private="X-Own" | X-Own: 1
= not-stored
> GET
= forwarded

§5.2.2.8 proxy-revalidate leaves a fresh answer as it is
< Cache-Control: max-age=60, proxy-revalidate
= fresh

§5.2.2.8 proxy-revalidate makes an error of an origin that does not answer
> GET
< Cache-Control: max-age=60, proxy-revalidate | Age: 100 | ETag: "a"
= stored
> GET
< reset
= error

§5.2.2.8 proxy-revalidate alone makes nothing storable
> GET
< 599 | Cache-Control: proxy-revalidate | ETag: "a"
= not-stored
> GET
= forwarded

§5.2.2.9 public gives no lifetime
< Cache-Control: public
= not fresh

§5.2.2.10 s-maxage leaves a fresh answer as it is
< Cache-Control: s-maxage=60
= fresh

§5.2.2.10 s-maxage has a stale answer validated
> GET
< Cache-Control: s-maxage=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated

§5.2.2.10 s-maxage makes an error of an origin that does not answer
> GET
< Cache-Control: s-maxage=60, max-age=1000 | Age: 100 | ETag: "a"
= stored
> GET
< reset
= error
"#;

#[test]
fn s5_2_2_what_an_answer_says_to_the_cache() {
    run(CASES);
}
