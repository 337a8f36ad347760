//! RFC 9111 §2, §4 and §4.1: which stored answer a request gets, if any.

use super::play::run;

pub(super) const CASES: &str = r#"

§2 another path is another answer
> GET /a
< Cache-Control: max-age=60
= stored
> GET /b
= forwarded

§2 paths have case
> GET /a
< Cache-Control: max-age=60
= stored
> GET /A
= forwarded

§2 another query is another answer
> GET ?a=1
< Cache-Control: max-age=60
= stored
> GET ?a=2
= forwarded
> GET
= forwarded

§2 the same query is the same answer
> GET ?a=1&b=2
< Cache-Control: max-age=60
= stored
> GET ?a=1&b=2
= hit

§2 the order of a query counts
> GET ?a=1&b=2
< Cache-Control: max-age=60
= stored
> GET ?b=2&a=1
= forwarded

§2 another host is another answer
> GET | Host: one.example
< Cache-Control: max-age=60
= stored
> GET | Host: two.example
= forwarded
> GET | Host: one.example
= hit | of 0

§2 another port is another answer
> GET | Host: one.example:8080
< Cache-Control: max-age=60
= stored
> GET | Host: one.example:8081
= forwarded

# RFC 9110 §4.2.3.
§2 hosts have no case
> GET | Host: one.example
< Cache-Control: max-age=60
= stored
> GET | Host: ONE.example
= hit

# RFC 9112 §3.2.2.
§2 a target in absolute form is the same answer
> GET
< Cache-Control: max-age=60
= stored
> GET http://example.com{path}
= hit

§4 header fields that no Vary names do not count
> GET | Accept: text/a | User-Agent: one
< Cache-Control: max-age=60
= stored
> GET | Accept: text/b | User-Agent: two
= hit

§4 HEAD is answered from a stored GET
> GET
< Cache-Control: max-age=60 | body 0123456789 | X-Own: 1
= stored
> HEAD
= hit | Content-Length: 10 | X-Own: 1
> GET
= hit

§4 of two answers the newer one is given out
> GET
< Cache-Control: max-age=60 | Date: {now-20}
= stored
> GET | Cache-Control: no-cache
< Cache-Control: max-age=60 | Date: {now-10}
= stored
> GET
= hit | of 1

§4 {} is written through to the origin
* POST PUT DELETE PATCH FROB
> GET
< Cache-Control: max-age=60
= stored
> {}
< 403
= forwarded | sent {} | fwd method/bypass

§4 requests at the same time are one request to the origin
> GET
< Cache-Control: max-age=60 | late 400
= any | together 5 | asked 1 | status 200
> GET
= hit

§4 unless the answer may not be shared
> GET
< Cache-Control: private, max-age=60 | late 400
= any | together 5 | asked 5 | status 200 | distinct
> GET
= forwarded

§4.1 the field that Vary names must match
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 1
= hit
> GET | Foo: 2
= forwarded

§4.1 a field that was absent matches absence
> GET
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET
= hit

§4.1 a field that was absent does not match one that is there
> GET
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 1
= forwarded

§4.1 a field that was there does not match absence
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET
= forwarded

§4.1 an empty field is not an absent one
> GET | Foo:
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET
= forwarded

§4.1 values have case
> GET | Foo: a
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: A
= forwarded

§4.1 names in Vary have no case
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: fOO
= stored
> GET | foO: 1
= hit
> GET | Foo: 2
= forwarded

§4.1 all fields that Vary names must match
> GET | Foo: 1 | Bar: a
< Cache-Control: max-age=60 | Vary: Foo, Bar
= stored
> GET | Bar: a | Foo: 1
= hit
> GET | Foo: 1 | Bar: b
= forwarded
> GET | Foo: 2 | Bar: a
= forwarded
> GET | Foo: 1
= forwarded

§4.1 Vary on several lines is one list
> GET | Foo: 1 | Bar: a
< Cache-Control: max-age=60 | Vary: Foo | Vary: Bar
= stored
> GET | Foo: 1 | Bar: b
= forwarded
> GET | Foo: 2 | Bar: a
= forwarded
> GET | Foo: 1 | Bar: a
= hit | of 0

§4.1 empty members of Vary name nothing
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: , Foo,,
= stored
> GET | Foo: 1
= hit
> GET | Foo: 2
= forwarded

§4.1 two variants are kept side by side
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 2
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 1
= hit | of 0
> GET | Foo: 2
= hit | of 1

§4.1 Vary can name Cookie
> GET | Cookie: a=1
< Cache-Control: max-age=60 | Vary: Cookie
= stored
> GET | Cookie: a=2
= forwarded
> GET | Cookie: a=1
= hit | of 0

§4.1 several lines of a field match one line with all members
> GET | Foo: 1, 2
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 1 | Foo: 2
= hit

§4.1 space around the members of a list does not count
> GET | Foo: 1,2
< Cache-Control: max-age=60 | Vary: Foo
= stored
> GET | Foo: 1 ,  2
= hit

# RFC 9110 §12.5.3: the order of codings and the case of their names say nothing.
§4.1 a field is compared by its meaning where that is known
> GET | Accept-Encoding: gzip, br
< Cache-Control: max-age=60 | Vary: Accept-Encoding
= stored
> GET | Accept-Encoding: BR,gzip
= hit
> GET | Accept-Encoding: gzip
= forwarded

§4.1 Vary: {} matches no request
* * *,Foo Foo,* ,*
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: {}
= forwarded
> GET | Foo: 1
= forwarded

§4.1 nor does an asterisk on a line of its own
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo | Vary: *
= forwarded
> GET | Foo: 1
= forwarded

§4.1 an answer that forgot its Vary does not take the place of one that has it
> GET | Foo: 1
< Cache-Control: max-age=60 | Vary: Foo | Date: {now-20}
= stored
> GET
< Cache-Control: max-age=60 | Date: {now-10}
= forwarded
> GET | Foo: 1
= hit | of 0
"#;

#[test]
fn s4_1_which_stored_answer() {
    run(CASES);
}
