//! RFC 9111 §4.4: what a request that changes something does to stored answers.

use super::play::run;

pub(super) const CASES: &str = r#"

§4.4 {} that succeeds invalidates its target
* POST PUT DELETE PATCH
> GET
< Cache-Control: max-age=60
= stored
> {}
= forwarded
> GET
= forwarded

§4.4 a method whose safety is unknown, like {}, invalidates its target
* FROB M-SEARCH
> GET
< Cache-Control: max-age=60
= stored
> {}
= forwarded
> GET
= forwarded

§4.4 {} is safe and invalidates nothing
* OPTIONS HEAD
> GET
< Cache-Control: max-age=60 | body 0123456789
= stored
> {}
< body 0123456789
= any
> GET
= hit | of 0

§4.4 status {} is no error
* 200 201 202 204 299 301 302 303 307
> GET
< Cache-Control: max-age=60
= stored
> POST
< {}
= forwarded
> GET
= forwarded

§4.4 status {} is an error and invalidates nothing
* 400 404 412 499 500 503 599
> GET
< Cache-Control: max-age=60
= stored
> POST
< {}
= forwarded
> GET
= hit | of 0

§4.4 all variants are invalidated
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 2
< Cache-Control: max-age=60 | Vary: Foo
= stored
> POST | Foo: 1
= forwarded
> GET | Foo: 1
= forwarded
> GET | Foo: 2
= forwarded

§4.4 another query is another target
> GET ?a=1
< Cache-Control: max-age=60
= stored
> POST ?a=2
= forwarded
> GET ?a=1
= hit | of 0

§4.4 another host is another target
> GET | Host: one.example
< Cache-Control: max-age=60
= stored
> POST | Host: two.example
= forwarded
> GET | Host: one.example
= hit | of 0

# RFC 9110 §4.2.3.
§4.4 the usual port makes no other target: {0} after {1}
* example.com|example.com:80 example.com:80|example.com example.com:80|EXAMPLE.com example.com|example.com:
> GET | Host: {0}
< Cache-Control: max-age=60
= stored
> POST | Host: {1}
= forwarded
> GET | Host: {0}
= forwarded

§4.4 what comes after is stored again
> GET
< Cache-Control: max-age=60
= stored
> POST
= forwarded
> GET
< Cache-Control: max-age=60
= stored
> GET
= hit | of 2

§4.4 what is invalidated does not stand in for a failure
> GET
< Cache-Control: max-age=60, stale-if-error=1000 | ETag: "a"
= stored
> POST
= forwarded
> GET
< reset
= error

§4.4 what is invalidated is not given to who would take it stale
> GET
< Cache-Control: max-age=60, stale-while-revalidate=1000 | ETag: "a"
= stored
> POST
= forwarded
> GET | Cache-Control: max-stale
= forwarded

§4.4 Location of the same origin is invalidated
> GET /b
< Cache-Control: max-age=60
= stored
> POST /a
< 201 | Location: http://example.com{path}/b
= forwarded
> GET /b
= forwarded

§4.4 Content-Location of the same origin is invalidated
> GET /b
< Cache-Control: max-age=60
= stored
> PUT /a
< Content-Location: http://example.com{path}/b
= forwarded
> GET /b
= forwarded

# RFC 3986 §5.2.
§4.4 Location may be relative, as {path}{}
* /b?c=1 /b?c=1#end /x/../b?c=1
> GET /b?c=1
< Cache-Control: max-age=60
= stored
> POST /a
< 303 | Location: {path}{}
= forwarded
> GET /b?c=1
= forwarded

§4.4 Content-Location may be relative, as {}
* b ./b ../x/b //example.com{path}/x/b
> GET /x/b
< Cache-Control: max-age=60
= stored
> PUT /x/a
< Content-Location: {}
= forwarded
> GET /x/b
= forwarded

§4.4 the host of a Location has no case
> GET /b
< Cache-Control: max-age=60
= stored
> POST /a
< 201 | Location: HTTP://Example.COM{path}/b
= forwarded
> GET /b
= forwarded

§4.4 Location at {} is of another origin
* http://other.example https://example.com http://example.com:8080 http://example.com.other.example //other.example
> GET /b
< Cache-Control: max-age=60
= stored
> POST /a
< 201 | Location: {}{path}/b
= forwarded
> GET /b
= hit | of 0

§4.4 what another origin has stored is not invalidated
> GET /b | Host: other.example
< Cache-Control: max-age=60
= stored
> PUT /a
< Location: http://other.example{path}/b | Content-Location: http://other.example{path}/b
= forwarded
> GET /b | Host: other.example
= hit | of 0

§4.4 an error invalidates no Location
> GET /b
< Cache-Control: max-age=60
= stored
> POST /a
< 409 | Location: {path}/b | Content-Location: {path}/b
= forwarded
> GET /b
= hit | of 0

§4.4 the answer to a GET invalidates no Location
> GET /b
< Cache-Control: max-age=60
= stored
> GET /a
< Content-Location: {path}/b | Cache-Control: max-age=60
= stored
> GET /b
= hit | of 0

§4.4 a Location that is no reference does no harm
> GET
< Cache-Control: max-age=60
= stored
> POST
< 201 | Location: http://[ | Content-Location: %zz
= forwarded
> GET
= forwarded
"#;

#[test]
fn s4_4_invalidation() {
    run(CASES);
}
