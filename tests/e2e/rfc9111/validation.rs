//! RFC 9111 §4.3: how a stored answer is validated, what a confirmation changes in it, what clients' own conditions
//! get, and what an answer to HEAD says of a stored GET.

use super::play::run;

pub(super) const CASES: &str = r#"

§4.3.1 an entity tag goes into If-None-Match
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated | sent If-None-Match: "a"

§4.3.1 a weak entity tag goes as it is
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: W/"a"
= stored
> GET
< confirms | ETag: W/"a"
= validated | sent If-None-Match: W/"a"

§4.3.1 Last-Modified goes into If-Modified-Since
> GET
< Cache-Control: max-age=60 | Age: 100 | Last-Modified: {now-1000}
= stored
> GET
< confirms | Last-Modified: {now-1000}
= validated | sent If-Modified-Since: {now-1000}

§4.3.1 Last-Modified in an old form serves as well
> GET
< Cache-Control: max-age=60 | Age: 100 | Last-Modified: Thursday, 18-Aug-05 02:01:18 GMT
= stored
> GET
< confirms | Last-Modified: Thursday, 18-Aug-05 02:01:18 GMT
= validated

§4.3.1 with both validators both are sent
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | Last-Modified: {now-1000}
= stored
> GET
< confirms | ETag: "a" | Last-Modified: {now-1000}
= validated | sent If-None-Match: "a" | sent If-Modified-Since: {now-1000}

§4.3.1 without validators the whole is asked for
> GET
< Cache-Control: max-age=60 | Age: 100
= forwarded
> GET
< Cache-Control: max-age=60
= stored | sent no If-None-Match | sent no If-Modified-Since
> GET
= hit

§4.3.1 a variant is validated with its own tag
> GET | Foo: 1
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | Vary: Foo
= stored
> GET | Foo: 2
< Cache-Control: max-age=60 | Age: 100 | ETag: "b" | Vary: Foo
= stored
> GET | Foo: 1
< confirms | ETag: "a" | Vary: Foo
= validated | of 0 | sent Foo: 1 | check the tag "a" is asked for

§4.3.1 validation carries the client's own header fields
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | X-Own: 1 | Accept: text/own
< confirms | ETag: "a"
= validated | sent X-Own: 1 | sent Accept: text/own

§4.3.2 If-None-Match with the stored tag gets 304
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: "a"
= hit | status 304 | ETag: "a"

§4.3.2 If-None-Match with another tag gets the whole
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: "b"
= hit | status 200

§4.3.2 If-None-Match is compared weakly, the stored tag being weak
> GET
< Cache-Control: max-age=60 | ETag: W/"a"
= stored
> GET | If-None-Match: "a"
= hit | status 304

§4.3.2 If-None-Match is compared weakly, the client's tag being weak
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: W/"a"
= hit | status 304

§4.3.2 If-None-Match: {} names the stored tag
* "a","b","c" "b","a","c" "b","c","a"
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: {}
= hit | status 304

§4.3.2 If-None-Match on several lines is one list
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: "b" | If-None-Match: "a"
= hit | status 304

§4.3.2 a tag may hold a comma
> GET
< Cache-Control: max-age=60 | ETag: "a,b"
= stored
> GET | If-None-Match: "x", "a,b"
= hit | status 304
> GET | If-None-Match: "a", "b"
= hit | status 200

§4.3.2 tags have case
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: "A"
= hit | status 200

§4.3.2 If-None-Match: * gets 304
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: *
= hit | status 304

§4.3.2 If-None-Match without a stored tag gets the whole
> GET
< Cache-Control: max-age=60
= stored
> GET | If-None-Match: "a"
= hit | status 200

§4.3.2 If-Modified-Since the stored date gets 304
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored
> GET | If-Modified-Since: {now-1000}
= hit | status 304

§4.3.2 If-Modified-Since a later date gets 304
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored
> GET | If-Modified-Since: {now-500}
= hit | status 304

§4.3.2 If-Modified-Since an earlier date gets the whole
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored
> GET | If-Modified-Since: {now-2000}
= hit | status 200

# RFC 9110 §5.6.7.
§4.3.2 If-Modified-Since may be written in an old form
> GET
< Cache-Control: max-age=60 | Last-Modified: Thu, 18 Aug 2005 02:01:18 GMT
= stored
> GET | If-Modified-Since: Thursday, 18-Aug-05 02:01:18 GMT
= hit | status 304

# RFC 9110 §13.1.3.
§4.3.2 an If-Modified-Since that is no date is ignored
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored
> GET | If-Modified-Since: yesterday
= hit | status 200

§4.3.2 without Last-Modified, If-Modified-Since is judged by Date: later gets 304
> GET
< Cache-Control: max-age=600 | Date: {now-100}
= stored
> GET | If-Modified-Since: {now-50}
= hit | status 304

§4.3.2 without Last-Modified, If-Modified-Since is judged by Date: earlier gets the whole
> GET
< Cache-Control: max-age=600 | Date: {now-100}
= stored
> GET | If-Modified-Since: {now-200}
= hit | status 200

§4.3.2 If-None-Match goes before If-Modified-Since: another tag
> GET
< Cache-Control: max-age=60 | ETag: "a" | Last-Modified: {now-1000}
= stored
> GET | If-None-Match: "b" | If-Modified-Since: {now-1000}
= hit | status 200

§4.3.2 If-None-Match goes before If-Modified-Since: the same tag
> GET
< Cache-Control: max-age=60 | ETag: "a" | Last-Modified: {now-1000}
= stored
> GET | If-None-Match: "a" | If-Modified-Since: {now-2000}
= hit | status 304

§4.3.2 a HEAD with the stored tag gets 304
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> HEAD | If-None-Match: "a"
= hit | status 304

# RFC 9110 §13.2.1: a condition is ignored where the answer without it would be neither 2xx nor 412.
§4.3.2 a stored error takes no notice of a condition
> GET
< 404 | Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-None-Match: "a"
= hit | status 404

# RFC 9110 §15.4.5.
§4.3.2 a 304 carries what the whole would have carried
> GET
< Cache-Control: max-age=60 | ETag: "a" | Content-Location: {path}/x | Date: {now-5} | Expires: {now+50} | Vary: Foo
= stored
> GET | If-None-Match: "a"
= hit | status 304 | Date: * | age 0..20
= Cache-Control: max-age=60 | ETag: "a" | Content-Location: {path}/x | Expires: {now+50} | Vary: Foo

§4.3.2 If-Match is for the origin alone to refuse
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | If-Match: "b"
< 412
= any | check not judged here

§4.3.2 If-Unmodified-Since is for the origin alone to refuse
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored
> GET | If-Unmodified-Since: {now-2000}
< 412
= any | check not judged here

§4.3.2 on a miss a condition is answered from the whole: the same tag
> GET | If-None-Match: "a"
< Cache-Control: max-age=60 | ETag: "a"
= stored | status 304 | sent no If-None-Match
> GET
= hit | status 200

§4.3.2 on a miss a condition is answered from the whole: another tag
> GET | If-None-Match: "b"
< Cache-Control: max-age=60 | ETag: "a"
= stored | status 200 | sent no If-None-Match
> GET
= hit | status 200

§4.3.2 on a miss a condition is answered from the whole: a date
> GET | If-Modified-Since: {now-1000}
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= stored | status 304 | sent no If-Modified-Since
> GET
= hit | status 200

§4.3.2 a confirmed answer is 304 for who has it
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | If-None-Match: "a"
< confirms | ETag: "a"
= validated | status 304 | check the tag "a" is asked for

§4.3.2 a confirmed answer is 304 for who has it by its date
> GET
< Cache-Control: max-age=60 | Age: 100 | Last-Modified: {now-1000}
= stored
> GET | If-Modified-Since: {now-1000}
< confirms | Last-Modified: {now-1000}
= validated | status 304

§4.3.2 a confirmed answer is 200 for who has another
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | If-None-Match: "b"
< confirms | ETag: "a"
= validated | status 200 | check the tag "a" is asked for

§4.3.2 a new answer is 304 for who has it already
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET | If-None-Match: "b"
< resource | Cache-Control: max-age=60 | ETag: "b" | body new
= any | asked 1 | status 304 | ETag: "b"

§4.3.3 a whole answer takes the place of the stored one
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | X-Old: 1
= stored
> GET
< Cache-Control: max-age=60 | ETag: "b"
= stored | sent If-None-Match: "a" | no X-Old
> GET
= hit | of 1 | ETag: "b" | no X-Old

§4.3.3 a whole answer of another status is given to the client
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< 404 | Cache-Control: max-age=60
= stored | status 404
> GET
= hit | status 404

§4.3.3 {} in answer to a validation is passed on, and the next one validates again
* 500 502 503 504
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< {}
= forwarded | status {}
> GET
< confirms | ETag: "a"
= validated | of 0

§4.3.4 a confirmed answer is fresh again for as long as it says
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | Cache-Control: max-age=600
= validated | Cache-Control: max-age=600
> GET
= hit | Cache-Control: max-age=600 | age 0..20

§4.3.4 a confirmation without a lifetime brings back the stored one, and no old Age
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated
> GET
= hit | age 0..20

§4.3.4 a confirmation may take the lifetime away
> GET
< Cache-Control: max-age=60 | ETag: "a"
= stored
> GET | Cache-Control: no-cache
< confirms | ETag: "a" | Cache-Control: max-age=0
= validated
> GET
< confirms | ETag: "a"
= validated

§4.3.4 the Age of a confirmation counts
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | Cache-Control: max-age=60 | Age: 90
= validated
> GET
< confirms | ETag: "a"
= validated

§4.3.4 a confirmation by Last-Modified alone updates
> GET
< Cache-Control: max-age=60 | Age: 100 | Last-Modified: {now-1000} | X-Own: 1
= stored
> GET
< confirms | Last-Modified: {now-1000} | X-Own: 2
= validated | X-Own: 2
> GET
= hit | X-Own: 2

§4.3.4 a confirmation by a weak tag updates
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: W/"a" | X-Own: 1
= stored
> GET
< confirms | ETag: W/"a" | X-Own: 2
= validated | X-Own: 2
> GET
= hit | X-Own: 2

§4.3.4 a confirmation of another strong tag confirms nothing that is stored
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body old
= stored
> GET
< confirms | ETag: "b" | Cache-Control: max-age=60 | body new
= any | asked 1..3 | check not the old one

§3.2 fields of a confirmation take the place of stored ones, all of their lines
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | X-Own: 1 | X-Own: 2 | X-Kept: 3
= stored
> GET
< confirms | ETag: "a" | X-Own: 4
= validated | X-Own: 4 | X-Kept: 3
> GET
= hit | X-Own: 4 | X-Kept: 3

§3.2 fields that were not there are added
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | X-Own: 4 | X-Own: 5
= validated | X-Own: 4, 5
> GET
= hit | X-Own: 4, 5

§3.2 the date of a confirmation is the answer's
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | Date: {now-90}
= stored
> GET
< confirms | ETag: "a" | Date: {now-5}
= validated
> GET
= hit | age 5..30

§3.2 Expires of a confirmation gives a new lifetime
> GET
< Expires: {now-10} | Last-Modified: {now-1000}
= stored
> GET
< confirms | Last-Modified: {now-1000} | Expires: {now+100}
= validated | Expires: {now+100}
> GET
= hit | Expires: {now+100}

§3.2 the length of a confirmation is not the answer's
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789
= stored
> GET
< confirms | ETag: "a" | Content-Length: 4
= validated | Content-Length: 10
> GET
= hit | Content-Length: 10

§3.2 fields of the connection are not taken over
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | X-Hop: 1
= stored
> GET
< confirms | ETag: "a" | Connection: X-Hop | X-Hop: 2 | Keep-Alive: timeout=77 | Proxy-Authenticate: Basic
= validated
> GET
= hit | X-Hop: 1 | no Keep-Alive | no Proxy-Authenticate

§3.2 a cookie of a confirmation is given to nobody else
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | Set-Cookie: a=1
= any | asked 1..2 | status 200
> GET
= any | status 200 | no Set-Cookie

§7.3 the cookie that a 304 sets is for who asked
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a"
= stored
> GET
< confirms | ETag: "a" | Set-Cookie: a=1
= validated | of 0 | Set-Cookie: a=1

# RFC 9110 §15.4.5: a 304 says of caching what the 200 would have said.
§3.5 a 304 to a request with {}, which does not allow it, is for who asked
* Authorization Cookie
> GET
< Cache-Control: public, max-age=60 | Age: 100 | ETag: "a" | X-Own: all
= stored
> GET | {}: a=1
< confirms | ETag: "a" | X-Own: one
= validated | of 0 | X-Own: one
> GET
< confirms | ETag: "a" | Cache-Control: public, max-age=60
= validated | of 0 | X-Own: all

§4.3.4 one variant's confirmation leaves the other as it was
> GET | Foo: 1
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | Vary: Foo | X-Own: 1
= stored
> GET | Foo: 2
< Cache-Control: max-age=60 | ETag: "b" | Vary: Foo | X-Own: 2
= stored
> GET | Foo: 1
< confirms | ETag: "a" | Vary: Foo | X-Own: 3
= validated | of 0 | X-Own: 3
> GET | Foo: 2
= hit | of 1 | X-Own: 2
> GET | Foo: 1
= hit | of 0 | X-Own: 3

§4.3.5 a HEAD that finds a stale answer goes on as HEAD
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789
= stored
> HEAD
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= forwarded | sent HEAD

§4.3.5 an answer to HEAD with the same validators and length makes the stored GET fresh
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789 | X-Own: 1
= stored
> HEAD
< Cache-Control: max-age=600 | ETag: "a" | body 0123456789 | X-Own: 2
= forwarded
> GET
= hit | of 0 | X-Own: 2 | Cache-Control: max-age=600

§4.3.5 fields that an answer to HEAD lacks are kept
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789 | X-Own: 1
= stored
> HEAD
< Cache-Control: max-age=600 | ETag: "a" | body 0123456789
= forwarded
> GET
= hit | of 0 | X-Own: 1

§4.3.5 without validators the length decides, and the same one updates
> GET
< Cache-Control: max-age=60 | body 0123456789 | X-Own: 1
= stored
> HEAD | Cache-Control: no-cache
< Cache-Control: max-age=600 | body abcdefghij | X-Own: 2
= forwarded | sent HEAD
> GET
= hit | of 0 | X-Own: 2

§4.3.5 an answer to HEAD with another tag makes the stored GET stale
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> HEAD | Cache-Control: no-cache
< Cache-Control: max-age=600 | ETag: "b" | body 0123456789
= forwarded
> GET
< Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= forwarded

§4.3.5 an answer to HEAD with another Last-Modified makes the stored GET stale
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-2000} | body 0123456789
= stored
> HEAD | Cache-Control: no-cache
< Cache-Control: max-age=600 | Last-Modified: {now-1000} | body 0123456789
= forwarded
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000}
= forwarded

§4.3.5 an answer to HEAD with another length makes the stored GET stale
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> HEAD | Cache-Control: no-cache
< Cache-Control: max-age=600 | body 01234567890
= forwarded
> GET
= forwarded

§4.3.5 an answer to HEAD does not confirm a stored {} of the same length
* 404 301 410
> GET
< {} | Cache-Control: max-age=60 | body 0123456789 | X-Own: 1
= stored
> HEAD | Cache-Control: no-cache
< Cache-Control: max-age=600 | body abcdefghij | X-Own: 2
= forwarded | sent HEAD
> GET
= forwarded | status 200

§4.2.3 the time that an answer to HEAD took counts as age
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> HEAD | Cache-Control: no-cache
< Cache-Control: max-age=60 | Age: 10 | ETag: "a" | body 0123456789 | late 1500
= forwarded
> GET
= hit | of 0 | age 11..30

§4.3.5 an answer to HEAD other than 200 changes nothing
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | X-Own: 1
= stored
> HEAD | Cache-Control: no-cache
< 503 | X-Own: 2
= forwarded | status 503
> GET
= hit | of 0 | X-Own: 1
"#;

#[test]
fn s4_3_validation() {
    run(CASES);
}
