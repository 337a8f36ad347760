//! The end-to-end tests: the real process, scripted backends, raw clients. One binary, so that it is linked once.
// A test says what it expects by failing where it does not come.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browser; // Chromium
mod client; // HTTP/1, byte for byte
mod client2; // HTTP/2 with prior knowledge
mod client_tls; // TLS, and certificates made for a test
mod command; // the program run to its end
mod harness; // the process under test
mod origin; // backends that fail on purpose
mod origin2; // the same by HTTP/2
mod program; // other programs
mod reply; // what such a backend sees and does

mod access; // who may come in, and with what
mod access_log; // one JSON line per request
mod acme; // certificates fetched from an authority
mod admin; // the operator's address
mod architecture; // the rules of the source tree
mod auth; // who has to prove who they are
mod balancing; // which backend a request goes to
mod block; // paths that are answered before a route is looked for
mod budget; // how many retries a route may make
mod cache; // a route with a cache: when it is asked, how long it keeps an answer
mod cache_canary; // a split route: each side has its own
mod cache_changes; // what an unsafe method makes void
mod cache_confidence; // no secret in a file
mod cache_crash; // killed while it writes
mod cache_crowd; // a hundred thousand requests of fifty people
mod cache_damage; // files that are not what they were
mod cache_disk; // what is kept in a directory: restarts, limits, people
mod cache_fill; // one fill for many, stale answers
mod cache_full; // no room, no disk
mod cache_growing; // many readers of what is still coming
mod cache_guests; // what one client may do to the answers of others
mod cache_huge; // 2 GiB, a million objects
mod cache_memory; // what is kept in memory, and that it is no more
mod cache_people; // nobody gets another's answer
mod cache_purge; // what is purged does not come back
mod cache_purge_again; // what was found before a purge does not bring it back
mod cache_stale; // stale answers on purpose
mod cache_stored; // which answers are stored, sizes, memory
mod cache_storm; // many at once for what fails
mod canary; // a share for another upstream
mod client_left; // clients that do not wait
mod clients; // how long and how many of them are borne with
mod compress; // answers compressed for each client
mod concurrency; // how many at once, and who waits
mod config_cli; // the command line and configuration errors
mod content; // content that has to be JSON
mod cors; // whose scripts may read answers
mod direct; // plain requests, beside Pingora's phases
mod dns; // backends with names
mod eject; // backends that fail, and how they come back
mod error_pages; // what answers of our own say
mod flaky; // what it is all for: unreliable backends look reliable
mod forward_auth; // a service that is asked who may pass
mod headers; // what is added, edited and removed on the way
mod health_check; // probes
mod hedge; // a second request while the first is late
mod hedge_connect; // the same before there is a connection
mod hold_up; // what clients could hold up, break or get past
mod http; // the protocol itself
mod http2; // connections with many streams
mod jwt; // tokens
mod log_formats; // the access log as other programs write it
mod maintenance; // what an operator does to a running process
mod mirror; // copies for another upstream
mod observe; // metrics, success, readiness, the page
mod page; // the page in a browser
mod proxy_protocol; // who is behind a load balancer that forwards TCP
mod rate_limit; // how often one client may ask
mod reload; // a new configuration in a running process
mod replay; // request bodies sent again
mod respond; // answers without an upstream
mod retry; // further tries, and why there is none
mod retry_methods; // which methods are sent again
mod rfc9111; // caching as the origin says: conformance, case by case
mod routing; // which route a request takes
mod security_headers; // what makes browsers careful
mod ship; // files of the log on their way to S3
mod shutdown; // drain and exit
mod smuggling; // requests inside of requests
mod smuggling_http2; // the same by HTTP/2
mod smuggling_paths; // paths that are not what they seem
mod spread; // which worker has how many connections
mod timeouts; // every wait ends
mod tls; // certificates, and what is inside of TLS
mod traces; // spans of requests and tries
mod trailers; // fields that follow content
mod upstream_http2; // HTTP/2 to backends, and what gRPC asks for
mod upstream_tls; // TLS to backends
mod ways; // beside Pingora's phases and through them
mod websocket; // tunnels
