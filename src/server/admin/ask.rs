//! Asking a running process at its admin address: what `backstop status`, `cache`, `drain`, `resume` and `canary` do.
//!
//! One request on one connection that ends with the answer, which needs no client library. Prints nothing.

use super::figures::Figures;
use super::key;
use super::maintenance::{Done, WhichBackend, WhichCanary};
use super::purge::Wanted;
use super::status::Status;
use super::{Purged, Refusal, socket};
use crate::config::AdminPlace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long nothing may come: purging a URL waits for the disk.
const SILENCE: Duration = Duration::from_secs(30);
/// No answer is longer: the status of ten thousand backends has some mebibytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Why there is no good answer. Its text is what the operator sees.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is nowhere to ask.
    #[error(
        "{0} has no `admin`, so there is no address to ask\n  help: add admin: {{ address: 127.0.0.1:9090 }} to {0} and restart backstop"
    )]
    NoAdmin(PathBuf),
    /// Nobody is there.
    #[error(
        "nothing answers at {address}, the `admin` of {file}: {source}\n  help: is backstop running with this file, and was it restarted since `admin` was set?"
    )]
    Unreachable {
        /// Where was asked.
        address: AdminPlace,
        /// Which file says so.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not get through, or was not understood.
    #[error(
        "{address}, the `admin` of {file}, does not answer as backstop does: {what}\n  help: has another program this address? `backstop -T` shows what is in the file"
    )]
    Strange {
        /// Where was asked.
        address: AdminPlace,
        /// Which file says so.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Backstop said no.
    #[error("{0}")]
    Refused(String),
}

/// Where to ask.
pub struct Asked<'a> {
    address: AdminPlace,
    file: &'a Path,
    /// By which the process knows that this is its operator, if it can be read.
    key: Option<String>,
}

impl<'a> Asked<'a> {
    /// The process whose static file is `file`, which says `admin`, and whose key is in `key`.
    ///
    /// # Errors
    /// When it has none.
    pub fn new(admin: Option<AdminPlace>, file: &'a Path, key: &Path) -> Result<Self, AskError> {
        let mut address = admin.ok_or_else(|| AskError::NoAdmin(file.to_owned()))?;
        if let AdminPlace::Port(address) = &mut address {
            // That stands for every address of this machine.
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
        }
        Ok(Asked {
            address,
            file,
            key: key::read(key).ok(),
        })
    }

    /// How upstreams and routes are doing: the tables, or the JSON.
    ///
    /// # Errors
    /// When there is no good answer.
    pub fn status(&self, json: bool) -> Result<String, AskError> {
        self.show::<Status>("GET /status", json)
    }

    /// How the cache is doing: the table, or the JSON.
    ///
    /// # Errors
    /// When there is no good answer.
    pub fn cache_status(&self, json: bool) -> Result<String, AskError> {
        self.show::<Figures>("GET /cache", json)
    }

    fn show<T: DeserializeOwned + Display>(
        &self,
        line: &str,
        json: bool,
    ) -> Result<String, AskError> {
        let body = self.ask(line, None)?;
        let figures: T = self.read(&body)?;
        Ok(match json {
            true => String::from_utf8_lossy(&body).into_owned(),
            false => figures.to_string(),
        })
    }

    /// Takes a backend out of rotation, or back in.
    ///
    /// # Errors
    /// When there is no good answer, or no such backend.
    pub fn drain(&self, which: &WhichBackend, out: bool) -> Result<String, AskError> {
        let (line, what) = match out {
            true => ("POST /backends/drain", "drained"),
            false => ("POST /backends/resume", "resumed"),
        };
        self.change(line, which)?;
        Ok(format!("{what} {}, until the next reload\n", which.backend))
    }

    /// Begins canaries anew that were rolled back.
    ///
    /// # Errors
    /// When there is no good answer, or no canary.
    pub fn resume_canary(&self, which: &WhichCanary) -> Result<String, AskError> {
        let changed = self.change("POST /canary/resume", which)?;
        let canaries = if changed == 1 { "canary" } else { "canaries" };
        Ok(format!("resumed {changed} {canaries}\n"))
    }

    fn change(&self, line: &str, which: &impl Serialize) -> Result<usize, AskError> {
        let body = serde_json::to_vec(which).map_err(|e| self.strange(e))?;
        let body = self.ask(line, Some(&body))?;
        let Done { changed } = self.read(&body)?;
        Ok(changed)
    }

    /// Purges, and says how much that was.
    ///
    /// # Errors
    /// When there is no good answer.
    pub fn purge(&self, wanted: &Wanted) -> Result<String, AskError> {
        let body = serde_json::to_vec(wanted).map_err(|e| self.strange(e))?;
        let body = self.ask("POST /cache/purge", Some(&body))?;
        let Purged { purged } = self.read(&body)?;
        let answers = if purged == 1 { "answer" } else { "answers" };
        Ok(match wanted.url {
            Some(_) => format!("purged {purged} {answers}\n"),
            None => format!(
                "purged {purged} {answers} in memory; files are not given out any more and go in the background\n"
            ),
        })
    }

    fn strange(&self, what: impl ToString) -> AskError {
        AskError::Strange {
            address: self.address.clone(),
            file: self.file.to_owned(),
            what: what.to_string(),
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, AskError> {
        serde_json::from_slice(body).map_err(|e| self.strange(e))
    }

    /// The body of the answer, if it is a good one.
    fn ask(&self, line: &str, body: Option<&[u8]>) -> Result<Vec<u8>, AskError> {
        // Who only looks need not say who that is, unless asked.
        let key = self.key.as_deref().filter(|_| body.is_some());
        let (status, body) = match (self.ask_with(key, line, body)?, &self.key) {
            ((401, _), Some(key)) if body.is_none() => self.ask_with(Some(key), line, body)?,
            (answer, _) => answer,
        };
        if status == 200 {
            return Ok(body);
        }
        match serde_json::from_slice(&body) {
            Ok(Refusal { error }) => Err(AskError::Refused(error)),
            Err(_) => Err(self.strange(format_args!("it answers with status {status}"))),
        }
    }

    /// Status and body of the answer.
    fn ask_with(
        &self,
        key: Option<&str>,
        line: &str,
        body: Option<&[u8]>,
    ) -> Result<(u16, Vec<u8>), AskError> {
        let unreachable = |source| AskError::Unreachable {
            address: self.address.clone(),
            file: self.file.to_owned(),
            source,
        };
        let answered = match &self.address {
            AdminPlace::Port(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT).map_err(unreachable)?;
                let limits = (stream.set_read_timeout(Some(SILENCE)))
                    .and(stream.set_write_timeout(Some(SILENCE)));
                let request = request(line, &address.to_string(), key, body);
                limits.and_then(|()| exchange(stream, &request))
            }
            AdminPlace::Socket(path) => {
                let stream = socket::connect(path, CONNECT).map_err(unreachable)?;
                let limits = (stream.set_read_timeout(Some(SILENCE)))
                    .and(stream.set_write_timeout(Some(SILENCE)));
                let request = request(line, "localhost", key, body);
                limits.and_then(|()| exchange(stream, &request))
            }
        };
        match answered {
            Ok(bytes) => answer(&bytes).ok_or_else(|| self.strange("that is no whole answer")),
            // A blocking socket says so when its time is over.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Err(self.strange(format_args!("nothing came for {SILENCE:?}")))
            }
            Err(e) => Err(self.strange(e)),
        }
    }
}

fn request(line: &str, host: &str, key: Option<&str>, body: Option<&[u8]>) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    if let Some(key) = key {
        request.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    if let Some(body) = body {
        let length = body.len();
        request.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {length}\r\n"
        ));
    }
    let mut request = format!("{request}\r\n").into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    request
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of a whole answer with `Content-Length`.
fn answer(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at_checked(end + 4)?;
    let mut lines = str::from_utf8(head).ok()?.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some((status.parse().ok()?, body.get(..length)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (bytes, expected) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                Some((200, "{}")),
            ),
            (
                "HTTP/1.1 404 Not Found\r\nA: b\r\ncontent-length:0\r\n\r\n",
                Some((404, "")),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None),
            ("HTTP/1.1 2\r\nContent-Length: 2\r\n\r\n{}", None),
            ("220 mail.example ESMTP\r\n", None),
            ("", None),
        ] {
            let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(answer(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    #[test]
    fn an_address_that_stands_for_all_is_asked_on_this_machine() {
        for (admin, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.1:9090", "10.0.0.1:9090"),
        ] {
            let admin = admin.parse().ok().map(AdminPlace::Port);
            let address = Asked::new(admin, Path::new("x"), Path::new("none")).map(|a| a.address);
            assert_eq!(address.ok(), asked.parse().ok().map(AdminPlace::Port));
        }
        assert!(Asked::new(None, Path::new("x"), Path::new("none")).is_err());
    }
}
