//! File locks (flock): held by an open file, released by the kernel when its holder dies.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time between two tries for a lock that somebody holds.
const RETRY: Duration = Duration::from_millis(100);

/// A locked file; dropped, it is closed and unlocked.
pub struct Lock(File);

impl Lock {
    pub fn file(&self) -> &File {
        &self.0
    }
}

/// Takes the exclusive lock of `file` unless somebody holds it: then none.
pub fn try_exclusive(file: File) -> io::Result<Option<Lock>> {
    match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes a shared lock of `file`, waiting for an exclusive one to end.
pub fn shared(file: File) -> io::Result<Lock> {
    flock(&file, libc::LOCK_SH)?;
    Ok(Lock(file))
}

/// Takes the exclusive lock of the file at `path`, which is created; while somebody holds it,
/// `waiting` is called ten times a second and can end the wait with an error.
pub fn wait_exclusive(path: &Path, waiting: &mut dyn FnMut() -> Result<()>) -> Result<Lock> {
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("create lock file {}", path.display()))?;
        match try_exclusive(file).with_context(|| format!("lock {}", path.display()))? {
            Some(lock) => return Ok(lock),
            None => waiting()?,
        }
        thread::sleep(RETRY);
    }
}

fn flock(file: &File, operation: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: flock takes an open descriptor and touches no memory.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
