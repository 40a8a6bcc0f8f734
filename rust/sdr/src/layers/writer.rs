//! Writing a layer file behind the hashing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result};
use xxhash_rust::xxh3::Xxh3;

use super::sidecar::Sidecar;
use super::{remove, LayerId, CHUNK};
use crate::durable::{preallocate, sync_parent, write_error};

/// Layers smaller than this are written through the page cache: nothing is gained without it.
const DIRECT_FROM: u64 = 1 << 20;
/// Alignment of what is written past the page cache, in memory and in the file.
const DIRECT_ALIGNMENT: u64 = 4096;

/// Chunks of a layer at least, if it is not tiny.
const LEAST_CHUNKS: u64 = 8;

/// A layer file that appears under its name when it is complete and on the disk. Dropped before, it
/// is removed.
pub struct Writer {
    id: LayerId,
    cache_dir: PathBuf,
    partial: PathBuf,
    file: File,
    /// Whether writes go past the page cache, which the parents cache needs more.
    direct: bool,
    /// Bytes written at a time: less of a small layer, whose last chunk the sector waits for.
    chunk: usize,
    written: usize,
    digested: Xxh3,
}

impl Writer {
    /// Starts the file of a layer in `cache_dir`, with its space reserved. A layer and sidecar that are
    /// there already are removed: they are being made again.
    pub fn create(id: LayerId, cache_dir: &std::path::Path) -> Result<Self> {
        remove(&id.path(cache_dir))?;
        remove(&id.sidecar(cache_dir))?;
        let partial = id.partial(cache_dir);
        // Not opened in place: a run that is not quite dead may still write to the one that is there.
        remove(&partial)?;
        let open = |flags| {
            File::options()
                .write(true)
                .create_new(true)
                .custom_flags(flags)
                .open(&partial)
        };
        let mut direct = id.size() >= DIRECT_FROM && id.size() & (DIRECT_ALIGNMENT - 1) == 0;
        let opened = if direct {
            open(libc::O_DIRECT)
        } else {
            open(0)
        };
        let file = match opened {
            // A file system that has no such thing. It may have made the file all the same.
            Err(error) if direct && error.raw_os_error() == Some(libc::EINVAL) => {
                direct = false;
                remove(&partial)?;
                open(0)
            }
            opened => opened,
        };
        let writer = Writer {
            id,
            cache_dir: cache_dir.to_owned(),
            file: file.with_context(|| format!("create layer file {}", partial.display()))?,
            partial,
            direct,
            chunk: CHUNK.min((id.size() / LEAST_CHUNKS).max(DIRECT_ALIGNMENT) as usize),
            written: 0,
            digested: Xxh3::new(),
        };
        preallocate(&writer.file, &writer.partial, id.size())?;
        Ok(writer)
    }

    /// Which layer it writes.
    pub fn layer(&self) -> u32 {
        self.id.layer
    }

    /// Writes the next chunk of the finished labels if it is whole, and returns whether there is one more:
    /// `labels` are those from the layer's start, at the same page-aligned place in every call.
    pub fn follow(&mut self, labels: &[u8]) -> Result<bool> {
        if labels.len() - self.written >= self.chunk {
            self.write(&labels[self.written..self.written + self.chunk])?;
        }
        Ok(labels.len() - self.written >= self.chunk)
    }

    /// Writes the rest of the layer's `labels`, and gives file and sidecar their names when they are on
    /// the disk: the sidecar first, so that no layer has a name without its checksum.
    pub fn finish(mut self, labels: &[u8]) -> Result<()> {
        while self.follow(labels)? {}
        self.write(&labels[self.written..])?;
        let path = self.id.path(&self.cache_dir);
        self.file
            .sync_all()
            .map_err(|error| write_error(error, &self.partial, self.id.size()))?;
        Sidecar::new(&self.id, &self.digested).write(&self.id, &self.cache_dir)?;
        fs::rename(&self.partial, &path)
            .with_context(|| format!("rename {} to {}", self.partial.display(), path.display()))?;
        sync_parent(&path)
    }

    fn write(&mut self, labels: &[u8]) -> Result<()> {
        self.digested.update(labels);
        let offset = self.written as u64;
        let mut result = self.file.write_all_at(labels, offset);
        if self.direct
            && result
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput)
        {
            // A device with larger blocks, or memory that can't be written from directly.
            self.direct = false;
            self.file = File::options().write(true).open(&self.partial)?;
            result = self.file.write_all_at(labels, offset);
        }
        let missing = self.id.size() - offset;
        result.map_err(|error| write_error(error, &self.partial, missing))?;
        self.written += labels.len();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After `finish` there is none; otherwise it is of no use, and the next run removes a leftover.
        let _ = fs::remove_file(&self.partial);
    }
}
