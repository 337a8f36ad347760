//! Backstop: a reverse proxy that makes an unreliable upstream look reliable.
//!
//! # The map
//!
//! | module | what it holds |
//! |---|---|
//! | [`cache`] | the store behind Pingora's cache phases |
//! | [`cli`] | the command line |
//! | [`clock`] | what time it is, read once each time that a task is woken |
//! | [`config`] | what the operator wrote: two YAML files, read, checked, compiled. serde, no Pingora |
//! | [`policy`] | decisions, pure: which route, which backend, try again or not, who waits. No sockets, no clock, no dice |
//! | [`proxy`] | the mechanism of one request: the straight way of plain ones, and Pingora's phases; each step asks a policy and obeys |
//! | [`upstream`] | running pools: backends, what is known of them and of each route's traffic, probes, what outlives a reload |
//! | [`server`] | the mechanism of the process: listeners, workers, signals, reload, drain, systemd, the admin address |
//! | [`observe`] | the access log and the process log, neither of which a request waits for |
//! | [`demo`] | the built-in flaky backends of `backstop demo` |
//!
//! Dependencies point one way: `policy` knows none of the others; `config` compiles into it; `proxy` asks it; `server` and
//! `main` wire.
//!
//! # A request's walk
//!
//! A worker ([`server::worker`]) accepts a connection, hands it on if [`policy::spread`] says so, and serves it
//! ([`server::connection`]). A head of HTTP/1 is read by [`server::request`], once [`policy::http1`] has found nothing doubtful in
//! it; it becomes a session of Pingora's only where the phases are needed. Each request takes the snapshot in force, once
//! ([`proxy::snapshot`]), and keeps it to its end. Then, in [`proxy`]:
//!
//! 1. `front`: [`policy::target`] normalises host and path, [`policy::router`] finds the route. Fixed answers and
//!    redirects end here, and so do a browser's questions that [`policy::cors`] answers and a client that [`policy::rate`] finds
//!    asking too often.
//!    Where the route has a cache, [`policy::cache`] says whether it may be asked, under which key, and what is kept; [`cache`]
//!    keeps it. A common hit is answered at once; any other goes on at 6.
//!    The first try of a request that [`policy::plain`] finds to be one is made in `direct`: 3 to 7 without the phases, by the same
//!    functions. All else, and each further try, goes through Pingora's phases:
//! 2. `proxy_upstream_filter`: a body that may have to be sent again is read ahead; the client's session is wrapped, so that
//!    deadlines reach into Pingora's waiting.
//! 3. `upstream_peer`, once for each try: the wait that [`policy::retry`] asked for, which ends when the client leaves;
//!    [`policy::canary`] chooses the side, [`policy::admission`] gives a place or lets it wait, [`policy::balancer`] picks a
//!    backend among those that [`policy::health`] leaves.
//! 4. `upstream_request_filter`: the path is rewritten, [`policy::headers`] are applied.
//! 5. A failure arrives in `fail_to_connect`, `upstream_response_filter` (a listed status) or `error_while_proxy`. All fill
//!    in one `Attempt` and obey [`policy::retry::decide`], within [`policy::budget`]: back to 3, or let it stand. Each try tells
//!    its backend what it met. While an answer is late, [`policy::hedge`] may have another backend asked as well.
//! 6. `response_filter`: what all answers of the route are given ([`policy::cors`], [`policy::security`]), then the route's edits.
//!    `fail_to_proxy`: the answer when no backend's could be had, in the form of [`policy::error_body`].
//! 7. `logging`: one line in the access log ([`observe::access_log`]).
//!
//! # A reload's walk
//!
//! SIGHUP → [`server`] (control thread) → [`config::load`], the same that `-t` and the start use → all errors, or: static
//! keys that differ are named ("needs a restart") → [`server::reload::build`] makes a new snapshot, taking over the unchanged
//! backends with their counters → one swap for each worker, whose handles of it are its own ([`upstream::own`]). Requests under way finish under the old one, but for the limits on how many may
//! run, which are the new ones for all; it is freed when the last ends.
//!
//! # The lexicon
//!
//! *downstream* the client's side · *upstream* a named group of backends · *backend* one address in it · *route* match →
//! action · *try* one attempt, the first included; *retry* a further one · *drain* finish, then close · *spec* as written;
//! *plan* as compiled; *snapshot* as running · *reload* HUP, same process · *phase* a callback of Pingora's `ProxyHttp`.

pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod upstream;
