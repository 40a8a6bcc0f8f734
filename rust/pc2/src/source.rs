//! Files of nodes that are read from their start to their end, with their checksums.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, Error, Result};
use poseidon::Node;
use sdr::layers::Checksum;

use crate::files::{forget, read_nodes};
use crate::shape::NODE;

/// A label layer that PC1 has to make again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedLayer {
    /// From 1.
    pub layer: u32,
    pub path: PathBuf,
    /// What was found there.
    pub why: String,
}

impl fmt::Display for DamagedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DamagedLayer { layer, path, why } = self;
        write!(
            f,
            "label layer {layer} {}: {why}; run PC1 again, which makes damaged layers anew and keeps \
             the others",
            path.display()
        )
    }
}

impl std::error::Error for DamagedLayer {}

/// What a file is, for errors.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A label layer, from 1.
    Layer(u32, PathBuf),
    /// The replica that an update is encoded with.
    Replica(PathBuf),
}

impl Origin {
    pub fn path(&self) -> &Path {
        let (Origin::Layer(_, path) | Origin::Replica(path)) = self;
        path
    }

    /// The error of a file in which `why` was found.
    pub fn damaged(&self, why: String) -> Error {
        match self {
            Origin::Layer(layer, path) => DamagedLayer {
                layer: *layer,
                path: path.clone(),
                why,
            }
            .into(),
            Origin::Replica(path) => anyhow!("sealed file {}: {why}", path.display()),
        }
    }

    /// The same of a node that is no field element.
    pub fn foreign(&self, node: u64) -> Error {
        self.damaged(format!("node {node} is no field element"))
    }
}

/// A file being read.
pub struct Source {
    pub origin: Origin,
    file: File,
    /// The checksum that the file should have; none if nobody knows it.
    expected: Option<String>,
    read: Checksum,
}

impl Source {
    pub fn new(origin: Origin, file: File, expected: Option<String>) -> Self {
        Source {
            origin,
            file,
            expected,
            read: Checksum::default(),
        }
    }

    /// The checksum that the file should have.
    pub fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// The nodes of `count` from node `first` on. Every call goes on where the one before ended.
    ///
    /// A disk that can't give a layer back is a damaged layer like any other.
    pub fn read(&mut self, first: u64, count: u64) -> Result<Vec<Node>> {
        let nodes = read_nodes(&self.file, self.origin.path(), first, count).map_err(|error| {
            match error.downcast_ref::<std::io::Error>() {
                Some(cause) => self
                    .origin
                    .damaged(format!("can't be read from node {first} on: {cause}")),
                None => error,
            }
        })?;
        if self.expected.is_some() {
            self.read.update(nodes.as_flattened());
        }
        forget(&self.file, first * NODE, count * NODE);
        Ok(nodes)
    }

    /// Fails unless all that was read is what was written: to be called when everything was.
    pub fn verify(&self) -> Result<()> {
        match &self.expected {
            Some(expected) if *expected != self.read.hex() => {
                Err(self.origin.damaged("its checksum is wrong".to_owned()))
            }
            _ => Ok(()),
        }
    }
}
