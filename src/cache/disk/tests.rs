//! Tests of the whole tier; the parts' own are below.

use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

/// Failures that a test asks for.
#[derive(Debug, Default)]
pub struct Faults {
    /// Making a file fails.
    pub create: Mutex<Option<Errno>>,
    /// Renaming fails.
    pub rename: Mutex<Option<Errno>>,
    /// Writing fails, after so many bytes.
    pub write: Mutex<Option<(u64, Errno)>>,
}

impl Faults {
    pub fn check_create(&self) -> Result<(), Errno> {
        self.create.lock().unwrap().map_or(Ok(()), Err)
    }

    pub fn check_rename(&self) -> Result<(), Errno> {
        self.rename.lock().unwrap().map_or(Ok(()), Err)
    }

    /// Writes what still fits, as a disk that runs full does.
    pub fn check_write(
        &self,
        file: BorrowedFd<'_>,
        pieces: &[&[u8]],
        at: u64,
    ) -> Result<(), Errno> {
        let mut write = self.write.lock().unwrap();
        let Some((left, errno)) = *write else {
            return Ok(());
        };
        let bytes = pieces.concat();
        let fits = usize::try_from(left).unwrap().min(bytes.len());
        *write = Some((left - fits as u64, errno));
        if fits == bytes.len() {
            return Ok(());
        }
        super::files::write_all(file, &[&bytes[..fits]], at).unwrap();
        Err(errno)
    }
}
