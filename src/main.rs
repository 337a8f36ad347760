//! The command: reads the command line, calls one function, prints, exits. Nothing else prints or exits.

use backstop::cli::{self, CacheCommand, CanaryCommand, Cli, Command, SignalName};
use backstop::config::{self, Loaded};
use backstop::demo::{self, Demo};
use backstop::server::admin::ask::Asked;
use backstop::server::admin::key;
use backstop::server::admin::maintenance::{WhichBackend, WhichCanary};
use backstop::server::admin::purge::Wanted;
use backstop::server::{self, pid_file, reload};
use clap::Parser;
use rustix::process::Signal;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// From one look to the next of who watches.
const WATCH: Duration = Duration::from_secs(2);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let file = cli.config_file();
    match act(&cli, &file) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: &Cli, file: &Path) -> Result<ExitCode, String> {
    if cli.version || cli.build {
        print_version(cli.build);
    } else if cli.test || cli.print {
        let loaded = config::load(file).map_err(|e| e.to_string())?;
        let known = server::preflight(&loaded).map_err(|problems| problems.join("\n"))?;
        if !cli.quiet {
            known
                .iter()
                .for_each(|sentence| eprintln!("backstop: {sentence}"));
        }
        if cli.print {
            print!("{}", config::print(&loaded));
        } else if !cli.quiet {
            eprintln!("{}", verdict(&loaded));
        }
    } else if let Some(signal) = cli.signal {
        send(signal, file)?;
    } else if let Some(Command::Demo(options)) = &cli.command {
        let demo = Demo {
            backends: options.backends,
            port: options.port,
            fail: options.fail,
            slow: Duration::from_millis(options.slow),
        };
        let code = demo::run(demo, options.proxy.then_some(file))
            .map_err(|e| format!("backstop: demo: {e}"))?;
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
    } else if let Some(command @ Command::Status { watch: true, .. }) = &cli.command {
        watch(command, file)?;
    } else if let Some(command) = &cli.command {
        print!("{}", ask(command, file)?);
    } else {
        server::run(file).map_err(|e| format!("backstop: {e}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verdict(loaded: &Loaded) -> String {
    let files: Vec<_> = loaded
        .files
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    format!(
        "backstop: configuration {} is ok ({})",
        files.join(" and "),
        reload::summary(&loaded.routing)
    )
}

fn send(signal: SignalName, file: &Path) -> Result<(), String> {
    let signal = match signal {
        SignalName::Reload => Signal::HUP,
        SignalName::Reopen => Signal::USR1,
        SignalName::Quit => Signal::QUIT,
        SignalName::Stop => Signal::INT,
    };
    // A broken file still tells where the pid file is, or else the usual places do: `quit` must work then, too.
    let loaded = config::load(file);
    if signal == Signal::HUP
        && let Err(errors) = &loaded
    {
        return Err(format!(
            "{errors}\nbackstop: not reloaded, the configuration in force stays"
        ));
    }
    let configured = loaded.ok().and_then(|loaded| loaded.settings.pid_file);
    pid_file::send(signal, configured.as_deref(), file)
        .map(|_| ())
        .map_err(|e| format!("backstop: {e}"))
}

/// Asks again and again, and shows each answer in the place of the one before. Ends when nobody reads it any more; what cannot be
/// asked at first is an error, and later perhaps a restart.
fn watch(command: &Command, file: &Path) -> Result<(), String> {
    let mut shown = ask(command, file)?;
    let mut out = io::stdout();
    let clear = if out.is_terminal() {
        "\x1b[H\x1b[J"
    } else {
        ""
    };
    while write!(out, "{clear}{shown}")
        .and_then(|()| out.flush())
        .is_ok()
    {
        std::thread::sleep(WATCH);
        shown = ask(command, file).unwrap_or_else(|e| e + "\n");
    }
    Ok(())
}

/// Asks the process that runs with this file.
fn ask(command: &Command, file: &Path) -> Result<String, String> {
    let loaded = config::load(file).map_err(|e| e.to_string())?;
    let which = |backend: &cli::Backend| WhichBackend {
        backend: backend.backend.clone(),
        upstream: backend.upstream.clone(),
    };
    let settings = &loaded.settings;
    let key = key::place(settings.pid_file.as_deref(), file);
    let address = settings.admin.as_ref().map(|admin| admin.address.clone());
    let asked = Asked::new(address, file, &key);
    let answer = asked.and_then(|asked| match command {
        // It has an answer of its own.
        Command::Demo(_) => Ok(String::new()),
        Command::Status { json, .. } => asked.status(*json),
        Command::Drain(backend) => asked.drain(&which(backend), true),
        Command::Resume(backend) => asked.drain(&which(backend), false),
        Command::Canary(canary) => match &canary.what {
            CanaryCommand::Resume { route } => asked.resume_canary(&WhichCanary {
                route: route.clone(),
            }),
        },
        Command::Cache(cache) => match &cache.what {
            CacheCommand::Status { json } => asked.cache_status(*json),
            CacheCommand::Purge(purge) => asked.purge(&Wanted {
                url: purge.url.clone(),
                prefix: purge.prefix.clone(),
                tag: purge.tag.clone(),
                all: purge.all.then_some(true),
            }),
        },
    });
    let name = match command {
        Command::Demo(_) => "demo",
        Command::Status { .. } => "status",
        Command::Drain(_) => "drain",
        Command::Resume(_) => "resume",
        Command::Canary(_) => "canary",
        Command::Cache(_) => "cache",
    };
    answer.map_err(|e| format!("backstop: {name}: {e}"))
}

fn print_version(build: bool) {
    println!("backstop {}", env!("CARGO_PKG_VERSION"));
    if build {
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        println!(
            "built for {} {}, {profile} profile",
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        println!("on Pingora 0.9.1 with rustls");
    }
}
