//! How many checks of one client wait at a time, so that whoever guesses passwords makes nobody else wait for long.

use crate::server::visitors::site;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Checks of one address that wait or run.
pub(super) const MOST: u32 = 16;

/// Who waits, over all workers. Asked only where a check is to be made, which takes longer than any lock.
static WAITING: Mutex<Option<HashMap<IpAddr, u32>>> = Mutex::new(None);

/// The right to wait for a check. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn(Option<IpAddr>);

impl Turn {
    /// A turn of this client, unless it has too many. Those who came from nowhere wait as they like.
    pub(super) fn take(client: Option<IpAddr>) -> Option<Turn> {
        let Some(site) = client.map(site) else {
            return Some(Turn(None));
        };
        let mut guard = lock();
        let waiting = guard.get_or_insert_default().entry(site).or_default();
        if *waiting >= MOST {
            return None;
        }
        *waiting += 1;
        Some(Turn(Some(site)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(site) = self.0 else { return };
        let mut guard = lock();
        let all = guard.get_or_insert_default();
        if let Some(waiting) = all.get_mut(&site) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                all.remove(&site);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Option<HashMap<IpAddr, u32>>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_and_gives_them_back() {
        let client = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let (one, other) = (client("2001:db8::1"), client("2001:db8:0:1::1"));
        let turns: Vec<_> = (0..MOST).map(|_| Turn::take(one).unwrap()).collect();
        assert!(Turn::take(one).is_none());
        assert!(Turn::take(client("2001:db8::2")).is_none(), "the same site");
        assert!(Turn::take(other).is_some());
        assert!(Turn::take(None).is_some());
        drop(turns);
        drop(Turn::take(one).unwrap());
        let left = lock().as_ref().map(HashMap::len);
        assert_eq!(left, Some(0));
    }
}
