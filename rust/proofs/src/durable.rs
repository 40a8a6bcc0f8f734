//! Putting what a stage wrote on the disk before it is reported as done.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Flushes a file's data and metadata.
pub fn sync_file(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("flush {}", path.display()))
}

/// Has the system begin to write a range of a file to the disk, so that less is left for the flush at
/// the end. Without effect where that isn't possible.
pub fn start_writing_back(file: &File, offset: u64, length: usize) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else {
        return;
    };
    // SAFETY: the descriptor is open as long as `file` is, and no memory is involved.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// Flushes the entries of the directory that holds `path`.
pub fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_file(parent),
        _ => sync_file(Path::new(".")),
    }
}

/// Flushes every regular file of a directory, and its entries. Links are not followed: what they
/// point at was flushed by whoever wrote it.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        if entry.file_type()?.is_file() {
            sync_file(&entry.path())?;
        }
    }
    sync_file(dir)
}

/// A file that appears under its name only when it is complete: it is written beside it, flushed
/// and renamed. Dropped without [`PartialFile::publish`], it is removed.
pub struct PartialFile {
    pub file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl PartialFile {
    /// Creates `path` + `.partial`, truncating one that an earlier run left.
    pub fn create(path: &Path) -> Result<Self> {
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
        Ok(PartialFile {
            file,
            partial,
            path: path.to_owned(),
        })
    }

    /// The file opened once more, for writing past the page cache. Fails where the file system has no such
    /// thing.
    pub fn open_direct(&self) -> io::Result<File> {
        File::options()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&self.partial)
    }

    /// Where the file is while it isn't complete.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Flushes the file and gives it its name, replacing what has that name (a link is replaced,
    /// not followed).
    pub fn publish(self) -> Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("flush {}", self.partial.display()))?;
        fs::rename(&self.partial, &self.path).with_context(|| {
            format!(
                "rename {} to {}",
                self.partial.display(),
                self.path.display()
            )
        })?;
        sync_parent(&self.path)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After publish the partial name is gone and there is nothing to remove.
        let _ = fs::remove_file(&self.partial);
    }
}
