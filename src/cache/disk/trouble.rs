//! What can be wrong, in words: with the directory, with writing, with a file.

use std::path::PathBuf;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path:?} for the cache: {why}; {advice}")]
pub struct OpenError {
    /// Where.
    pub path: PathBuf,
    /// What was tried, as after "cannot".
    pub doing: &'static str,
    /// What the system said.
    #[source]
    pub why: std::io::Error,
    /// What to do about it.
    pub advice: &'static str,
}

impl OpenError {
    /// What the system said, as a number.
    pub(super) fn errno(&self) -> rustix::io::Errno {
        let raw = rustix::io::Errno::from_io_error(&self.why);
        raw.unwrap_or(rustix::io::Errno::IO)
    }
}

/// Why an object is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Off {
    /// Writing failed, just now or a short while ago. It is tried again later.
    #[error("writing to the disk failed")]
    Failed,
    /// The file system has less free space than is to be left.
    #[error("the file system has too little free space")]
    LowSpace,
    /// It would take more than half of the limit, or more than others can make way for; or, until all is indexed, more
    /// than is surely left.
    #[error("there is no room for the object")]
    NoRoom,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// It is no object's.
    #[error("it is not an object of the cache")]
    Foreign,
    /// Another version wrote it.
    #[error("it is of another version")]
    Version,
    /// Its first bytes are damaged.
    #[error("its beginning is damaged")]
    Prefix,
    /// It is another object's.
    #[error("it is another object's")]
    OtherId,
    /// It was cut, or something was added.
    #[error("its length is wrong")]
    Length,
    /// A place for a head in it is damaged.
    #[error("its head is damaged")]
    Head,
    /// A block of its body is damaged.
    #[error("its body is damaged")]
    Block,
    /// The disk failed to give it.
    #[error("it cannot be read")]
    Unreadable,
}
