//! RFC 9111 §4.2: how long an answer is fresh, by what it says (§4.2.1) or by a guess (§4.2.2), and how old it is
//! (§4.2.3).

use super::play::run;

pub(super) const CASES: &str = r#"

§4.2 an answer is fresh while it is younger than its lifetime
< Cache-Control: max-age=60 | Age: 30
= fresh

§4.2 an answer is stale at the end of its lifetime
< Cache-Control: max-age=60 | Age: 60
= not fresh

§4.2 an answer is stale after its lifetime
< Cache-Control: max-age=60 | Age: 100
= not fresh

§4.2 an answer becomes stale as time goes by
> GET
< Cache-Control: max-age=1
= forwarded
> GET
= forwarded | eventually

§4.2 dates are read whatever their case
< Expires: THU, 18 aug 2050 02:01:18 gmt
= fresh

§4.2 a date in another zone than GMT is no date
< Expires: Thu, 18 Aug 2050 02:01:18 UTC
= not fresh

§4.2.1 max-age gives a lifetime
< Cache-Control: max-age=60
= fresh

§4.2.1 max-age=0 gives none
< Cache-Control: max-age=0
= not fresh

§4.2.1 s-maxage gives a lifetime
< Cache-Control: s-maxage=60
= fresh

§4.2.1 a longer s-maxage wins over max-age
< Cache-Control: max-age=0, s-maxage=60
= fresh

§4.2.1 a shorter s-maxage wins over max-age
< Cache-Control: s-maxage=0, max-age=60
= not fresh

§4.2.1 s-maxage wins over max-age on another line
< Cache-Control: max-age=60 | Cache-Control: s-maxage=0
= not fresh

§4.2.1 s-maxage wins over Expires in the past
< Cache-Control: s-maxage=60 | Expires: {now-100}
= fresh

§4.2.1 s-maxage=0 wins over Expires in the future
< Cache-Control: s-maxage=0 | Expires: {now+100}
= not fresh

§4.2.1 max-age wins over Expires in the past
< Cache-Control: max-age=60 | Expires: {now-100}
= fresh

§4.2.1 max-age=0 wins over Expires in the future
< Cache-Control: max-age=0 | Expires: {now+100}
= not fresh

§4.2.1 max-age wins over an Expires that is no date
< Cache-Control: max-age=60 | Expires: 0
= fresh

§4.2.1 Expires in the future gives a lifetime
< Expires: {now+100}
= fresh

§4.2.1 Expires in the past gives none
< Expires: {now-100}
= not fresh

§4.2.1 Expires at the time of Date gives none
< Date: {now} | Expires: {now}
= not fresh

§4.2.1 Expires counts from Date where that is ahead
< Date: {now+400} | Expires: {now+300}
= not fresh

§4.2.1 Expires counts from Date where that is ahead, and leaves time
< Date: {now+1000} | Expires: {now+1060}
= fresh

§4.2.1 Expires counts from Date where that is behind
< Date: {now-30} | Expires: {now+100}
= fresh

§4.2.1 without Date, Expires counts from the time of receipt
< undated | Expires: {now+100}
= fresh

§4.2.1 with a Date that is no date, Expires counts from the time of receipt
< Date: today | Expires: {now+100}
= fresh

§4.2.1 the same lifetime twice is that lifetime
< Cache-Control: max-age=60, max-age=60
= fresh

§4.2.1 of several lifetimes none is believed, the first being the shorter
< Cache-Control: max-age=0, max-age=60
= not fresh

§4.2.1 of several lifetimes none is believed, the first being the longer
< Cache-Control: max-age=60 | Cache-Control: max-age=0
= not fresh

§4.2.1 of several Expires none is believed, the first being the earlier
< Expires: {now-100} | Expires: {now+100}
= not fresh

§4.2.1 of several Expires none is believed, the first being the later
< Expires: {now+100} | Expires: {now-100}
= not fresh

§4.2.1 max-age={} is no lifetime
* abc -60 60.5 60s a60 '60' ""
< Cache-Control: max-age={}
= not fresh

§4.2.1 max-age without a value is no lifetime, and Expires does not step in
< Cache-Control: max-age | Expires: {now+100}
= not fresh

§4.2.1 an s-maxage that is no number is no lifetime, and max-age does not step in
< Cache-Control: s-maxage=abc, max-age=60
= not fresh

§1.2.2 zeros may lead a number
< Cache-Control: max-age=0060
= fresh

§1.2.2 a lifetime of {} is a long one
* 2147483647 2147483648 4294967297 18446744073709551617 99999999999999999999999999
< Cache-Control: max-age={}
= fresh

§5.3 an Expires with a date of RFC 850
< Expires: Thursday, 18-Aug-50 02:01:18 GMT
= fresh

§5.3 an Expires with a date of asctime
< Expires: Thu Aug 18 02:01:18 2050
= fresh

§5.3 an Expires far away
< Expires: Sun, 21 Nov 2286 04:46:39 GMT
= fresh

§5.3 Expires: {} is in the past
* 0 -1 never 2147483647
< Expires: {}
= not fresh

§5.3 an Expires without its comma is in the past
< Expires: Thu 18 Aug 2050 02:01:18 GMT
= not fresh

§5.3 an Expires with a year of two digits in the new form is in the past
< Expires: Thu, 18 Aug 50 02:01:18 GMT
= not fresh

§5.3 an Expires without its seconds is in the past
< Expires: Thu, 18 Aug 2050 02:01 GMT
= not fresh

# RFC 9110 §15.1.
§4.2.2 the lifetime of status {} is guessed from Last-Modified
* 200 203 204 300 301 308 404 405 410 414 501
< {} | Last-Modified: {now-100000}
= fresh

§4.2.2 the lifetime of status {} is not guessed
* 201 202 302 303 307 400 403 500 502 503 504 599
< {} | Last-Modified: {now-100000}
= not fresh

§4.2.2 public lets the lifetime of any status be guessed
< 599 | Cache-Control: public | Last-Modified: {now-100000}
= fresh

§4.2.2 the guess is a tenth of the time since Last-Modified, and not less
< Last-Modified: {now-1000} | Age: 80
= fresh

§4.2.2 the guess is a tenth of the time since Last-Modified, and not more
< Last-Modified: {now-1000} | Age: 120
= not fresh

§4.2.2 the guess is up to a day
< Last-Modified: {now-8640000} | Age: 80000
= fresh

§4.2.2 the guess is a day at most
< Last-Modified: {now-8640000} | Age: 90000
= not fresh

§4.2.2 a lifetime is guessed for a target with a query too
> GET ?a=1
< Last-Modified: {now-100000}
= stored
> GET ?a=1
= hit

§4.2.2 nothing is guessed from a Last-Modified in the future
< Last-Modified: {now+100000}
= not fresh

§4.2.2 nothing is guessed from a Last-Modified at the time of Date
< Date: {now} | Last-Modified: {now}
= not fresh

§4.2.2 nothing is guessed from a Last-Modified that is no date
< Last-Modified: long ago
= not fresh

§4.2.2 nothing is guessed beside max-age=0
< Cache-Control: max-age=0 | Last-Modified: {now-100000}
= not fresh

§4.2.2 nothing is guessed beside s-maxage=0
< Cache-Control: s-maxage=0 | Last-Modified: {now-100000}
= not fresh

§4.2.2 nothing is guessed beside a max-age that is no number
< Cache-Control: max-age=abc | Last-Modified: {now-100000}
= not fresh

§4.2.2 nothing is guessed beside an Expires in the past
< Expires: {now-100} | Last-Modified: {now-100000}
= not fresh

§4.2.2 nothing is guessed beside an Expires that is no date
< Expires: 0 | Last-Modified: {now-100000}
= not fresh

§4.2.3 Age counts against Expires too
< Expires: {now+100} | Age: 200
= not fresh

§4.2.3 an old Date counts where there is no Age
< Date: {now-100} | Cache-Control: max-age=60
= not fresh

§4.2.3 an old Date counts where Age is less
< Date: {now-100} | Cache-Control: max-age=60 | Age: 10
= not fresh

§4.2.3 a recent Date does not outweigh Age
< Date: {now} | Cache-Control: max-age=60 | Age: 100
= not fresh

§4.2.3 a Date in the future makes nothing younger
< Date: {now+1000} | Cache-Control: max-age=60 | Age: 100
= not fresh

§4.2.3 a Date in the future counts as now
< Date: {now+1000} | Cache-Control: max-age=60
= fresh

§4.2.3 the time that the answer took counts
> GET
< Cache-Control: max-age=1 | Date: {now+100} | late 1200
= forwarded
> GET
= forwarded

§4.2.3 an overflowing Age is a long time
< Cache-Control: max-age=2000000000 | Age: 99999999999999999999
= not fresh
"#;

#[test]
fn s4_2_how_long_an_answer_is_fresh() {
    run(CASES);
}
