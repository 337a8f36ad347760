//! Who may pass a route by name and password: the list of users, and whose word is taken without asking again.
//!
//! Asked by `proxy::authenticate`. Checking a password takes long on purpose, so it is done elsewhere; here is what is known of
//! the users, and for how long a check that succeeded holds.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a password that was right counts as right.
const HOLDS: Duration = Duration::from_secs(300);
/// How many of them are remembered.
const MOST: usize = 10_000;

/// A list of users with the hashes of their passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users(HashMap<String, String>);

/// What is wrong with a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Which, from 1.
    pub line: usize,
    /// Why.
    pub why: &'static str,
}

impl Users {
    /// Reads a list as `htpasswd -B` writes it: `name:hash` each, `#` before a comment. `is_hash` says which hashes can be
    /// checked.
    ///
    /// # Errors
    /// With the first line that is none.
    pub fn parse(text: &str, is_hash: impl Fn(&str) -> bool) -> Result<Self, BadLine> {
        let mut users = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |why| BadLine { line: at + 1, why };
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| bad("there is no colon after the name"))?;
            if name.is_empty() {
                return Err(bad("there is no name before the colon"));
            }
            // htpasswd allows a further field after the hash.
            let hash = hash.split(':').next().unwrap_or(hash);
            if !is_hash(hash) {
                return Err(bad("this hash is neither bcrypt nor argon2"));
            }
            if users.insert(name.to_string(), hash.to_string()).is_some() {
                return Err(bad("this name is there twice"));
            }
        }
        Ok(Users(users))
    }

    /// The hash of a user's password.
    pub fn hash_of(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The hash of somebody, if there is anybody.
    pub fn any_hash(&self) -> Option<&str> {
        self.0.values().next().map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Credentials that were right, by a hash that cannot be turned back.
#[derive(Debug, Default)]
pub struct Known {
    until: HashMap<[u8; 32], Duration>,
    order: VecDeque<[u8; 32]>,
}

impl Known {
    /// Whether these were right a little while ago; whoever goes on using them need not be checked again.
    pub fn contains(&mut self, credentials: &[u8; 32], now: Duration) -> bool {
        match self.until.get_mut(credentials) {
            Some(until) if now < *until => {
                *until = now + HOLDS;
                true
            }
            _ => false,
        }
    }

    /// They are right.
    pub fn remember(&mut self, credentials: [u8; 32], now: Duration) {
        if self.until.insert(credentials, now + HOLDS).is_none() {
            self.order.push_back(credentials);
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.until.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_users() {
        let parse = |text: &str| Users::parse(text, |hash| hash.starts_with('$'));
        let users = parse("# staff\nann:$2y$05$x\r\n\nbob:$argon2id$y:Bob\n").unwrap();
        assert_eq!(
            (users.len(), users.hash_of("ann"), users.hash_of("bob")),
            (2, Some("$2y$05$x"), Some("$argon2id$y"))
        );
        assert_eq!(users.hash_of("# staff"), None);
        for (text, line) in [
            ("ann", 1),
            ("a:$x\n:$y", 2),
            ("a:plain", 1),
            ("a:$x\na:$y", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_was_right_counts_for_a_while() {
        let mut known = Known::default();
        let at = Duration::from_secs;
        known.remember([1; 32], at(10));
        assert!(known.contains(&[1; 32], at(309)) && !known.contains(&[2; 32], at(10)));
        assert!(known.contains(&[1; 32], at(608)));
        assert!(!known.contains(&[1; 32], at(908)));
        for n in 0..=MOST {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(n as u64 + 2).to_le_bytes());
            known.remember(key, at(10));
        }
        assert_eq!(known.until.len(), MOST);
        assert!(!known.contains(&[1; 32], at(11)));
    }
}
