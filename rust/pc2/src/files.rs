//! Reading nodes, and files that appear under their name when they are whole.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use poseidon::Node;
use sdr::durable::{preallocate, sync_parent, write_error};
use sdr::lock::{try_exclusive, Lock};

use crate::shape::NODE;

/// Files smaller than this may stay in the page cache after they were read or written.
const LARGE: u64 = 1 << 30;
/// Least that is worth a write of its own: of less, the same pages would be written several times.
const WRITE_BACK: usize = 64 << 10;
/// Time between two tries for a directory that somebody holds.
const RETRY: Duration = Duration::from_millis(100);
/// Bytes that are put on the disk between two looks at whether to go on.
const SYNC: u64 = 64 << 20;

/// `count` nodes of a file from node `first` on.
pub fn read_nodes(file: &File, path: &Path, first: u64, count: u64) -> Result<Vec<Node>> {
    let mut nodes = vec![Node::default(); usize::try_from(count)?];
    file.read_exact_at(nodes.as_flattened_mut(), first * NODE)
        .with_context(|| format!("read {}", path.display()))?;
    Ok(nodes)
}

/// Lets a part of a large file go from the page cache, which the parents cache of PC1 needs more.
pub fn forget(file: &File, offset: u64, length: u64) {
    if file.metadata().is_ok_and(|found| found.len() < LARGE) {
        return;
    }
    // SAFETY: posix_fadvise takes an open descriptor and touches no memory. It is advice: that it
    // fails, or is not taken, is no error.
    unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            offset as libc::off_t,
            length as libc::off_t,
            libc::POSIX_FADV_DONTNEED,
        );
    }
}

/// Has the system write a part of a file to the disk, and waits for that if told to. An error of a wait
/// counts: the system tells each only once, and a flush after it knows nothing of it.
fn write_back(file: &File, offset: u64, length: u64, wait: bool) -> io::Result<()> {
    let mut how = libc::SYNC_FILE_RANGE_WRITE;
    if wait {
        how |= libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    }
    // SAFETY: sync_file_range takes an open descriptor and touches no memory.
    let failed = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as libc::off64_t,
            length as libc::off64_t,
            how,
        )
    };
    if failed == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Not every file system has it; the flush at the end does all of it then.
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP) => Ok(()),
        _ => Err(error),
    }
}

/// A file being written in any order, beside its name. Dropped before it is published, it is removed.
pub struct Unfinished {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    size: u64,
}

impl Unfinished {
    /// Starts the file that will be `path`, with its `size` reserved.
    pub fn create(path: &Path, size: u64) -> Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&partial)
            .with_context(|| format!("create {}", partial.display()))?;
        let unfinished = Unfinished {
            file,
            partial,
            path: path.to_owned(),
            size,
        };
        preallocate(&unfinished.file, &unfinished.partial, size)?;
        Ok(unfinished)
    }

    /// Writes nodes at a byte offset. The system begins at once to put them on the disk, so that
    /// little is left for [`Unfinished::sync`].
    pub fn write(&self, nodes: &[Node], offset: u64) -> Result<()> {
        let bytes = nodes.as_flattened();
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| write_error(error, &self.partial, self.size - offset))?;
        if self.size >= LARGE && bytes.len() >= WRITE_BACK {
            // Only begun: what becomes of it is told by the wait at the end.
            let _ = write_back(&self.file, offset, bytes.len() as u64, false);
        }
        Ok(())
    }

    /// Where the file is while it isn't finished.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// The file's contents so far.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file on the disk. `look` is called between parts of it that take no second; an error it
    /// returns ends the wait.
    pub fn sync(&self, look: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        for offset in (0..self.size).step_by(SYNC as usize) {
            write_back(&self.file, offset, SYNC.min(self.size - offset), true)
                .map_err(|error| write_error(error, &self.partial, self.size))?;
            look()?;
        }
        self.file
            .sync_all()
            .map_err(|error| write_error(error, &self.partial, self.size))
    }

    /// Gives the file its name. It must have been put on the disk.
    pub fn publish(&self) -> Result<()> {
        forget(&self.file, 0, self.size);
        rename(&self.partial, &self.path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once published there is none; otherwise it is of no use.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Takes a cache directory for this run alone, until what is returned is dropped; while somebody holds it,
/// `look` is called ten times a second and can end the wait with an error. A run that was told to stop may
/// take a moment to do so, and would take the files of its successor for its own.
///
/// The directory itself is locked, so that no file of a lock is left behind. A file system that has no such
/// locks goes without.
pub fn lock(dir: &Path, look: &mut dyn FnMut() -> Result<()>) -> Result<Option<Lock>> {
    let mut waited = false;
    loop {
        let opened = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
        match try_exclusive(opened) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Ok(None) => {}
            Err(error) => {
                log::warn!("lock {}: {error}; going on without", dir.display());
                return Ok(None);
            }
        }
        if !waited {
            log::info!("{}: waiting for another run to end", dir.display());
            waited = true;
        }
        look()?;
        thread::sleep(RETRY);
    }
}

/// Renames a file, durably.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("rename {} to {}", from.display(), to.display()))?;
    sync_parent(to)
}
