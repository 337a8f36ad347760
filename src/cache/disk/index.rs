//! What one directory of objects holds, in memory: where to find an id, and which object was used the longest ago.
//!
//! `Disk` has one table for each directory, behind one lock each; nothing here does I/O or knows the time.
//!
//! A node is 48 bytes; with the hash table and the slack of both an object takes less than 60 (see the test). With a
//! million objects in 4096 tables a process grew by 67 bytes for each, the allocator's own needs included.

use super::Id;
use hashbrown::HashTable;

/// Stands for "no node" in a link.
const NONE: u32 = u32::MAX;
/// Most objects that a table can number. Beyond it nothing more is taken in.
const MOST: usize = (u32::MAX - 1) as usize;

/// Variants of one URL for one person that are kept.
pub const VARIANTS: usize = 64;

/// An object.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Whose it is.
    pub id: Id,
    /// When it was last used, in microseconds since the epoch.
    pub used: u64,
    /// What its file takes, in units of 4 KiB.
    pub units: u32,
    newer: u32,
    older: u32,
}

/// A file as a directory's listing shows it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Whose it is.
    pub id: Id,
    /// What it takes, in units of 4 KiB.
    pub units: u32,
    /// Its modification time, in microseconds since the epoch.
    pub used: u64,
}

/// How a change altered the sums over all tables.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Objects more, or fewer.
    pub objects: i64,
    /// Units of 4 KiB more, or fewer.
    pub units: i64,
}

/// One directory's objects.
#[derive(Debug)]
pub struct Table {
    nodes: Vec<Node>,
    places: HashTable<u32>,
    newest: u32,
    oldest: u32,
    /// Ids that came or went since a listing began, while one is under way: it may show them or not.
    changed: Option<Vec<Id>>,
    /// Whether the directory was listed.
    pub indexed: bool,
    /// What the directory takes by itself, in units.
    pub dir_units: u32,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            nodes: Vec::new(),
            places: HashTable::new(),
            newest: NONE,
            oldest: NONE,
            changed: None,
            indexed: false,
            dir_units: 0,
        }
    }
}

/// Where an id is looked for. By URL and person alone: so what both have in common is found together.
fn hash(url: u64, who: u64) -> u64 {
    // Both are hashes; all of a table have the URL's upper bits in common, and hashbrown takes the upper bits of this
    // one for its tags.
    (url ^ who.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Table {
    /// How many objects there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes of memory that this has taken.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.places.allocation_size()
    }

    /// When the object that was used the longest ago was used; `u64::MAX` without any.
    pub fn oldest_use(&self) -> u64 {
        self.nodes
            .get(self.oldest as usize)
            .map_or(u64::MAX, |node| node.used)
    }

    /// The object that was used the longest ago.
    pub fn oldest(&self) -> Option<Node> {
        self.nodes.get(self.oldest as usize).copied()
    }

    /// What is known of an id.
    pub fn get(&self, id: Id) -> Option<Node> {
        let place = self.place(id)?;
        self.nodes.get(place as usize).copied()
    }

    /// All ids that fit, in no order.
    pub fn ids(&self, fits: impl Fn(&Node) -> bool) -> Vec<Id> {
        let fitting = self.nodes.iter().filter(|node| fits(node));
        fitting.map(|node| node.id).collect()
    }

    /// All objects of a URL and a person, the last used first.
    pub fn candidates(&self, url: u64, who: u64) -> Vec<Node> {
        let places = self.places.iter_hash(hash(url, who));
        let mut nodes: Vec<Node> = places
            .filter_map(|&place| self.nodes.get(place as usize))
            .filter(|node| node.id.url == url && node.id.who == who)
            .copied()
            .collect();
        nodes.sort_unstable_by_key(|node| std::cmp::Reverse(node.used));
        nodes
    }

    /// What is too many of the variants of one URL for one person: clients choose what an answer varies by, and each
    /// request looks through all there are. The least recently used.
    pub fn surplus(&self, url: u64, who: u64) -> Vec<Id> {
        let places = self.places.iter_hash(hash(url, who));
        if places.count() <= VARIANTS {
            return Vec::new();
        }
        let nodes = self.candidates(url, who);
        nodes.iter().skip(VARIANTS).map(|node| node.id).collect()
    }

    /// The same for all URLs and persons.
    pub fn all_surplus(&self) -> Vec<Id> {
        let ids: Vec<Id> = self.ids(|_| true);
        let mut owners: Vec<_> = ids.iter().map(|id| (id.url, id.who)).collect();
        owners.sort_unstable();
        let many = owners.chunk_by(|a, b| a == b);
        let many = many.filter(|same| same.len() > VARIANTS);
        many.flat_map(|same| self.surplus(same[0].0, same[0].1))
            .collect()
    }

    /// Notes that an object was used. Returns when it was used before, if it is there.
    pub fn touch(&mut self, id: Id, now: u64) -> Option<u64> {
        let place = self.place(id)?;
        self.unlink(place);
        let node = &mut self.nodes[place as usize];
        let before = node.used;
        node.used = now.max(before);
        self.link_newest(place);
        Some(before)
    }

    /// Takes an object in, as the last used; one of the same id goes.
    pub fn insert(&mut self, id: Id, units: u32, now: u64) -> Change {
        self.note_change(id);
        let mut change = self.drop_node(id);
        if self.nodes.len() >= MOST {
            return change;
        }
        let place = self.add(Node {
            id,
            used: now,
            units,
            newer: NONE,
            older: NONE,
        });
        self.link_newest(place);
        change.objects += 1;
        change.units += i64::from(units);
        change
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: Id) -> Change {
        self.note_change(id);
        self.drop_node(id)
    }

    /// A listing of the directory begins: from now on changes are noted.
    pub fn begin_listing(&mut self) {
        self.changed = Some(Vec::new());
    }

    /// What the listing showed. What came or went meanwhile stays as it is. With `whole`, what was not found goes.
    pub fn merge(&mut self, mut found: Vec<Found>, whole: bool, now: u64) -> Change {
        let mut changed = self.changed.take().unwrap_or_default();
        changed.sort_unstable();
        found.sort_unstable_by_key(|file| file.id);
        let is_changed = |id: &Id| changed.binary_search(id).is_ok();
        let mut change = Change::default();
        if whole {
            let gone = self.ids(|node| {
                let there = found.binary_search_by_key(&node.id, |file| file.id);
                there.is_err() && !is_changed(&node.id)
            });
            for id in gone {
                change.add(self.drop_node(id));
            }
        }
        let mut reordered = false;
        self.nodes
            .reserve_exact(found.len().saturating_sub(self.nodes.len()));
        for file in found {
            if is_changed(&file.id) {
                continue;
            }
            // A clock that was set back must not keep a file for ever.
            let used = file.used.min(now);
            if let Some(place) = self.place(file.id) {
                let node = &mut self.nodes[place as usize];
                change.units += i64::from(file.units) - i64::from(node.units);
                node.units = file.units;
                if used > node.used {
                    node.used = used;
                    reordered = true;
                }
            } else if self.nodes.len() < MOST {
                self.add(Node {
                    id: file.id,
                    used,
                    units: file.units,
                    newer: NONE,
                    older: NONE,
                });
                change.objects += 1;
                change.units += i64::from(file.units);
                reordered = true;
            }
        }
        if reordered {
            self.relink();
        }
        self.indexed = true;
        self.shrink();
        change
    }

    fn note_change(&mut self, id: Id) {
        if let Some(changed) = &mut self.changed {
            changed.push(id);
        }
    }

    fn place(&self, id: Id) -> Option<u32> {
        let is_it = |&place: &u32| self.nodes[place as usize].id == id;
        self.places.find(hash(id.url, id.who), is_it).copied()
    }

    /// Adds a node that is in no order yet.
    fn add(&mut self, node: Node) -> u32 {
        if self.nodes.len() == self.nodes.capacity() {
            // Not doubled: with thousands of tables, half-empty ones would take more than what they hold.
            let more = (self.nodes.len() / 16).max(4);
            self.nodes.reserve_exact(more);
        }
        let place = self.nodes.len() as u32;
        self.nodes.push(node);
        let nodes = &self.nodes;
        let rehash = |&place: &u32| {
            let id = nodes[place as usize].id;
            hash(id.url, id.who)
        };
        self.places
            .insert_unique(hash(node.id.url, node.id.who), place, rehash);
        place
    }

    fn drop_node(&mut self, id: Id) -> Change {
        let Some(place) = self.place(id) else {
            return Change::default();
        };
        self.unlink(place);
        let nodes = &self.nodes;
        let is_it = |&other: &u32| other == place;
        if let Ok(entry) = self.places.find_entry(hash(id.url, id.who), is_it) {
            entry.remove();
        }
        // The last node takes the free place, and all that points to it is told.
        let last = nodes.len() as u32 - 1;
        if last != place {
            let moved = nodes[last as usize];
            let is_last = |&other: &u32| other == last;
            let key = hash(moved.id.url, moved.id.who);
            if let Some(entry) = self.places.find_mut(key, is_last) {
                *entry = place;
            }
            match self.nodes.get_mut(moved.newer as usize) {
                Some(newer) => newer.older = place,
                None => self.newest = place,
            }
            match self.nodes.get_mut(moved.older as usize) {
                Some(older) => older.newer = place,
                None => self.oldest = place,
            }
        }
        let node = self.nodes.swap_remove(place as usize);
        Change {
            objects: -1,
            units: -i64::from(node.units),
        }
    }

    fn unlink(&mut self, place: u32) {
        let Node { newer, older, .. } = self.nodes[place as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let before = self.newest;
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.newer = place,
            None => self.oldest = place,
        }
        let node = &mut self.nodes[place as usize];
        node.newer = NONE;
        node.older = before;
        self.newest = place;
    }

    /// Puts all in order again.
    fn relink(&mut self) {
        let mut places: Vec<u32> = (0..self.nodes.len() as u32).collect();
        places.sort_by_key(|&place| self.nodes[place as usize].used);
        (self.newest, self.oldest) = (NONE, NONE);
        for place in places {
            self.link_newest(place);
        }
    }

    /// Gives memory back after many objects went.
    fn shrink(&mut self) {
        let len = self.nodes.len();
        if self.nodes.capacity() > len + len / 4 + 16 {
            self.nodes.shrink_to(len);
            let nodes = &self.nodes;
            self.places.shrink_to(len, |&place| {
                let id = nodes[place as usize].id;
                hash(id.url, id.who)
            });
        }
    }
}

impl Change {
    /// Both changes, one after the other.
    pub fn add(&mut self, other: Change) {
        self.objects += other.objects;
        self.units += other.units;
    }
}
