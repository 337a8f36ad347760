//! RFC 9111 §3.3 and §3.4: incomplete answers and parts of answers; and ranges of stored ones (RFC 9110 §14).

use super::play::run;

pub(super) const CASES: &str = r#"

§3.3 a range is served from a stored answer: bytes={0}
* 0-2|012|0-2 3-3|3|3-3 7-|789|7-9 -3|789|7-9 8-99|89|8-9 -99|0123456789|0-9 0-|0123456789|0-9
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes={0}
= hit | status 206 | body {1} | Content-Range: bytes {2}/10

# RFC 9110 §15.3.7.
§3.3 a 206 carries what the whole would have carried
> GET
< Cache-Control: max-age=60 | ETag: "a" | Expires: {now+50} | Vary: Foo
< Content-Location: {path}/x | X-Own: 1 | body 0123456789
= stored
> GET | Range: bytes=2-5
= hit | status 206 | body 2345 | Content-Length: 4 | Date: * | age 0..20
= Cache-Control: max-age=60 | ETag: "a" | Expires: {now+50} | Vary: Foo | Content-Location: {path}/x | X-Own: 1

§3.3 a range is served from an answer that came in chunks
> GET
< Cache-Control: max-age=60 | ETag: "a" | chunked | body 0123456789
= stored
> GET | Range: bytes=2-5
= hit | status 206 | body 2345 | Content-Range: bytes 2-5/10

§3.3 a range is served from an answer without validators
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: bytes=2-5
= hit | status 206 | body 2345

§3.3 after a range the whole is still there
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: bytes=2-5
= hit | status 206 | body 2345
> GET
= hit | status 200

# RFC 9110 §14.1.
§3.3 the unit of a range has no case
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: BYTES=2-5
= hit | status 206 | body 2345

# RFC 9110 §14.1.2: large numbers are no error.
§3.3 a range may end far away
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: bytes=8-99999999999999999999999
= hit | status 206 | body 89

# RFC 9110 §15.5.17.
§3.3 bytes={} lies beyond the end
* 10- 10-20 99999999999999999999999-
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: bytes={}
= hit | status 416 | Content-Range: bytes */10

# RFC 9110 §14.2.
§3.3 a Range that says nothing, {}, is ignored
* lines=0-1 bytes=5-2 bytes=a-b bytes=1 bytes= bytes_2-5
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: {}
= hit | status 200 | no Content-Range

§3.3 several ranges get as many parts, in the order asked for: bytes={0}
* 0-1,8-9|0-1_8-9 8-9,0-1|8-9_0-1 0-0,2-2,4-4|0-0_2-2_4-4 5-6,-1,0-1|5-6_9-9_0-1 8-,4-5,20-30,0-0|8-9_4-5_0-0
> GET
< Cache-Control: max-age=60 | body 0123456789 | Content-Type: text/plain
= stored
> GET | Range: bytes={0}
= hit | status 206 | check parts {1}

# RFC 9110 §15.3.7.2.
§3.3 ranges that touch or overlap become one: bytes={}
* 2-3,4-5 4-5,2-3 2-4,3-5 2-5,3-3 20-,2-5
> GET
< Cache-Control: max-age=60 | body 0123456789 | Content-Type: text/plain
= stored
> GET | Range: bytes={}
= hit | status 206 | body 2345 | Content-Range: bytes 2-5/10 | Content-Type: text/plain

§3.3 several ranges are served from an answer that came in chunks
> GET
< Cache-Control: max-age=60 | chunked | body 0123456789 | Content-Type: text/plain
= stored
> GET | Range: bytes=8-9,0-1
= hit | status 206 | check parts 8-9 0-1

§3.3 a stored part answers for several ranges within it: bytes={0} of 0-4
* 0-0,3-4|0-0_3-4 3-4,0-1|3-4_0-1 4-4,2-2,0-0|4-4_2-2_0-0
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | Content-Type: text/plain
= stored | status 206
> GET | Range: bytes={0}
= hit | status 206 | check parts {1}

§3.3 stored parts with a gap between them answer for ranges in both: bytes={0}
* 0-1,8-9|0-1_8-9 8-9,0-1|8-9_0-1 7-7,9-9,0-0|7-7_9-9_0-0
> GET | Range: bytes=0-2
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | Content-Type: text/plain
= stored | status 206
> GET | Range: bytes=7-9
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | Content-Type: text/plain
= stored | status 206
> GET | Range: bytes={0}
= hit | status 206 | check parts {1}

§3.3 a stored part does not answer for several ranges of which one is outside
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=8-9,0-1
= forwarded | sent Range: bytes=8-9,0-1

§4.2.3 the time that a part took counts as age
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | Age: 10 | ETag: "a" | body 0123456789 | late 1500
= stored | status 206
> GET | Range: bytes=0-4
= hit | status 206 | age 11..30

# RFC 9110 §14.2: defined for GET alone.
§3.3 a HEAD has no ranges
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> HEAD | Range: bytes=2-5
= hit | status 200 | Content-Length: 10 | no Content-Range

§3.3 a stored error has no ranges
> GET
< 404 | Cache-Control: max-age=60 | body 0123456789
= stored
> GET | Range: bytes=2-5
= hit | status 404 | body 0123456789

# RFC 9110 §13.2.2: conditions first.
§3.3 a condition goes before a range: the same tag
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-None-Match: "a"
= hit | status 304

§3.3 a condition goes before a range: another tag
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-None-Match: "b"
= hit | status 206 | body 2345

# RFC 9110 §13.1.5.
§4.3.2 If-Range with the stored tag lets the range be
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-Range: "a"
= hit | status 206 | body 2345

§4.3.2 If-Range with another tag gets the whole
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-Range: "b"
= hit | status 200 | no Content-Range

§4.3.2 If-Range is compared strongly
> GET
< Cache-Control: max-age=60 | ETag: W/"a" | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-Range: W/"a"
= hit | status 200

§4.3.2 If-Range with the stored date lets the range be
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000} | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-Range: {now-1000}
= hit | status 206 | body 2345

§4.3.2 If-Range with another date gets the whole, {}
* {now-2000} {now-500}
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-1000} | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-Range: {}
= hit | status 200

# RFC 9110 §8.8.2.2.
§4.3.2 If-Range with a date as young as the answer gets the whole
> GET
< Cache-Control: max-age=60 | Last-Modified: {now-5} | Date: {now-5} | body 0123456789
= stored
> GET | Range: bytes=2-5 | If-Range: {now-5}
= hit | status 200

§4.3.2 If-Range without Range means nothing
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored
> GET | If-Range: "b"
= hit | status 200

§3.3 a range of a stale answer is served once that is confirmed
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=2-5
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 206 | body 2345

§3.3 a range of what has changed is of the new answer
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=2-5
< resource | Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= any | asked 1..2 | status 206 | body cdef | ETag: "b"

§3.3 an answer that breaks off is not given out as a whole one
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | cut 5
= any | broken
> GET
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 200 | body 0123456789

§3.3 nor is one in chunks
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | chunked | cut 5
= any | broken
> GET
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 200 | body 0123456789

§3.3 on a miss a range is asked for as it is
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206 | body 01234 | sent Range: bytes=0-4 | Content-Range: bytes 0-4/10

§3.3 a stored part answers for the same range
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=0-4
= hit | status 206 | body 01234 | Content-Range: bytes 0-4/10 | Content-Length: 5

§3.3 a stored part answers for what lies within it: bytes={0} of 5-9
* 6-8|678 6-|6789 -2|89 9-20|9
> GET | Range: bytes=5-
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes={0}
= hit | status 206 | body {1}

§3.3 a stored part does not answer for more: bytes={0} of 0-4
* 5-9|56789 3-7|34567 0-|0123456789 -3|789
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes={0}
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1..2 | status 206 | body {1}

§3.3 a stored part does not answer for the whole
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1..2 | status 200 | body 0123456789 | no Content-Range

§3.3 a stale part is not given out
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789
= forwarded | status 206
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= any | asked 1..2 | status 206 | body abcde

§3.3 a part with {} is not stored
* no-store,max-age=60 private,max-age=60
> GET | Range: bytes=0-4
< resource | Cache-Control: {} | ETag: "a" | body 0123456789
= not-stored | status 206
> GET | Range: bytes=0-4
= forwarded

§3.3 a part asked for with Authorization is not stored
> GET | Range: bytes=0-4 | Authorization: Basic YTpi
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= not-stored | status 206
> GET | Range: bytes=0-4
= forwarded

§3.3 a part whose place is unknown, {}, answers for nothing
* lines_0-4/10 bytes_x bytes_4-0/10 bytes_0-4/3 bytes_*/10
> GET | Range: bytes=0-4
< 206 | Cache-Control: max-age=60 | ETag: "a" | Content-Range: {} | body 01234
= any | asked 1
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1..2 | status 206 | body 01234

§3.3 several parts in one answer are not the whole
> GET | Range: bytes=0-1,8-9
< 206 | Cache-Control: max-age=60 | ETag: "a" | Content-Type: multipart/byteranges; boundary=x | body --x--
= forwarded | status 206
> GET
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 200 | body 0123456789

§3.3 an origin that knows no ranges gives the whole
> GET | Range: bytes=2-5
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | check 2 to 5 or the whole
> GET
< Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 0..1 | status 200 | body 0123456789

§3.3 a refused range is not the answer to the whole
> GET | Range: bytes=20-
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 416
> GET
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 200 | body 0123456789

§3.4 parts that make up the whole answer for it
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=5-9
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206 | body 56789
> GET
= hit | status 200 | body 0123456789 | Content-Length: 10 | no Content-Range

§3.4 parts that overlap make up the whole
> GET | Range: bytes=4-9
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=0-6
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1..2 | status 206 | body 0123456
> GET
= hit | status 200 | body 0123456789 | Content-Length: 10

§3.4 parts that meet answer for what lies across
> GET | Range: bytes=0-3
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=4-7
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=2-5
= hit | status 206 | body 2345 | Content-Range: bytes 2-5/10

§3.4 parts with a gap between them are not the whole
> GET | Range: bytes=0-3
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=6-9
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1 | status 206 | body 6789
> GET
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= any | asked 1..2 | status 200 | body 0123456789

§3.4 the newest part's fields are the whole's
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | X-Own: 1 | X-Kept: 1
= stored | status 206
> GET | Range: bytes=5-9
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789 | X-Own: 2
= stored | status 206 | X-Own: 2
> GET
= hit | status 200 | body 0123456789 | X-Own: 2 | X-Kept: 1

§3.4 parts with different tags are not combined
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=5-9
< resource | Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= any | asked 1..2 | status 206 | body fghij
> GET
< resource | Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= any | asked 0..2 | status 200 | body abcdefghij

§3.4 parts with weak tags are not combined
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: W/"a" | body 0123456789
= forwarded | status 206
> GET | Range: bytes=5-9
< resource | Cache-Control: max-age=60 | ETag: W/"a" | body abcdefghij
= forwarded | status 206 | body fghij
> GET
< resource | Cache-Control: max-age=60 | ETag: W/"b" | body ABCDEFGHIJ
= any | asked 1..2 | status 200 | body ABCDEFGHIJ

§3.4 parts without validators are not combined
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | body 0123456789
= forwarded | status 206
> GET | Range: bytes=5-9
< resource | Cache-Control: max-age=60 | body abcdefghij
= forwarded | status 206 | body fghij
> GET
< resource | Cache-Control: max-age=60 | body ABCDEFGHIJ
= any | asked 1 | status 200 | body ABCDEFGHIJ

§3.4 parts of different lengths are not combined
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789
= stored | status 206
> GET | Range: bytes=5-10
< resource | Cache-Control: max-age=60 | ETag: "a" | body 0123456789A
= any | asked 1..2 | status 206 | body 56789A
> GET
< resource | Cache-Control: max-age=60 | ETag: "b" | body ABCDEFGHIJ
= any | asked 1..2 | status 200 | body ABCDEFGHIJ

§3.4 a part of something newer does not go into a stored whole
> GET
< Cache-Control: max-age=60 | Age: 100 | ETag: "a" | body 0123456789
= stored
> GET | Range: bytes=0-4
< resource | Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= any | asked 1..2 | status 206 | body abcde
> GET
< resource | Cache-Control: max-age=60 | ETag: "b" | body abcdefghij
= any | status 200 | body abcdefghij
"#;

#[test]
fn s3_3_parts_and_ranges() {
    run(CASES);
}
