//! The static file: what only a restart changes.
//!
//! Read by `config::load`; `server` builds the process from [`Settings`] and asks [`Settings::changed_keys`] at a reload.

use super::access::{Entry, Lists, within};
use super::access_log::{AccessLog, AccessLogSpec};
use super::acme::{Acme, AcmeSpec};
use super::address::{ListenAddress, ServerAddress};
use super::admin::{Admin, AdminSpec};
use super::clients::{Clients, ClientsSpec};
use super::duration::{PositiveSpan, Span};
use super::files;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::patterns::FileText;
use super::report::{Document, Report};
use super::store::{CacheSettings, StoreSpec};
use super::tls::{Tls, TlsSpec};
use super::to_https::ToHttps;
use super::traces::{Traces, TracesSpec};
use super::written::{Complaint, Written, meant, written};
use crate::policy::access::{Access, AddressSet};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The static part of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where clients connect; at least one, no address twice.
    pub listeners: Vec<Listener>,
    /// Who is believed when it says for whom it asks.
    pub trusted_proxies: TrustedProxies,
    /// How long and how many clients are borne with.
    pub clients: Clients,
    /// Worker threads, at least 1. `auto` is resolved to the number of processors here.
    pub workers: usize,
    /// How long the process says that it will end before it begins to.
    pub pre_drain: Duration,
    /// How long running requests may take to end once the process is asked to.
    pub drain_timeout: Duration,
    /// How names of backends are looked up.
    pub resolver: Resolver,
    /// Where answers are kept.
    pub cache: CacheSettings,
    /// Where certificates are fetched, if any are.
    pub acme: Option<Acme>,
    /// Where the operator asks how things are, if anywhere; no listener has this address.
    pub admin: Option<Admin>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Where spans go, if anywhere.
    pub traces: Option<Traces>,
    /// What the process's own log shows.
    pub log_level: log::LevelFilter,
    /// Where the success of late is kept for the next process, if anywhere; absolute.
    pub state_file: Option<PathBuf>,
    /// Where the process id is written, if anywhere; absolute.
    pub pid_file: Option<PathBuf>,
}

/// One address on which clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// IP address and port.
    pub address: SocketAddr,
    /// Whether HTTP/2 is spoken beside HTTP/1: in clear text by "prior knowledge".
    pub http2: bool,
    /// How TLS is spoken, if at all.
    pub tls: Option<Tls>,
    /// To which port of the same host clients are sent for the same URL by TLS, if they are.
    pub redirect_to_https: Option<u16>,
    /// Who may come in here; a reload puts it in force.
    pub access: ListenerAccess,
    /// Whether only trusted proxies connect, and say first for whom: the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Who may come in at a listener: the rules, and how they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerAccess {
    /// What is asked.
    pub rules: Access,
    allow: Option<Vec<Entry>>,
    deny: Option<Vec<Entry>>,
}

/// Proxies in front of this one: their addresses, and how they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// What is asked; a reload puts it in force.
    pub addresses: Arc<AddressSet>,
    written: Vec<Entry>,
}

/// How names of backends are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// DNS servers; empty means those of the system.
    pub servers: Vec<SocketAddr>,
    /// How often names are looked up again; above 0.
    pub interval: Duration,
}

impl Settings {
    /// The top-level keys of the static file that need a restart and whose values differ in `other`, in the order of the
    /// documentation.
    pub fn changed_keys(&self, other: &Settings) -> Vec<&'static str> {
        [
            ("listeners", !self.listens_as(other)),
            ("clients", self.clients != other.clients),
            ("workers", self.workers != other.workers),
            ("pre_drain", self.pre_drain != other.pre_drain),
            ("drain_timeout", self.drain_timeout != other.drain_timeout),
            ("resolver", self.resolver != other.resolver),
            ("cache", self.cache != other.cache),
            ("acme", self.acme != other.acme),
            ("admin", self.admin != other.admin),
            ("access_log", self.access_log != other.access_log),
            ("traces", self.traces != other.traces),
            ("log", self.log_level != other.log_level),
            ("state_file", self.state_file != other.state_file),
            ("pid_file", self.pid_file != other.pid_file),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }

    /// Whether the listeners are the same, whoever may come in there.
    fn listens_as(&self, other: &Settings) -> bool {
        let same = |(one, other): (&Listener, &Listener)| {
            let access = one.access.clone();
            *one == Listener {
                access,
                ..other.clone()
            }
        };
        self.listeners.len() == other.listeners.len()
            && self.listeners.iter().zip(&other.listeners).all(same)
    }

    /// Who may come in before anything is known of a request, where the listeners are those of `started`, and those that are no
    /// longer written serve on as they do now.
    pub fn doors(&self, started: &Settings, now: &[Access]) -> Vec<Access> {
        let access = |(listener, now): (&Listener, &Access)| {
            let mut here = self.listeners.iter();
            let written = here.find(|l| l.address == listener.address);
            written.map_or_else(|| now.clone(), |l| l.access.rules.clone())
        };
        started.listeners.iter().zip(now).map(access).collect()
    }
}

/// The static file, as written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with listeners")]
pub(crate) struct SettingsSpec {
    listeners: Vec<ListenerSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstreams_file: Option<FileText>,
    trusted_proxies: Option<Vec<Entry>>,
    clients: Option<ClientsSpec>,
    workers: Option<Workers>,
    pre_drain: Option<Span>,
    drain_timeout: Option<Span>,
    resolver: Option<ResolverSpec>,
    cache: Option<StoreSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acme: Option<AcmeSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<AdminSpec>,
    access_log: Option<AccessLogSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traces: Option<TracesSpec>,
    log: Option<LogSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_file: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid_file: Option<FileText>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { address: 127.0.0.1:8080 }"
)]
struct ListenerSpec {
    address: ListenAddress,
    http2: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsSpec>,
    redirect_to_https: Option<ToHttps>,
    proxy_protocol: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<Vec<Entry>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with servers and interval")]
struct ResolverSpec {
    servers: Option<Vec<ServerAddress>>,
    interval: Option<PositiveSpan>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { level: info }")]
struct LogSpec {
    level: Option<Level>,
}

#[derive(Debug, Clone, Copy)]
struct Level(log::LevelFilter);

impl Written for Level {
    const EXPECTED: &'static str = "error, warn, info, debug or trace";

    fn parse(word: &str) -> Result<Self, Complaint> {
        use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
        let levels = [Error, Warn, Info, Debug, Trace];
        if let Some(level) = levels.into_iter().find(|&l| Level(l).to_string() == word) {
            return Ok(Level(level));
        }
        let names: Vec<String> = levels.into_iter().map(|l| Level(l).to_string()).collect();
        let near = super::suggest::nearest(word, names.iter().map(String::as_str));
        Err(Complaint {
            message: None,
            help: near.map(meant),
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.as_str().to_lowercase())
    }
}

written!(Level);

/// `workers`.
#[derive(Debug, Clone, Copy)]
enum Workers {
    Auto,
    Number(u32),
}

const WORKERS: &str = "auto or a number from 1 to 1024";

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Workers::Auto => s.serialize_str("auto"),
            Workers::Number(number) => s.serialize_u32(*number),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(WorkersVisitor)
    }
}

struct WorkersVisitor;

impl Visitor<'_> for WorkersVisitor {
    type Value = Workers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORKERS)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Workers, E> {
        let number =
            Bounded::<1, 1024>::deserialize(serde::de::value::U64Deserializer::<E>::new(value));
        match number {
            Ok(number) => Ok(Workers::Number(number.0)),
            Err(_) => Err(E::invalid_value(
                serde::de::Unexpected::Unsigned(value),
                &self,
            )),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Workers, E> {
        match value {
            "auto" => Ok(Workers::Auto),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(value), &self)),
        }
    }
}

impl SettingsSpec {
    /// Reports what is wrong with the file as a whole.
    pub(crate) fn check(&self, document: Document, lists: &mut Lists<'_>, report: &mut Report) {
        let top = KeyPath::default();
        let listeners = top.key("listeners");
        let mut read = |list: Option<&Vec<Entry>>, path: KeyPath| {
            lists.read(list.map_or(&[], Vec::as_slice), |i, why| {
                report.add(document, path.index(i).key("file"), why);
            });
        };
        read(self.trusted_proxies.as_ref(), top.key("trusted_proxies"));
        for (i, listener) in self.listeners.iter().enumerate() {
            read(listener.allow.as_ref(), listeners.index(i).key("allow"));
            read(listener.deny.as_ref(), listeners.index(i).key("deny"));
        }
        if self.listeners.is_empty() {
            let path = listeners.clone();
            let problem = report.add(document, path, "at least one listener is needed");
            problem.help = Some("such as { address: 127.0.0.1:8080 }".to_string());
        }
        let mut seen = HashMap::new();
        for (i, listener) in self.listeners.iter().enumerate() {
            if let Some(first) = seen.insert(listener.address.0, i) {
                let message = format!("{} is listed twice: also", listener.address);
                let problem = report.add(document, listeners.index(i).key("address"), message);
                problem.see = Some(listeners.index(first));
            }
            let path = listeners.index(i);
            let is_trusting = self.trusted_proxies.as_ref().is_some_and(|t| !t.is_empty());
            if listener.proxy_protocol == Some(true) && !is_trusting {
                let path = path.key("proxy_protocol");
                let problem = report.add(
                    document,
                    path,
                    "no proxy is trusted to say for whom it connects",
                );
                problem.help =
                    Some("name those in front of this one in trusted_proxies".to_string());
            }
            if let Some(tls) = &listener.tls {
                tls.check(document, &path.key("tls"), report, self.acme.is_some());
                if listener.redirect_to_https.is_some_and(|to| to.0.is_some()) {
                    let path = path.key("redirect_to_https");
                    let problem = report.add(document, path, "this listener speaks TLS already");
                    problem.help = Some("write it at the one without tls".to_string());
                }
            }
        }
        self.check_fetched(document, report);
        if let Some(cache) = &self.cache {
            cache.check(document, &top.key("cache"), report);
        }
        if let Some(log) = &self.access_log {
            log.check(document, &top.key("access_log"), report);
        }
        if let Some(admin) = &self.admin {
            let path = top.key("admin");
            admin.check(document, &path, report);
            let address = admin.address();
            let taken = address.and_then(|address| Some((address, seen.get(&address)?)));
            if let Some((address, listener)) = taken {
                let message = format!("{address} is taken by");
                let problem = report.add(document, path.key("address"), message);
                problem.see = Some(listeners.index(*listener));
                problem.help = Some("give it a port of its own".to_string());
            }
        }
    }

    /// Reports what does not go together in the certificates that are fetched.
    fn check_fetched(&self, document: Document, report: &mut Report) {
        let top = KeyPath::default();
        let mut first: HashMap<&str, (usize, Vec<&str>)> = HashMap::new();
        let listeners = self.listeners.iter().enumerate();
        for (i, tls) in listeners.filter_map(|(i, l)| Some((i, l.tls.as_ref()?))) {
            for names in tls.fetched() {
                let Some(name) = names.first() else { continue };
                let place = top.key("listeners").index(i).key("tls").key("certificates");
                let (before, others) = first.entry(name).or_insert_with(|| (i, names.clone()));
                // Several listeners may show the same one.
                if *others != names {
                    let message =
                        format!("a certificate for {name} is fetched with other names: also at");
                    let problem = report.add(document, place, message);
                    problem.see = Some(top.key("listeners").index(*before));
                    problem.help =
                        Some("write the same names, or begin with another one".to_string());
                }
            }
        }
        if self.acme.is_some() && first.is_empty() {
            let problem = report.add(
                document,
                top.key("acme"),
                "has no effect: no certificate is fetched",
            );
            problem.help =
                Some("write certificates: [{ acme: [www.example.com] }] at a listener".to_string());
        }
    }

    /// The settings with every default filled in. Relative paths are those of the file's directory.
    pub(crate) fn compile(self, directory: &Path, lists: &mut Lists<'_>) -> Settings {
        let resolver = self.resolver.unwrap_or_default();
        let absolute = |written: &str| files::absolute(directory, written);
        let level = self.log.unwrap_or_default().level;
        let has = |tls: bool, port: Option<u16>| {
            let fits = |l: &ListenerSpec| {
                l.tls.is_some() == tls && port.is_none_or(|port| l.address.0.port() == port)
            };
            self.listeners.iter().any(fits)
        };
        // An authority asks on these ports, which others may lead to ours.
        let in_clear = has(false, Some(80)) || has(false, None) && !has(true, Some(443));
        let acme = self.acme.map(|acme| acme.compile(&absolute, in_clear));
        let fetched = acme.as_ref().map(|acme| acme.path.clone());
        Settings {
            listeners: self
                .listeners
                .into_iter()
                .map(|listener| Listener {
                    address: listener.address.0,
                    // By TLS it costs those nothing who do not speak it.
                    http2: listener.http2.unwrap_or(listener.tls.is_some()),
                    tls: listener
                        .tls
                        .map(|tls| tls.compile(&absolute, fetched.as_deref())),
                    redirect_to_https: listener.redirect_to_https.and_then(|to| to.0),
                    proxy_protocol: listener.proxy_protocol.unwrap_or(false),
                    access: ListenerAccess {
                        rules: lists.access(listener.allow.as_deref(), listener.deny.as_deref()),
                        allow: listener.allow.map(|list| within(list, absolute)),
                        deny: listener.deny.map(|list| within(list, absolute)),
                    },
                })
                .collect(),
            trusted_proxies: TrustedProxies {
                addresses: lists.set(self.trusted_proxies.as_deref().unwrap_or_default()),
                written: within(self.trusted_proxies.unwrap_or_default(), absolute),
            },
            clients: self.clients.unwrap_or_default().compile(),
            workers: match self.workers {
                Some(Workers::Number(number)) => number as usize,
                Some(Workers::Auto) | None => {
                    std::thread::available_parallelism().map_or(1, usize::from)
                }
            },
            pre_drain: self.pre_drain.map_or(Duration::ZERO, |span| span.0),
            drain_timeout: self
                .drain_timeout
                .map_or(Duration::from_secs(30), |span| span.0),
            resolver: Resolver {
                servers: resolver
                    .servers
                    .into_iter()
                    .flatten()
                    .map(|server| server.0)
                    .collect(),
                interval: resolver
                    .interval
                    .map_or(Duration::from_secs(10), |span| span.0),
            },
            cache: self.cache.unwrap_or_default().compile(absolute),
            acme,
            admin: self.admin.map(|admin| admin.compile(absolute)),
            access_log: self.access_log.unwrap_or_default().compile(absolute),
            traces: self.traces.map(TracesSpec::compile),
            log_level: level.map_or(log::LevelFilter::Info, |level| level.0),
            state_file: self.state_file.map(|file| absolute(&file.0)),
            pid_file: self.pid_file.map(|file| absolute(&file.0)),
        }
    }

    /// How the settings are written with every key.
    pub(crate) fn of(settings: &Settings) -> SettingsSpec {
        let file = |path: &Path| FileText(path.to_string_lossy().into_owned());
        let listener = |listener: &Listener| ListenerSpec {
            address: ListenAddress(listener.address),
            http2: Some(listener.http2),
            tls: listener.tls.as_ref().map(TlsSpec::of),
            redirect_to_https: Some(ToHttps(listener.redirect_to_https)),
            proxy_protocol: Some(listener.proxy_protocol),
            allow: listener.access.allow.clone(),
            deny: listener.access.deny.clone(),
        };
        SettingsSpec {
            listeners: settings.listeners.iter().map(listener).collect(),
            upstreams_file: None,
            trusted_proxies: Some(settings.trusted_proxies.written.clone()),
            clients: Some(ClientsSpec::of(&settings.clients)),
            workers: Some(Workers::Number(
                u32::try_from(settings.workers).unwrap_or(u32::MAX),
            )),
            pre_drain: Some(Span(settings.pre_drain)),
            drain_timeout: Some(Span(settings.drain_timeout)),
            resolver: Some(ResolverSpec {
                servers: Some(
                    settings
                        .resolver
                        .servers
                        .iter()
                        .copied()
                        .map(ServerAddress)
                        .collect(),
                ),
                interval: Some(PositiveSpan(settings.resolver.interval)),
            }),
            cache: Some(StoreSpec::of(&settings.cache)),
            acme: settings.acme.as_ref().map(AcmeSpec::of),
            admin: settings.admin.as_ref().map(AdminSpec::of),
            access_log: Some(AccessLogSpec::of(&settings.access_log)),
            traces: settings.traces.as_ref().map(TracesSpec::of),
            log: Some(LogSpec {
                level: Some(Level(settings.log_level)),
            }),
            state_file: settings.state_file.as_deref().map(file),
            pid_file: settings.pid_file.as_deref().map(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let spec: SettingsSpec = serde_yaml::from_str(text).unwrap();
        let directory = Path::new("/etc/backstop/conf");
        spec.compile(directory, &mut Lists::new(directory))
    }

    const SMALLEST: &str = "listeners: [{ address: 127.0.0.1:8080 }]\n";

    #[test]
    fn defaults() {
        let smallest = settings(SMALLEST);
        assert_eq!(
            smallest,
            Settings {
                acme: None,
                listeners: vec![Listener {
                    address: "127.0.0.1:8080".parse().unwrap(),
                    http2: false,
                    tls: None,
                    redirect_to_https: None,
                    access: ListenerAccess::default(),
                    proxy_protocol: false,
                }],
                trusted_proxies: TrustedProxies::default(),
                clients: Clients::default(),
                workers: std::thread::available_parallelism().unwrap().get(),
                pre_drain: Duration::ZERO,
                drain_timeout: Duration::from_secs(30),
                resolver: Resolver {
                    servers: Vec::new(),
                    interval: Duration::from_secs(10)
                },
                cache: CacheSettings {
                    memory: 64 * 1024 * 1024,
                    disk: None
                },
                admin: None,
                access_log: AccessLog::default(),
                traces: None,
                log_level: log::LevelFilter::Info,
                state_file: None,
                pid_file: None,
            }
        );
    }

    #[test]
    fn changed_keys_are_named() {
        let old = settings(SMALLEST);
        assert!(old.changed_keys(&settings(SMALLEST)).is_empty());
        let new = settings(
            "listeners: [{ address: 127.0.0.1:8080, http2: true }]\nworkers: 1000\ndrain_timeout: 1s\n\
             resolver: { servers: [10.0.0.2:53] }\ncache: { memory: 1MiB }\nadmin: { address: 127.0.0.1:9090 }\naccess_log: { path: access.log }\ntraces: { otlp: \"http://127.0.0.1:4318\" }\nlog: { level: debug }\npid_file: b.pid\n",
        );
        assert_eq!(
            old.changed_keys(&new),
            [
                "listeners",
                "workers",
                "drain_timeout",
                "resolver",
                "cache",
                "admin",
                "access_log",
                "traces",
                "log",
                "pid_file"
            ]
        );
        assert_eq!(
            new.access_log.to,
            crate::config::LogTarget::File("/etc/backstop/conf/access.log".into())
        );
        assert_eq!(new.pid_file, Some("/etc/backstop/conf/b.pid".into()));
        let disk = |text: &str| settings(&format!("{SMALLEST}cache: {{ {text} }}\n"));
        let old = disk("path: ../answers");
        for text in [
            "memory: 1MiB, path: ../answers",
            "path: answers",
            "path: ../answers, max_size: 2GiB",
            "path: ../answers, min_free: 0B",
            "",
        ] {
            assert_eq!(old.changed_keys(&disk(text)), ["cache"], "{text}");
        }
        let same = disk("path: /etc/backstop/conf/../answers/, max_size: 1024MiB");
        assert!(old.changed_keys(&same).is_empty());
    }

    #[test]
    fn names_are_proved_where_an_authority_asks() {
        use super::super::acme::Challenge::{Http01, TlsAlpn01};
        const TLS: &str = ", tls: { certificates: [{ acme: [www.example.com] }] }";
        for (plain, tls, expected) in [
            (Some(80), 443, Http01),
            (Some(8080), 443, TlsAlpn01),
            (Some(8080), 8443, Http01),
            (None, 443, TlsAlpn01),
            (None, 8443, TlsAlpn01),
        ] {
            let plain = plain.map_or(String::new(), |port| {
                format!("{{ address: 127.0.0.1:{port} }}, ")
            });
            let text = format!(
                "listeners: [{plain}{{ address: 127.0.0.1:{tls}{TLS} }}]\nacme: {{ path: a }}"
            );
            let acme = settings(&text).acme.unwrap();
            assert_eq!(acme.challenge, expected, "{text}");
        }
    }
}
