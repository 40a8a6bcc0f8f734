//! What is remembered about a parents cache file whose digest was computed: a JSON file beside it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::with_suffix;
use crate::durable::publish;

/// The digest of a file, and what tells whether it is still the same file.
#[derive(Serialize, Deserialize)]
pub struct Record {
    /// SHA-256 of the whole file, hex.
    pub digest: String,
    size: u64,
    inode: u64,
    /// Time of the last change, nanoseconds since 1970.
    changed: i128,
}

impl Record {
    pub fn new(digest: String, file: &File) -> Result<Self> {
        let found = file.metadata()?;
        Ok(Record {
            digest,
            size: found.len(),
            inode: found.ino(),
            changed: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        })
    }

    /// The record of the parents cache file at `path`; none if it is missing or unreadable.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(place(path)).ok()?).ok()
    }

    /// Whether `file` is unchanged since the record was made.
    pub fn fits(&self, file: &File) -> bool {
        Record::new(String::new(), file).is_ok_and(|found| {
            (found.size, found.inode, found.changed) == (self.size, self.inode, self.changed)
        })
    }

    /// Has the digest of the file at `path` computed again before it is next used.
    pub fn distrust(path: &Path) {
        if let Some(record) = Record::read(path) {
            // Without the record it would be computed as well, but of some files it is the only one known.
            let _ = Record { inode: 0, ..record }.write(path);
        }
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        publish(&place(path), &serde_json::to_vec(self)?)
    }
}

fn place(path: &Path) -> PathBuf {
    with_suffix(path, ".digest")
}
