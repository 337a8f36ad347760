//! The key by which whoever may read it may change something at the admin address: a file beside the pid file, made anew by each
//! process, for its user and root alone.
//!
//! Written by the process, read by its command line ([`super::ask`]).

use crate::server::pid_file;
use log::warn;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Hexadecimal ones, of 256 bits.
const DIGITS: usize = 64;

/// Where it is for this configuration.
pub fn place(pid_file: Option<&Path>, config_file: &Path) -> PathBuf {
    // Behind the whole name: beside `site.yaml` there may be a `site.key` that is something else.
    let mut place = pid_file::place(pid_file, config_file).into_os_string();
    place.push(".key");
    place.into()
}

/// Reads it.
///
/// # Errors
/// When it is not there, or for others.
pub fn read(place: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(place)?.trim().to_string())
}

/// That of this process, removed at the end.
#[derive(Debug)]
pub struct Key {
    place: PathBuf,
    digest: blake3::Hash,
}

impl Key {
    /// Makes one and writes it. `None` where that cannot be: then only the users of `auth` may change something.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn make(place: PathBuf) -> io::Result<Option<Self>> {
        let mut bytes = [0; 32];
        let random = SystemRandom::new().fill(&mut bytes);
        random.map_err(|_| io::Error::other("there are no random numbers"))?;
        let mut text = String::with_capacity(DIGITS);
        for byte in bytes {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
        }
        match write_new(&place, &text) {
            Ok(()) => Ok(Some(Key {
                digest: blake3::hash(text.as_bytes()),
                // Whoever is told may be elsewhere.
                place: std::path::absolute(&place).unwrap_or(place),
            })),
            Err(e) => {
                warn!(
                    "{} cannot be written ({e}): `backstop drain`, `cache purge` and the like will be refused",
                    place.display()
                );
                Ok(None)
            }
        }
    }

    /// Whether this is it; the time that takes tells nothing.
    pub fn is(&self, text: &str) -> bool {
        blake3::hash(text.as_bytes()) == self.digest
    }

    /// Where it is, to be told.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Only if it is still ours: a successor may have written its own.
        if read(&self.place).is_ok_and(|text| self.is(&text)) {
            let _ = fs::remove_file(&self.place);
        }
    }
}

/// Whether this is a key, or the beginning of one, as a process that was killed leaves it.
fn is_key(text: &str) -> bool {
    text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes beside it and renames, so that nobody reads half of it, and a key that was there before is for nobody else either.
/// What is no key stays.
fn write_new(place: &Path, text: &str) -> io::Result<()> {
    let mut new = place.as_os_str().to_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    for path in [place, &new] {
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Ok(found) if found.is_file() && found.len() <= DIGITS as u64 + 1 => {}
            _ => return Err(io::Error::other(format!("{} is no key", path.display()))),
        }
        // What cannot be read, but is as long, another user's process has left.
        if read(path).is_ok_and(|before| !is_key(&before)) {
            return Err(io::Error::other(format!("{} is no key", path.display())));
        }
        fs::remove_file(path)?;
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(new, place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_nobody_elses_file() {
        let of = |pid_file: Option<&str>, config: &str| {
            place(pid_file.map(Path::new), Path::new(config))
        };
        assert_eq!(of(None, "/a/site.yaml"), Path::new("/a/site.pid.key"));
        let system = of(None, "/etc/backstop/conf/backstop.yaml");
        assert_eq!(system, Path::new("/run/backstop/backstop.pid.key"));
        assert_eq!(
            of(Some("/run/a.1"), "/a/site.yaml"),
            Path::new("/run/a.1.key")
        );
    }

    #[test]
    fn it_is_for_its_user_alone_and_goes_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("backstop.key");
        fs::write(&place, "0f".repeat(32)).unwrap();
        let key = Key::make(place.clone()).unwrap().unwrap();
        let mode = fs::metadata(&place).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = read(&place).unwrap();
        assert!(text.len() == 64 && key.is(&text) && !key.is("") && !key.is(&text[1..]));
        let next = Key::make(place.clone()).unwrap().unwrap();
        drop(key);
        assert!(next.is(&read(&place).unwrap()));
        drop(next);
        assert!(!place.exists());
        fs::write(&place, "what is of somebody else").unwrap();
        assert!(Key::make(place.clone()).unwrap().is_none());
        assert_eq!(read(&place).unwrap(), "what is of somebody else");
        let nowhere = dir.path().join("missing/backstop.key");
        assert!(Key::make(nowhere).unwrap().is_none());
    }
}
