//! Getting files onto the disk, and errors of a full one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{anyhow, Context, Result};

/// Reserves `size` bytes for a file just created at `path`, so that a full disk is known at once.
/// A file system that can't reserve gets the size only.
pub fn preallocate(file: &File, path: &Path, size: u64) -> Result<()> {
    let length =
        libc::off_t::try_from(size).context("file size beyond what the system can hold")?;
    // SAFETY: fallocate takes an open descriptor and touches no memory.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) };
    let reserved = if result == 0 {
        Ok(())
    } else {
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(size),
            error => Err(error),
        }
    };
    reserved.map_err(|error| write_error(error, path, size))
}

/// An error that names the file, and for a full disk what is needed, what is free and what to do.
pub fn write_error(error: io::Error, path: &Path, needed: u64) -> anyhow::Error {
    let full = [Some(libc::ENOSPC), Some(libc::EDQUOT)].contains(&error.raw_os_error());
    if !full {
        return anyhow!(error).context(format!("write {}", path.display()));
    }
    let free = match free_space(path) {
        Some(free) => format!("{free} bytes are free"),
        None => "its free space is unknown".to_owned(),
    };
    anyhow!(error).context(format!(
        "write {}: the disk is full: {needed} bytes are needed, {free}; free some space and try again",
        path.display()
    ))
}

fn free_space(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let dir = std::ffi::CString::new(path.parent()?.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is NUL-terminated and `found` is a statvfs to be written; it is read only
    // after success.
    unsafe {
        if libc::statvfs(dir.as_ptr(), found.as_mut_ptr()) != 0 {
            return None;
        }
        let found = found.assume_init();
        Some(found.f_bavail * found.f_frsize)
    }
}

/// Writes a small file so that `path` names either what was there before or all of `contents`, on the
/// disk.
pub fn publish(path: &Path, contents: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let size = contents.len() as u64;
    File::create(partial)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .map_err(|error| write_error(error, partial, size))?;
    fs::rename(partial, path)
        .with_context(|| format!("rename {} to {}", partial.display(), path.display()))?;
    sync_parent(path)
}

/// Puts the directory entry of `path` on the disk.
pub fn sync_parent(path: &Path) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("flush directory {}", dir.display()))
}
