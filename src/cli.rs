//! The command line: nginx's options, subcommands for the rest.

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// A reverse proxy that makes an unreliable upstream look reliable
#[derive(Debug, Parser)]
#[command(
    name = "backstop",
    disable_version_flag = true,
    arg_required_else_help = false
)]
#[command(group = ArgGroup::new("instead").multiple(false))]
pub struct Cli {
    /// The configuration file [default: conf/backstop.yaml, else /etc/backstop/conf/backstop.yaml]
    #[arg(short = 'c', value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Check both configuration files and exit: 0 if they are right, 1 if not
    #[arg(short = 't', group = "instead")]
    pub test: bool,
    /// Check, and print the configuration in force with every default filled in
    #[arg(short = 'T', group = "instead")]
    pub print: bool,
    /// With -t: say nothing unless there are errors
    #[arg(short = 'q')]
    pub quiet: bool,
    /// Send a signal to the running process
    #[arg(short = 's', value_name = "SIGNAL", group = "instead")]
    pub signal: Option<SignalName>,
    /// Print the version
    #[arg(short = 'v', group = "instead")]
    pub version: bool,
    /// Print the version and how it was built
    #[arg(short = 'V', group = "instead")]
    pub build: bool,
    /// Something else than serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `-s` can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SignalName {
    /// Read the files again (HUP)
    Reload,
    /// Open the log files anew (USR1)
    Reopen,
    /// Finish what runs, then exit (QUIT)
    Quit,
    /// Exit now (INT)
    Stop,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start built-in flaky backends to try Backstop on
    Demo(Demo),
    /// Show how the upstreams and routes of the running process are doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Again every two seconds, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Send no new requests to a backend, until it is resumed or the configuration reloaded
    Drain(Backend),
    /// Send requests to a backend again that was drained
    Resume(Backend),
    /// Begin a canary anew that was rolled back
    Canary(Canary),
    /// Look at the cache of the running process, or remove answers from it
    Cache(Cache),
}

/// Which backend.
#[derive(Debug, clap::Args)]
pub struct Backend {
    /// Its address as in the file, such as `127.0.0.1:9001`
    #[arg(value_name = "BACKEND")]
    pub backend: String,
    /// Only in this upstream
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
}

/// `backstop canary`.
#[derive(Debug, clap::Args)]
pub struct Canary {
    /// What is to be done.
    #[command(subcommand)]
    pub what: CanaryCommand,
}

/// What `backstop canary` can do.
#[derive(Debug, Subcommand)]
pub enum CanaryCommand {
    /// Give it its share again
    Resume {
        /// The route's name; without one, every canary
        #[arg(value_name = "ROUTE")]
        route: Option<String>,
    },
}

/// `backstop cache`.
#[derive(Debug, clap::Args)]
pub struct Cache {
    /// What is to be done.
    #[command(subcommand)]
    pub what: CacheCommand,
}

/// What `backstop cache` can do.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show how much is in it and how it fares
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove answers: nobody gets them any more once this is done
    Purge(Purge),
}

/// What is to go: one of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Purge {
    /// Everything stored for this URL, such as `http://example.com/path?query`
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Everything whose URL begins with this, such as `http://example.com/path`
    #[arg(long, value_name = "URL")]
    pub prefix: Option<String>,
    /// Everything with this tag in Cache-Tag or Surrogate-Key
    #[arg(long)]
    pub tag: Option<String>,
    /// Everything
    #[arg(long)]
    pub all: bool,
}

/// Options of `backstop demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// The share of requests that fail: 500, 502 or a reset, a third each
    #[arg(long, default_value = "10%", value_parser = percentage)]
    pub fail: f64,
    /// The first backend's port; the others follow
    #[arg(long, default_value_t = 9001)]
    pub port: u16,
    /// How many backends
    #[arg(long, default_value_t = 3)]
    pub backends: u16,
    /// How long each takes to answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub slow: u64,
    /// Also start Backstop itself, and show what to try
    #[arg(long)]
    pub proxy: bool,
}

fn percentage(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.trim().parse::<f64>() {
        Ok(n) if (0.0..=100.0).contains(&n) => Ok(n / 100.0),
        _ => Err("expected a percentage from 0% to 100%, such as 10%".into()),
    }
}

impl Cli {
    /// The configuration file to use: the one named, or the first of the two usual ones that exists.
    pub fn config_file(&self) -> PathBuf {
        if let Some(file) = &self.config {
            return file.clone();
        }
        let here = Path::new("conf/backstop.yaml");
        let system = Path::new("/etc/backstop/conf/backstop.yaml");
        if !here.exists() && system.exists() {
            system.into()
        } else {
            here.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert_eq!(percentage("10%"), Ok(0.1));
        assert_eq!(percentage("0"), Ok(0.0));
        for bad in ["", "%", "101%", "-1%", "ten"] {
            assert!(percentage(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
