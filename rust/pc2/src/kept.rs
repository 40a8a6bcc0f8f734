//! Trees that an earlier run finished, for the run that takes its work up.
//!
//! Until everything is done, a finished tree has a name of its own in the cache directory, since
//! whoever finds the final names takes the trees for whole. A record beside them says what they were
//! made of and their checksums.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use poseidon::Node;
use sdr::durable::publish;
use serde::{Deserialize, Serialize};

use crate::files::rename;
use crate::shape::Shape;
use crate::tree::checksum_of;

/// All files of an unfinished PC2 begin with this.
pub const PREFIX: &str = "pc2-";
const RECORD: &str = "pc2-finished-trees.json";
const FORMAT: u32 = 2;

/// JSON contents of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    made_of: MadeOf,
    /// By the final name of the file.
    trees: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub root: Node,
    /// Of the file.
    pub checksum: String,
    /// XXH3 with 128 bits of the part of each file that the tree was made of, as it was read then. A
    /// tree is finished before its layers are verified, so that these may have been other bytes than
    /// the layers' checksums speak of.
    pub sources: Vec<String>,
}

/// What decides every byte of the trees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MadeOf {
    nodes: u64,
    rows_to_discard: u32,
    /// Those of the label layers.
    layers: Vec<String>,
    /// Root of tree_d.
    comm_d: Node,
}

/// The finished trees of a sector.
pub struct Kept {
    cache_dir: PathBuf,
    /// None if the layers have no checksums: then nothing tells this sector's trees from another's.
    record: Option<Mutex<Record>>,
}

impl Kept {
    /// Takes up what an earlier run left in `cache_dir`, if it was made of the same layers and data.
    pub fn open(
        shape: &Shape,
        cache_dir: &Path,
        layers: Option<Vec<String>>,
        comm_d: Node,
    ) -> Result<Self> {
        let record = layers.map(|layers| {
            let made_of = MadeOf {
                nodes: shape.nodes,
                rows_to_discard: shape.rows_to_discard,
                layers,
                comm_d,
            };
            let found = fs::read(cache_dir.join(RECORD)).ok();
            found
                .and_then(|json| serde_json::from_slice::<Record>(&json).ok())
                .filter(|record| record.format == FORMAT && record.made_of == made_of)
                .unwrap_or(Record {
                    format: FORMAT,
                    made_of,
                    trees: BTreeMap::new(),
                })
        });
        Ok(Kept {
            cache_dir: cache_dir.to_owned(),
            record: record.map(Mutex::new),
        })
    }

    /// Removes what has the final name of a tree that is not finished.
    pub fn clear(&self, name: &str) -> Result<()> {
        remove(&self.cache_dir.join(name))
    }

    /// Where the tree with the final name `name` is while others are missing.
    pub fn path(&self, name: &str) -> PathBuf {
        self.cache_dir.join(format!("{PREFIX}{}", short(name)))
    }

    /// Whether finished trees are recorded.
    pub fn records(&self) -> bool {
        self.record.is_some()
    }

    /// How many base trees of the tree `stem` the record has. Whether they are still there is not looked at.
    pub fn count(&self, stem: &str) -> u64 {
        let count = |record| {
            let names = lock(record);
            names
                .trees
                .keys()
                .filter(|name| name.starts_with(stem))
                .count() as u64
        };
        self.record.as_ref().map_or(0, count)
    }

    /// The tree `name`, if an earlier run finished it and its file is as it was then. `look` is called
    /// every now and then; an error it returns ends it.
    pub fn find(&self, name: &str, look: &mut dyn FnMut() -> Result<()>) -> Result<Option<Entry>> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        let entry = lock(record).trees.get(name).cloned();
        let Some(entry) = entry else {
            return Ok(None);
        };
        let final_path = self.cache_dir.join(name);
        let path = self.path(name);
        if !path.exists() && final_path.exists() {
            // The run was cut while it gave the trees their final names.
            rename(&final_path, &path)?;
        }
        if !path.exists() {
            return Ok(None);
        }
        match checksum_of(&path, look) {
            Ok(found) => Ok((found == entry.checksum).then_some(entry)),
            // One that the disk does not give back is made again.
            Err(error) if error.is::<io::Error>() => {
                log::warn!("{}: {error:#}; it is made again", path.display());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Records a tree that is on the disk under [`Kept::path`].
    pub fn add(&self, name: &str, entry: Entry) -> Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        // Written under the lock: two that finish at the same time would write the same file.
        let mut record = lock(record);
        record.trees.insert(name.to_owned(), entry);
        self.write(&record)
    }

    /// Keeps a tree no longer.
    pub fn forget(&self, name: &str) -> Result<()> {
        if let Some(record) = &self.record {
            let mut record = lock(record);
            record.trees.remove(name);
            self.write(&record)?;
        }
        remove(&self.path(name))
    }

    fn write(&self, record: &Record) -> Result<()> {
        publish(&self.cache_dir.join(RECORD), &serde_json::to_vec(record)?)
    }

    /// Gives a finished tree its final name.
    pub fn release(&self, name: &str) -> Result<()> {
        rename(&self.path(name), &self.cache_dir.join(name))
    }
}

/// Removes every file of an unfinished PC2 from a cache directory.
pub fn discard(cache_dir: &Path) -> Result<()> {
    let list = || format!("list {}", cache_dir.display());
    for entry in fs::read_dir(cache_dir).with_context(list)? {
        let entry = entry.with_context(list)?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX))
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file unless it is missing.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The name without what all trees have in common, which others remove trees by.
fn short(name: &str) -> &str {
    name.strip_prefix("sc-02-data-tree-").unwrap_or(name)
}

fn lock(record: &Mutex<Record>) -> std::sync::MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
