//! RFC 9213: `CDN-Cache-Control`, which for this cache takes the place of `Cache-Control` and `Expires`.

use super::play::run;

pub(super) const CASES: &str = r#"

§9213:2.2 a targeted lifetime is a lifetime
< CDN-Cache-Control: max-age=60
= fresh

§9213:2.2 a targeted lifetime of zero is none
< CDN-Cache-Control: max-age=0
= not fresh

§9213:2.2 a longer targeted lifetime wins over Cache-Control
< CDN-Cache-Control: max-age=60 | Cache-Control: max-age=0
= fresh

§9213:2.2 a shorter targeted lifetime wins over Cache-Control
< Cache-Control: max-age=60 | CDN-Cache-Control: max-age=0
= not fresh

§9213:2.2 a targeted lifetime wins over s-maxage
< Cache-Control: s-maxage=60 | CDN-Cache-Control: max-age=0
= not fresh

§9213:2.2 a targeted lifetime wins over no-store
< Cache-Control: no-store | CDN-Cache-Control: max-age=60
= fresh

§9213:2.2 a targeted lifetime wins over private and no-cache
< Cache-Control: private, no-cache | CDN-Cache-Control: max-age=60
= fresh

§9213:2.2 a targeted lifetime wins over Expires in the past
< CDN-Cache-Control: max-age=60 | Expires: {now-100}
= fresh

§9213:2.2 a targeted lifetime of zero wins over Expires in the future
< CDN-Cache-Control: max-age=0 | Expires: {now+100}
= not fresh

§9213:2.2 a targeted field without a lifetime hides that of Cache-Control and of Expires
< CDN-Cache-Control: must-revalidate | Cache-Control: max-age=60 | Expires: {now+100}
= not fresh

§9213:2.2 targeted no-store forbids to store
> GET
< CDN-Cache-Control: no-store | Cache-Control: max-age=60 | Expires: {now+100}
= not-stored
> GET
= forwarded

§9213:2.2 targeted no-store wins over a targeted lifetime
> GET
< CDN-Cache-Control: max-age=60, no-store
= not-stored
> GET
= forwarded

§9213:2.2 targeted private forbids to store
> GET
< CDN-Cache-Control: private, max-age=60 | Cache-Control: public, max-age=60
= not-stored
> GET
= forwarded

§9213:2.2 targeted no-cache has an answer validated
> GET
< CDN-Cache-Control: no-cache, max-age=60 | Cache-Control: max-age=60 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated

§9213:2.2 targeted must-revalidate forbids to stand in
> GET
< CDN-Cache-Control: max-age=60, must-revalidate, stale-if-error=1000 | Age: 100 | ETag: "a"
= stored
> GET
< reset
= error

§9213:2.2 untargeted must-revalidate does not count beside a targeted field
> GET
< CDN-Cache-Control: max-age=60, stale-if-error=1000 | Cache-Control: must-revalidate | Age: 100 | ETag: "a"
= stored
> GET
< 503
= stands-in | status 200

§9213:2.2 targeted s-maxage wins over targeted max-age
< CDN-Cache-Control: max-age=0, s-maxage=60
= fresh

§9213:2.2 targeted stale-while-revalidate counts
> GET
< CDN-Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= background | of 0

§9213:2.2 untargeted stale-while-revalidate does not count beside a targeted field
> GET
< CDN-Cache-Control: max-age=60 | Cache-Control: max-age=60, stale-while-revalidate=1000 | Age: 100 | ETag: "a"
= stored
> GET
= forwarded

§9213:2.2 a targeted lifetime does not allow to share what was asked with Authorization
> GET | Authorization: Basic YTpi
< CDN-Cache-Control: max-age=60 | Cache-Control: public, max-age=60
= not-stored
> GET
= forwarded

§9213:2.2 targeted public allows it
> GET | Authorization: Basic YTpi
< CDN-Cache-Control: public, max-age=60
= stored
> GET
= hit

§9213:2.2 Age counts against a targeted lifetime
< CDN-Cache-Control: max-age=60 | Cache-Control: max-age=1000 | Age: 100
= not fresh

§9213:2.2 unknown targeted directives are ignored
< CDN-Cache-Control: own, max-age=60, own-age=0, own-name="a, no-store"
= fresh

§9213:2.2 unknown targeted directives alone still hide Cache-Control
< CDN-Cache-Control: own | Cache-Control: max-age=60
= not fresh

§9213:2.2 fields targeted at others change nothing and are passed on
> GET
< Cache-Control: max-age=60 | Own-Cache-Control: no-store
= stored | Own-Cache-Control: no-store
> GET
= hit | Own-Cache-Control: no-store

§9213:2.1 parameters of a directive are ignored
< CDN-Cache-Control: max-age=60;own=1;own2
= fresh

§9213:2.1 several lines are one dictionary
> GET
< CDN-Cache-Control: max-age=60 | CDN-Cache-Control: no-store
= not-stored
> GET
= forwarded

# RFC 8941 §3.2.
§9213:2.1 of a directive that comes twice the last one counts
< CDN-Cache-Control: max-age=0, max-age=60
= fresh

§9213:2.1 a long lifetime is a long one
< CDN-Cache-Control: max-age=999999999999999
= fresh

§9213:2.1 an empty targeted field is ignored
< CDN-Cache-Control: | Cache-Control: max-age=60
= fresh

# RFC 8941 §4.2.2: what cannot be parsed is ignored as a whole.
§9213:2.1 what is no dictionary, {}, is ignored
* max-age=60,&&& max-age=60, max-age=60,own=" MAX-AGE=60 max-age=60,no-store=, max-age=9999999999999999
< CDN-Cache-Control: {} | Cache-Control: max-age=0
= not fresh

§9213:2.1 what is no dictionary is ignored, its no-store too
< CDN-Cache-Control: no-store, &&& | Cache-Control: max-age=60
= fresh

§9213:2.1 a space before an equals sign makes it no dictionary
< CDN-Cache-Control: max-age =60 | Cache-Control: max-age=0
= not fresh

§9213:2.1 a targeted lifetime of {} is none
* 60.5 -60 "60" ?1 abc
< CDN-Cache-Control: max-age={} | Cache-Control: max-age=0
= not fresh
"#;

#[test]
fn s9213_targeted_at_this_cache() {
    run(CASES);
}
