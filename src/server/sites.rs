//! How many of something each client has, by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who has how many; nobody who has none is in it.
#[derive(Debug, Default)]
pub struct Sites(Mutex<HashMap<IpAddr, u32>>);

impl Sites {
    /// Counts one more. Returns for whom, which [`Sites::less`] takes, and how many that are.
    pub fn more(&self, address: IpAddr) -> (IpAddr, u32) {
        let site = site(address);
        let mut all = self.lock();
        let count = all.entry(site).or_default();
        *count += 1;
        (site, *count)
    }

    /// Counts one less.
    pub fn less(&self, site: IpAddr) {
        let mut all = self.lock();
        if let Some(count) = all.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                all.remove(&site);
            }
        }
    }

    /// How many have any.
    #[cfg(test)]
    pub fn present(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address: a site has a whole /64 of IPv6 (RFC 6177).
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_site_is_counted_by_itself_and_forgotten_when_it_has_none() {
        let sites = Sites::default();
        let more = |text: &str| sites.more(text.parse().unwrap());
        assert_eq!(more("2001:db8::1").1, 1);
        assert_eq!(more("2001:db8::2").1, 2);
        assert_eq!(more("2001:db8:0:1::1").1, 1);
        let (four, count) = more("::ffff:10.0.0.1");
        assert_eq!((four, count), ("10.0.0.1".parse().unwrap(), 1));
        sites.less(four);
        assert_eq!(more("10.0.0.1").1, 1);
        for site in ["2001:db8::", "2001:db8::", "2001:db8:0:1::", "10.0.0.1"] {
            sites.less(site.parse().unwrap());
        }
        assert_eq!(sites.present(), 0);
    }
}
