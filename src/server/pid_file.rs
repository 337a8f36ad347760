//! The pid file, and signals to the process it names: `backstop -s`.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the unit's `RuntimeDirectory` is, and the configuration that is the system's.
const SYSTEM: &str = "/run/backstop/backstop.pid";
const SYSTEM_CONFIG: &str = "/etc/backstop";

/// Where the pid file is: where the configuration says, or else at the system's place for the system's configuration and
/// beside it, under its name, for any other. So two configurations never share one.
pub(super) fn place(configured: Option<&Path>, config_file: &Path) -> PathBuf {
    match configured {
        Some(path) => path.to_owned(),
        None if config_file.starts_with(SYSTEM_CONFIG) => SYSTEM.into(),
        None => config_file.with_extension("pid"),
    }
}

/// A pid file of this process, removed at the end.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// When a configured path cannot be written. Without one, having no pid file is no error: systemd does not need it.
    pub fn write(
        configured: Option<&Path>,
        config_file: &Path,
    ) -> Result<Option<Self>, (PathBuf, io::Error)> {
        let place = place(configured, config_file);
        match fs::write(&place, format!("{}\n", std::process::id())) {
            Ok(()) => Ok(Some(PidFile(place))),
            Err(e) if configured.is_some() => Err((place, e)),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Only if it is still ours: a successor may have written its own.
        if read(&self.0) == Some(std::process::id()) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Why no signal could be sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// No pid file names a running process of ours.
    #[error(
        "no running backstop was found (looked in {0})\n  help: is it running with this configuration? `pid_file` says where it notes its process; under systemd use `systemctl reload backstop`"
    )]
    NotRunning(String),
    /// The process may not be signalled.
    #[error("process {0} cannot be signalled: {1}")]
    Refused(u32, io::Error),
}

/// Sends a signal to the process of the pid file.
///
/// # Errors
/// When there is none, or it may not be signalled.
pub fn send(
    signal: Signal,
    configured: Option<&Path>,
    config_file: &Path,
) -> Result<u32, SignalError> {
    let place = place(configured, config_file);
    let Some(pid) = read(&place).filter(|pid| is_backstop(*pid)) else {
        return Err(SignalError::NotRunning(place.display().to_string()));
    };
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(target) = target else {
        return Err(SignalError::NotRunning(pid.to_string()));
    };
    match kill_process(target, signal) {
        Ok(()) => Ok(pid),
        Err(e) => Err(SignalError::Refused(pid, e.into())),
    }
}

/// Whether that process is one of ours, by name: a stale file may name a pid that another program has by now.
fn is_backstop(pid: u32) -> bool {
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    name(&pid.to_string()).is_some_and(|it| it.starts_with("backstop") || Some(it) == name("self"))
}
