//! How many checks of one client wait at a time, so that whoever guesses passwords makes nobody else wait for long.

use crate::server::sites::Sites;
use std::net::IpAddr;
use std::sync::LazyLock;

/// Checks of one address that wait or run.
const MOST: u32 = 16;

/// Who waits, over all workers. Asked only where a check is to be made, which takes longer than any lock.
static WAITING: LazyLock<Sites> = LazyLock::new(Sites::default);

/// The right to wait for a check. Dropping it gives it back.
pub(super) struct Turn(Option<IpAddr>);

impl Turn {
    /// A turn of this client, unless it has too many. Those of whom no address is known wait as they like.
    pub(super) fn take(client: Option<IpAddr>) -> Option<Turn> {
        let Some(client) = client else {
            return Some(Turn(None));
        };
        let (site, count) = WAITING.more(client);
        // Gives it back at once where it is one too many.
        let turn = Turn(Some(site));
        (count <= MOST).then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(site) = self.0 {
            WAITING.less(site);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_and_gives_them_back() {
        let client = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let turns: Vec<_> = (0..MOST).map(|_| Turn::take(one).unwrap()).collect();
        assert!(Turn::take(one).is_none());
        assert!(Turn::take(other).is_some());
        assert!(Turn::take(None).is_some());
        drop(turns);
        assert!(Turn::take(one).is_some());
    }
}
