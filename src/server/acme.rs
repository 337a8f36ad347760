//! Certificates fetched from an authority, and fetched anew before they end (RFC 8555).
//!
//! Runs on the control thread. What is fetched is written into files, which [`super::tls`] follows as it does others: exchanging a
//! certificate is its business. When to fetch is decided by `policy::renewal`.

pub mod proofs;

use super::tls::Certificate;
use crate::config::{Acme, CertificateFiles, Challenge, Settings};
use crate::observe::outgoing::in_words;
use crate::policy::renewal;
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier,
    NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use log::{error, info};
use proofs::{Proofs, Shown};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// How often it is looked whether one is due, at least.
const LOOK: Duration = Duration::from_secs(3600);
/// How long one may take in all.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the authority may take to look at a proof, and to write a certificate.
const ANSWER: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.3)
    .timeout(Duration::from_secs(90));
/// What a certificate with its key takes at most, about.
const ROOM: usize = 16 * 1024;
/// How many failures in a row a reload, or a start, may follow with an attempt at once: authorities count them.
const FREE: u32 = 1;

/// Why no certificate could be had.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority refuses, or cannot be reached.
    #[error("{}", in_words(.0))]
    Authority(#[from] instant_acme::Error),
    /// It could not make sure that a name is ours.
    #[error("{name} could not be proved: {why}")]
    Proof {
        /// Which.
        name: String,
        /// What it says.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No proof can be made.
    #[error("no certificate for a proof can be made: {0}")]
    Made(#[from] rcgen::Error),
    /// What came is not what was asked for.
    #[error("what came cannot be used: {0}")]
    Unfit(String),
    /// It says no, and not why.
    #[error("the authority could not make sure of the names, and does not say why")]
    Unproved,
    /// It took too long.
    #[error("it took longer than {PATIENCE:?}")]
    Late,
}

/// One certificate that is fetched.
struct Wanted {
    files: CertificateFiles,
    /// In a row.
    failures: u32,
    /// Not before this time: by a clock that nobody sets.
    not_before: Instant,
}

/// Fetches what these settings want until the process ends; `reloads` says that what failed may be tried again.
pub async fn follow(settings: &Settings, proofs: Arc<Proofs>, reloads: Arc<Notify>) {
    let Some(acme) = settings.acme.clone() else {
        return;
    };
    let mut wanted: Vec<Wanted> = Vec::new();
    for tls in settings.listeners.iter().filter_map(|l| l.tls.as_ref()) {
        for files in tls
            .certificates
            .iter()
            .filter(|c| !c.fetched_for.is_empty())
        {
            // Several listeners may show the same.
            if !wanted.iter().any(|one| one.files.cert == files.cert) {
                wanted.push(Wanted::new(files.clone()));
            }
        }
    }
    loop {
        for one in &mut wanted {
            one.see_to(&acme, &proofs).await;
        }
        let left = wanted.iter().map(Wanted::due_in).min().unwrap_or(LOOK);
        let left = left.clamp(Duration::from_secs(1), LOOK);
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = reloads.notified() => wanted.iter_mut().for_each(Wanted::hurry),
        }
    }
}

impl Wanted {
    fn new(files: CertificateFiles) -> Self {
        let mut one = Wanted {
            files,
            failures: 0,
            not_before: Instant::now(),
        };
        // A process that starts again and again is not to ask each time.
        if let Ok(left) = fs::metadata(one.failed()).and_then(|left| left.modified()) {
            let text = fs::read_to_string(one.failed()).unwrap_or_default();
            one.failures = text.trim().parse().unwrap_or(1);
            let since = SystemTime::now().duration_since(left).unwrap_or_default();
            let wait = renewal::again(one.failures, 0.0).saturating_sub(since);
            one.not_before += wait;
            one.hurry();
        }
        one
    }

    /// The file that says how often it failed.
    fn failed(&self) -> PathBuf {
        self.files.cert.with_extension("failed")
    }

    /// It is tried at once, unless that failed too often.
    fn hurry(&mut self) {
        if self.failures <= FREE {
            self.not_before = Instant::now();
        }
    }

    /// How long it is until it is to be fetched.
    fn due_in(&self) -> Duration {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let due = match Certificate::read(&self.files) {
            Ok(there) if there.is_for(&self.files.fetched_for) => {
                let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
                let due = renewal::due(since(there.not_before), since(there.not_after));
                due.saturating_sub(now)
            }
            _ => Duration::ZERO,
        };
        due.max(self.not_before.saturating_duration_since(Instant::now()))
    }

    /// Fetches it if it is due.
    async fn see_to(&mut self, acme: &Acme, proofs: &Proofs) {
        if !self.due_in().is_zero() {
            return;
        }
        let names = self.files.fetched_for.join(", ");
        info!("fetching a certificate for {names} from {}", acme.directory);
        let fetched = tokio::time::timeout(PATIENCE, fetch(acme, &self.files, proofs)).await;
        let fetched = fetched.unwrap_or(Err(AcmeError::Late)).and_then(|()| {
            // Else the same would come again and again.
            match Certificate::read(&self.files) {
                Ok(there) if there.is_for(&self.files.fetched_for) => {
                    let lasts = there.not_after.duration_since(there.not_before);
                    Ok(lasts.unwrap_or_default())
                }
                Ok(there) => Err(AcmeError::Unfit(format!(
                    "it is for {}",
                    there.names.join(", ")
                ))),
                Err(e) => Err(AcmeError::Unfit(e.to_string())),
            }
        });
        match fetched {
            Ok(lasts) => {
                info!("there is a new certificate for {names}");
                self.failures = 0;
                // Also where the authority's clock, or ours, makes it due at once.
                self.not_before = Instant::now() + renewal::rest(lasts);
                // It may never have been there.
                let _ = fs::remove_file(self.failed());
            }
            Err(e) => {
                self.failures += 1;
                let wait = renewal::again(self.failures, fastrand::f64());
                self.not_before = Instant::now() + wait;
                // Where even this fails, the reason is in the log with the next words.
                let _ = fs::write(self.failed(), self.failures.to_string());
                let reload = if self.failures <= FREE {
                    ", or at a reload"
                } else {
                    ""
                };
                error!(
                    "no certificate for {names} could be fetched: {e}\n  help: it is tried again in {} minutes{reload}; what there \
                     was stays in force",
                    wait.as_secs() / 60
                );
            }
        }
    }
}

/// Fetches one certificate, and writes it with its key.
async fn fetch(acme: &Acme, files: &CertificateFiles, proofs: &Proofs) -> Result<(), AcmeError> {
    make_room(&acme.path, &files.cert)?;
    let account = account(acme).await?;
    let names = files.fetched_for.iter().cloned();
    let names: Vec<Identifier> = names.map(Identifier::Dns).collect();
    let order = account.new_order(&NewOrder::new(&names)).await;
    let mut order = order.inspect_err(|e| forget_account(acme, e))?;
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let kind = match acme.challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let Some(mut challenge) = authorization.challenge(kind) else {
            let why = format!("the authority does not take {}", acme.challenge);
            return Err(AcmeError::Proof { name, why });
        };
        let proof = challenge.key_authorization();
        shown.push(show(
            acme.challenge,
            proofs,
            &name,
            &challenge.token,
            &proof,
        )?);
        challenge.set_ready().await?;
    }
    let ready = order.poll_ready(&ANSWER).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        return Err(match complaint(&mut order).await {
            Some((name, why)) => AcmeError::Proof { name, why },
            None => ready.err().map_or(AcmeError::Unproved, AcmeError::from),
        });
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&ANSWER).await?;
    write(&files.cert, format!("{key}{chain}").as_bytes())
}

fn show<'a>(
    kind: Challenge,
    proofs: &'a Proofs,
    name: &str,
    token: &str,
    proof: &instant_acme::KeyAuthorization,
) -> Result<Shown<'a>, AcmeError> {
    Ok(match kind {
        Challenge::Http01 => proofs.show_answer(token, proof.as_str()),
        Challenge::TlsAlpn01 => proofs.show_certificate(name, proof.digest().as_ref())?,
    })
}

/// Which name the authority could not make sure of, and what it says.
async fn complaint(order: &mut instant_acme::Order) -> Option<(String, String)> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        authorization.refresh().await.ok()?;
        let name = authorization.identifier().to_string();
        let said = authorization.challenges.iter();
        if let Some(said) = { said }.find_map(|challenge| challenge.error.as_ref()) {
            return Some((name, said.to_string()));
        }
    }
    None
}

/// The account at the authority: the one of before, or a new one.
async fn account(acme: &Acme) -> Result<Account, AcmeError> {
    let builder = || -> Result<AccountBuilder, instant_acme::Error> {
        match &acme.ca {
            Some(ca) => Account::builder_with_root(ca),
            None => Account::builder(),
        }
    };
    let path = account_file(acme);
    match fs::read(&path) {
        Ok(bytes) => {
            if let Ok(credentials) = serde_json::from_slice::<AccountCredentials>(&bytes) {
                return Ok(builder()?.from_credentials(credentials).await?);
            }
            error!("{} is no account: a new one is made", path.display());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(AcmeError::File { path, source }),
    }
    let contact = acme.contact.as_ref().map(|mail| format!("mailto:{mail}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = acme.directory.clone();
    let (account, credentials) = builder()?.create(&new, directory, None).await?;
    let bytes = serde_json::to_vec(&credentials).map_err(instant_acme::Error::from)?;
    write(&path, &bytes)?;
    Ok(account)
}

/// One for each authority: another one knows nothing of it.
fn account_file(acme: &Acme) -> PathBuf {
    let tag = blake3::hash(acme.directory.as_bytes()).to_hex();
    acme.path.join(format!("account-{}.json", &tag[..16]))
}

/// Where the authority does not know the account any more, the next attempt makes a new one.
fn forget_account(acme: &Acme, error: &instant_acme::Error) {
    const UNKNOWN: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
    let instant_acme::Error::Api(problem) = error else {
        return;
    };
    if problem.r#type.as_deref() == Some(UNKNOWN) {
        let path = account_file(acme);
        // Where it cannot be put aside, the same error comes again.
        let _ = fs::rename(&path, path.with_extension("unknown"));
    }
}

/// Makes sure that what will be fetched can be written: authorities issue the same certificate only so often.
fn make_room(directory: &Path, file: &Path) -> Result<(), AcmeError> {
    let mut maker = DirBuilder::new();
    let made = maker.recursive(true).mode(0o700).create(directory);
    let tried = made.and_then(|()| {
        let beside = file.with_extension("room");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&beside).and_then(|mut room| {
            room.write_all(&[0; ROOM])?;
            room.sync_all()
        });
        // It may not be there.
        let _ = fs::remove_file(&beside);
        match file.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => written,
        }
    });
    tried.map_err(|source| AcmeError::File {
        path: directory.to_path_buf(),
        source,
    })
}

/// Puts a file in the place of another one, whole or not at all, for nobody else to read.
fn write(path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| AcmeError::File {
        path: path.to_path_buf(),
        source,
    })
}
