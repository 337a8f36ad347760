//! The mechanism of the process: start, signals, reload, drain.
//!
//! [`run`] is the whole life of a server. The calling thread becomes the control thread: it takes the signals, reads the
//! files and looks up names, so that workers do nothing but requests.

pub mod acme;
pub mod admin;
pub mod alarm;
pub mod connection;
pub mod flag;
mod head_clock;
pub mod http2;
mod introduction;
pub mod listener;
mod origin_date;
pub mod pid_file;
pub mod reload;
pub mod request;
pub mod rooms;
pub mod sites;
#[cfg(test)]
mod sleeper;
pub mod spread;
mod state;
pub mod stream;
mod subject;
mod systemd;
pub mod tls;
pub mod transport;
pub mod visitors;
pub mod worker;

use crate::cache::disk::DiskSettings;
use crate::cache::{Cache, CacheError};
use crate::config::CacheSettings;
use crate::config::{self, Loaded, LogTarget, Settings};
use crate::observe::access_log::Writer;
use crate::observe::process_log::{self, ProcessLog};
use crate::observe::traces::Exporter;
use crate::proxy::Live;
use crate::proxy::authenticate::basic::Directory;
use crate::proxy::authenticate::source;
use crate::proxy::snapshot::Doors;
use crate::upstream::resolver::Resolver;
use crate::upstream::tls::UpstreamTls;
use crate::upstream::{probes, traffic};
use admin::Guard;
use admin::key::Key;
use log::{debug, error, info, warn};
use pid_file::PidFile;
use reload::Reloader;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use visitors::Visitors;
use worker::Shared;

/// How long the process stays, after the last request, to send the last spans.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// How long the process stays, after the last request, to send the last file of its log where those go.
const LAST_FILE: Duration = Duration::from_secs(5);
/// How soon a name that did not resolve is looked up again.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Why the server could not start. Its text is what the operator sees.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files are wrong.
    #[error(transparent)]
    Config(#[from] reload::ReloadError),
    /// Some addresses cannot be listened on.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Listen(Vec<listener::ListenError>),
    /// A file named in the configuration cannot be written.
    #[error("{what}: {source}")]
    File {
        /// Which file.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The system refused a thread, a signal handler or the like.
    #[error("the process cannot start: {0}")]
    System(#[from] io::Error),
}

/// The cache. A directory that cannot be used costs what would be stored in it, not the service.
fn open_cache(settings: &CacheSettings) -> Result<Cache, CacheError> {
    let memory = usize::try_from(settings.memory).unwrap_or(usize::MAX);
    let disk = settings.disk.clone().map(|disk| DiskSettings {
        path: disk.path,
        max_size: disk.max_size,
        min_free: disk.min_free,
    });
    let cache = Cache::new(memory, disk)?;
    cache.start();
    Ok(cache)
}

/// For how many descriptors there is room from the start on: 512 KiB in the kernel.
const MOST_DESCRIPTORS: u64 = 65_536;

/// Serves the configuration in `config_file` until a signal ends it.
///
/// # Errors
/// When it cannot start; nothing is listened on then.
pub fn run(config_file: &Path) -> Result<(), StartError> {
    raise_descriptor_limit();
    make_room_for_descriptors();
    refuse_huge_pages();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before anything else: a signal during the start must find a handler.
        let mut signals = Signals::install()?;
        let server = Server::start(config_file).await?;
        server.control(&mut signals).await;
        Ok(())
    })
}

/// Takes all the descriptors that the system allows: shells give 1024 at first, for programs that would fail with more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(e) = setrlimit(Resource::Nofile, most) {
        warn!("the limit of open files stays at {:?}: {e}", limit.current);
    }
}

/// Has the kernel make its table of descriptors large while there is one thread: later, each time it doubles, all threads that
/// open something wait for one another, some 15 ms.
fn make_room_for_descriptors() {
    let most = getrlimit(Resource::Nofile)
        .current
        .unwrap_or(MOST_DESCRIPTORS);
    let last = i32::try_from(most.min(MOST_DESCRIPTORS)).unwrap_or(i32::MAX) - 1;
    // It is closed at once. Where it cannot be had, the table grows as it always did.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), last);
}

/// Memory comes in pages of 4 KiB: the kernel clears a huge one in the middle of a request, and of thousands of connections each
/// holds a little of one.
fn refuse_huge_pages() {
    if let Err(e) = rustix::thread::disable_transparent_huge_pages(true) {
        debug!("huge pages stay on: {e}");
    }
}

/// Whether the certificates can be read, and the files that a start would write can be there, as far as that shows without writing them. Directories that
/// are missing may be made by then: the unit makes its own.
///
/// # Errors
/// A sentence for each that cannot.
pub fn preflight(loaded: &Loaded) -> Result<Vec<String>, Vec<String>> {
    let settings = &loaded.settings;
    let log = match &settings.access_log.to {
        LogTarget::File(path) => Some(("access_log.path", path.as_path())),
        LogTarget::Stdout | LogTarget::Off | LogTarget::Syslog(_) => None,
    };
    let pid = settings.pid_file.as_deref().map(|path| ("pid_file", path));
    let fetched = settings.acme.as_ref().map(|acme| acme.path.as_path());
    let no_directory = fetched.filter(|path| path.exists() && !path.is_dir());
    let state = settings.state_file.as_deref();
    let state = state.map(|path| ("state_file", path));
    let mut problems: Vec<String> = log
        .into_iter()
        .chain(pid)
        .chain(state)
        .filter(|(_, path)| path.is_dir())
        .map(|(key, path)| format!("{key}: {} is a directory, not a file", path.display()))
        .collect();
    problems.extend(
        no_directory
            .map(|path| format!("acme.path: {} is a file, not a directory", path.display())),
    );
    let mut known = Vec::new();
    match tls::check(settings) {
        Ok(said) => known = said,
        Err(wrong) => problems.extend(wrong),
    }
    let users = settings
        .admin
        .as_ref()
        .and_then(|admin| admin.auth.as_deref());
    if let Some(Err(e)) = users.map(Directory::open) {
        problems.push(format!("admin.auth: {e}"));
    }
    problems.extend(
        reload::entrances(&loaded.routing, None)
            .err()
            .map(|e| e.to_string()),
    );
    for upstream in &loaded.routing.upstreams {
        let opened = upstream.tls.as_ref().map(UpstreamTls::open);
        if let Some(Err(e)) = opened {
            problems.push(format!("upstreams.{}.tls: {e}", upstream.name));
        }
    }
    if problems.is_empty() {
        Ok(known)
    } else {
        Err(problems)
    }
}

struct Signals {
    reload: Signal,
    reopen: Signal,
    quit: Signal,
    terminate: Signal,
    interrupt: Signal,
    _file_size: Signal,
}

enum Command {
    Reload,
    Reopen,
    Drain(&'static str),
    Now,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Signals {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // A limit on the size of files costs a file, not the process: the write fails.
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    async fn next(&mut self) -> Command {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Command::Now,
            _ = self.terminate.recv() => Command::Drain("TERM"),
            _ = self.quit.recv() => Command::Drain("QUIT"),
            _ = self.reopen.recv() => Command::Reopen,
            _ = self.reload.recv() => Command::Reload,
        }
    }
}

struct Server {
    settings: Settings,
    /// Says that certificates are to be read again.
    certificates_due: Arc<Notify>,
    /// Says that those which could not be fetched are to be fetched now.
    fetch_due: Arc<Notify>,
    reloader: Reloader,
    shared: Shared,
    shutdown: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    access_log: Writer,
    traces: Option<Exporter>,
    _pid_file: Option<PidFile>,
    /// Dropped last: what is logged at the end is written, too.
    _process_log: ProcessLog,
}

impl Server {
    async fn start(config_file: &Path) -> Result<Self, StartError> {
        let Loaded {
            settings, routing, ..
        } = config::load(config_file).map_err(reload::ReloadError::from)?;
        let process_log = process_log::start(settings.log_level)?;
        let summary = reload::summary(&routing);
        let open = listener::open(&settings).map_err(StartError::Listen)?;
        let access_log =
            Writer::start(&settings.access_log).map_err(|source| StartError::File {
                what: format!(
                    "the access log cannot be opened ({:?})",
                    settings.access_log.to
                ),
                source,
            })?;
        let traces = settings.traces.as_ref().map(Exporter::start).transpose()?;
        let pid_file = PidFile::write(settings.pid_file.as_deref(), config_file).map_err(
            |(place, source)| StartError::File {
                what: format!("the pid file {} cannot be written", place.display()),
                source,
            },
        )?;
        let resolver = Arc::new(Resolver::new(&settings.resolver));
        let accesses = settings.listeners.iter().map(|l| l.access.rules.clone());
        let doors = Doors {
            listeners: accesses.collect(),
            trusted: settings.trusted_proxies.addresses.clone(),
            introducing: settings.trusted_proxies.addresses.clone(),
        };
        let snapshot = reload::build(routing, doors, None, &resolver).await?;
        if let Some(path) = &settings.state_file {
            state::restore(path, &snapshot);
        }
        let live = Live::new(snapshot, settings.workers);
        let (shutdown, stopping) = watch::channel(false);
        let (spread, shares) = spread::among(settings.workers);
        let shared = Shared {
            live: live.clone(),
            log: access_log.log(),
            traces: traces.as_ref().map(Exporter::traces),
            counts: Arc::default(),
            cache: open_cache(&settings.cache).map_err(io::Error::other)?,
            leaving: Arc::new(AtomicBool::new(false)),
            draining: Arc::new(AtomicBool::new(false)),
            shutdown: stopping,
            visitors: Visitors::new(settings.clients),
            spread,
            clients: settings.clients,
        };
        let workers = shares
            .into_iter()
            .enumerate()
            .map(|(index, share)| worker::start(index, &open.listeners, share, shared.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        tokio::spawn(follow_names(live.clone(), resolver.clone()));
        let certificates_due = Arc::new(Notify::new());
        let terminators = open.listeners.iter().filter_map(|l| l.manner.tls.clone());
        let terminators: Vec<_> = terminators.collect();
        let stores: Vec<_> = terminators.iter().map(|tls| tls.store.clone()).collect();
        stores.iter().for_each(|store| tls::warn_of_ends(store));
        tokio::spawn(tls::follow(terminators, certificates_due.clone()));
        let fetch_due = Arc::new(Notify::new());
        let (wanted, due) = (settings.clone(), fetch_due.clone());
        let proofs = open.proofs;
        tokio::spawn(async move { acme::follow(&wanted, proofs, due).await });
        if let Some(path) = &settings.state_file {
            tokio::spawn(state::follow(path.clone(), live.clone()));
        }
        let in_force = live.clone();
        tokio::spawn(probes::follow(move || in_force.load().upstreams.clone()));
        let in_force = live.clone();
        tokio::spawn(source::follow(move || {
            reload::sources(&in_force.load().entrances).collect()
        }));
        let in_force = live.clone();
        tokio::spawn(traffic::follow(move || in_force.load().traffic.clone()));
        let addresses: Vec<_> = settings
            .listeners
            .iter()
            .map(|l| l.address.to_string())
            .collect();
        if let (Some(socket), Some(admin)) = (open.admin, &settings.admin) {
            let users = admin.auth.as_deref().map(Directory::open).transpose();
            let key = admin::key::place(settings.pid_file.as_deref(), config_file);
            let asked = Arc::new(Guard {
                users: users.map_err(reload::ReloadError::Gate)?,
                key: Key::make(key)?,
            });
            let scene = admin::Scene {
                shared: shared.clone(),
                stores: stores.clone(),
            };
            admin::start(socket, asked, scene)?;
            info!("the admin address is {}", admin.address);
        }
        info!("configuration 1 is in force: {summary}");
        info!(
            "listening on {} with {} workers, process {}",
            addresses.join(", "),
            settings.workers,
            std::process::id()
        );
        systemd::ready(&format!("Serving {summary}"));
        Ok(Server {
            certificates_due,
            fetch_due,
            reloader: Reloader::new(
                config_file,
                settings.clone(),
                live,
                resolver,
                shared.counts.clone(),
            ),
            settings,
            shared,
            shutdown,
            workers,
            access_log,
            traces,
            _pid_file: pid_file,
            _process_log: process_log,
        })
    }

    /// Obeys signals until the process is to end.
    async fn control(self, signals: &mut Signals) {
        loop {
            match signals.next().await {
                Command::Reload => {
                    systemd::reloading();
                    self.certificates_due.notify_one();
                    self.fetch_due.notify_one();
                    let outcome = self.reloader.reload().await;
                    systemd::ready(&outcome.status);
                }
                Command::Reopen => {
                    self.access_log.reopen();
                    info!("logs reopened");
                }
                Command::Drain(name) => return self.drain(name, signals).await,
                Command::Now => {
                    info!("INT: exiting now");
                    return self.finish(Duration::ZERO);
                }
            }
        }
    }

    /// Stops accepting, lets requests finish, and returns when the last one has, at `drain_timeout`, or at a second signal.
    async fn drain(mut self, name: &str, signals: &mut Signals) {
        if !self.settings.pre_drain.is_zero() {
            info!(
                "{name}: not ready any more, draining in {:?}",
                self.settings.pre_drain
            );
            self.shared.leaving.store(true, Ordering::Relaxed);
            let again = second_signal(signals, &self.access_log);
            let waited = tokio::time::timeout(self.settings.pre_drain, again).await;
            if waited.is_ok() {
                warn!(
                    "second signal, cutting {} connections",
                    self.shared.visitors.open()
                );
                return self.finish(Duration::ZERO);
            }
        }
        let begun = Instant::now();
        let open = || self.shared.visitors.open();
        info!(
            "{name}: draining {} connections, at most {:?}",
            open(),
            self.settings.drain_timeout
        );
        systemd::stopping("Draining");
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.draining.store(true, Ordering::Relaxed);
        // Workers hold receivers as long as they run.
        let _ = self.shutdown.send(true);
        let (finished, all_finished) = tokio::sync::oneshot::channel();
        let workers = std::mem::take(&mut self.workers);
        let joiner = std::thread::spawn(move || {
            for worker in workers {
                let _ = worker.join();
            }
            let _ = finished.send(());
        });
        let again = second_signal(signals, &self.access_log);
        tokio::select! {
            _ = all_finished => {
                let _ = joiner.join();
                info!("drained in {} ms, exiting", begun.elapsed().as_millis());
            }
            () = tokio::time::sleep(self.settings.drain_timeout) => {
                warn!("drain_timeout reached, cutting {} connections", open());
            }
            () = again => warn!("second signal, cutting {} connections", open()),
        }
        self.finish(LAST_FILE);
    }

    /// Writes down what is to be there later. So long it may take to send the last file of the log where those go.
    fn finish(self, shipping: Duration) {
        if let Some(path) = &self.settings.state_file
            && let Err(e) = state::save(path, &self.shared.live.load())
        {
            error!("state_file {} cannot be written: {e}", path.display());
        }
        if let Some(traces) = self.traces {
            traces.finish(shipping.min(LAST_SPANS));
        }
        self.access_log.finish(shipping);
    }
}

/// Obeys signals while the process ends; ends with one that says not to wait for that.
async fn second_signal(signals: &mut Signals, log: &Writer) {
    loop {
        match signals.next().await {
            Command::Drain(_) | Command::Now => return,
            Command::Reload => warn!("a reload during the drain is ignored"),
            Command::Reopen => log.reopen(),
        }
    }
}

/// Looks up the names in force, round after round; those that were never resolved sooner, but less and less often.
async fn follow_names(live: Live, resolver: Arc<Resolver>) {
    let mut round = Instant::now();
    let mut eager = FIRST_RETRY;
    loop {
        let due = round + resolver.interval();
        let left = due.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.min(eager)).await;
        let all = Instant::now() >= due;
        // Only the backends are held meanwhile, not the configuration they belong to.
        let named: Vec<_> = reload::backends(&live.load().upstreams)
            .filter(|backend| backend.name().is_some() && (all || !backend.has_address()))
            .cloned()
            .collect();
        eager = if named.iter().any(|b| !b.has_address()) {
            eager * 2
        } else {
            FIRST_RETRY
        };
        resolver.refresh(named).await;
        if all {
            round = Instant::now();
        }
    }
}
