//! RFC 9111 §3: which answers are stored, with which header fields, and for whom (§3.5). Incomplete ones are in
//! `partial.rs`.

use super::play::run;

pub(super) const CASES: &str = r#"

§3 an answer to GET is stored and given out again, many times
> GET
< Cache-Control: max-age=60
= stored
> GET
= hit
> GET
= hit
> GET
= hit

§3 an answer without content is stored too
> GET
< Cache-Control: max-age=60 | body
= stored
> GET
= hit | Content-Length: 0

§3 an answer in chunks is stored as a whole
> GET
< Cache-Control: max-age=60 | chunked
= stored
> GET
= hit

§3 an answer with neither lifetime nor validator is not given out again
> GET
< X-Own: 1
= forwarded
> GET
= forwarded

§3 an answer with a validator alone is stored and validated
> GET
< ETag: "a"
= stored
> GET
< confirms | ETag: "a"
= validated

# Explicit freshness makes any final status storable, known or not.
§3 status {} is stored with an explicit lifetime
* 203 204 299 301 302 303 307 308 400 404 410 451 499 500 502 503 504 599
> GET
< {} | Cache-Control: max-age=60
= stored
> GET
= hit | status {}

§3 a status that is not heuristically cacheable is not stored for its validator's sake
> GET
< 599 | ETag: "a"
= not-stored
> GET
= forwarded

§3 a 304 that answers no question of the cache is never stored as an answer
> GET | If-None-Match: "a"
< 304 | ETag: "a" | Cache-Control: max-age=60
= any
> GET
< Cache-Control: max-age=60
= stored

# RFC 9110 §9.3.3: only with Content-Location, and Backstop stores answers to GET alone.
§3 the answer to a POST is not given to a GET
> POST
< Cache-Control: max-age=60
= not-stored
> GET
= forwarded

§3 the answer to a POST is not given to the next POST
> POST
< Cache-Control: max-age=60 | Content-Location: {path}
= forwarded
> POST
< Cache-Control: max-age=60 | Content-Location: {path}
= forwarded

# RFC 9110 §9.3.4, §9.3.5, §9.3.7.
§3 the answer to {} is not stored
* PUT DELETE OPTIONS
> {}
< Cache-Control: max-age=60
= not-stored
> GET
= forwarded

§3 the answer to a method that is not understood is not stored
> FROB
< Cache-Control: max-age=60
= not-stored
> FROB
< Cache-Control: max-age=60
= not-stored
> GET
= forwarded

§3 the answer to a HEAD is not given to a GET
> HEAD
< Cache-Control: max-age=60
= forwarded | sent HEAD
> GET
= forwarded

# RFC 9111 §7.3 leaves this to the origin; a session given out twice is not worth the risk.
§7.3 an answer that sets a cookie is not stored
> GET
< Cache-Control: public, max-age=60 | Set-Cookie: a=1
= not-stored | Set-Cookie: a=1
> GET
= forwarded

§7.3 a request with a cookie gets what is stored for all
> GET | Cookie: a=1
< Cache-Control: max-age=60
= stored
> GET | Cookie: a=2
= hit
> GET
= hit

§3.1 all header fields are stored, unknown ones and repeated ones too
> GET
< Cache-Control: max-age=60 | X-Own: 1 | Content-Language: de | X-Own: 2 | Content-Own: x | ETag: W/"a"
= stored
> GET
= hit | X-Own: 1, 2 | Content-Language: de | Content-Own: x | ETag: W/"a"

§3.1 content coding and type are stored
> GET
< Cache-Control: max-age=60 | Content-Encoding: x-own | Content-Type: text/own; a="b"
= stored
> GET
= hit | Content-Encoding: x-own | Content-Type: text/own; a="b"

§3.1 fields that Connection names are not stored
> GET
< Cache-Control: max-age=60 | Connection: X-Hop, x-other-hop | X-Hop: 1 | X-Other-Hop: 2 | X-End: 3
= stored | no X-Hop | no X-Other-Hop | X-End: 3
> GET
= hit | no X-Hop | no X-Other-Hop | X-End: 3

# RFC 9110 §7.6.1.
§3.1 fields of the connection are not stored, whether Connection names them or not
> GET
< Cache-Control: max-age=60 | Keep-Alive: timeout=77 | Proxy-Connection: keep-alive | Upgrade: own/1
= stored
> GET
= hit | no Keep-Alive | no Proxy-Connection | no Upgrade

§3.1 {} is not stored
* Proxy-Authenticate Proxy-Authentication-Info Proxy-Authorization
> GET
< Cache-Control: max-age=60 | {}: Basic realm="a"
= stored
> GET
= hit | no {}

§3.5 an answer to a request with Authorization is not stored
> GET | Authorization: Basic YTpi
< Cache-Control: max-age=60
= not-stored | sent Authorization: Basic YTpi
> GET | Authorization: Basic YTpi
= forwarded

§3.5 nor when the lifetime is in Expires
> GET | Authorization: Basic YTpi
< Expires: {now+60}
= not-stored
> GET
= forwarded

§3.5 nor when it has to be guessed
> GET | Authorization: Basic YTpi
< Last-Modified: {now-100000}
= not-stored
> GET
= forwarded

§3.5 nor with proxy-revalidate, which does not allow it
> GET | Authorization: Basic YTpi
< Cache-Control: max-age=60, proxy-revalidate
= not-stored
> GET
= forwarded

§3.5 {} allows it to be stored and given to all
* public,max-age=60 s-maxage=60 must-revalidate,max-age=60
> GET | Authorization: Basic YTpi
< Cache-Control: {}
= stored
> GET | Authorization: Basic YTpi
= hit
> GET
= hit
> GET | Authorization: Basic Yzpk
= hit

§3.5 what must-revalidate allowed is validated once stale
> GET | Authorization: Basic YTpi
< Cache-Control: max-age=60, must-revalidate | Age: 100 | ETag: "a"
= stored
> GET | Authorization: Basic Yzpk
< confirms | ETag: "a"
= validated | sent Authorization: Basic Yzpk

§3.5 private forbids what public would allow
> GET | Authorization: Basic YTpi
< Cache-Control: public, private, max-age=60
= not-stored
> GET
= forwarded

§3.5 what was stored without Authorization is given to who sends it
> GET
< Cache-Control: max-age=60
= stored
> GET | Authorization: Basic YTpi
= hit
"#;

#[test]
fn s3_what_is_stored() {
    run(CASES);
}
