//! Checking and loading layer files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{bail, Context, Result};
use xxhash_rust::xxh3::Xxh3;

use super::sidecar::Sidecar;
use super::{LayerId, CHUNK};
use crate::graph::NODE_SIZE;
use crate::Report;

/// What was found in place of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The layer, every byte of it.
    Good,
    Missing,
    /// Something else; the text says why.
    Bad(String),
}

/// Reads a layer file and compares it with its sidecar. `report` receives nodes read.
pub fn check(id: &LayerId, cache_dir: &Path, report: &mut Report<'_>) -> Result<Found> {
    read(id, cache_dir, &mut |file, digested| {
        // Only for a file that is there: a large buffer of zeros takes milliseconds.
        let mut buffer = vec![0; CHUNK.min(id.size() as usize)];
        let mut done = 0;
        while done < id.size() {
            let length = buffer.len().min((id.size() - done) as usize);
            read_chunk(id, file, &mut buffer[..length], done, digested, report)?;
            done += length as u64;
        }
        Ok(())
    })
}

/// Reads a layer file into `labels`, which are as large, and compares it with its sidecar. `report`
/// receives nodes read.
pub fn load(
    id: &LayerId,
    cache_dir: &Path,
    labels: &mut [u8],
    report: &mut Report<'_>,
) -> Result<()> {
    let found = read(id, cache_dir, &mut |file, digested| {
        let mut done = 0;
        for chunk in labels.chunks_mut(CHUNK) {
            read_chunk(id, file, chunk, done, digested, report)?;
            done += chunk.len() as u64;
        }
        Ok(())
    })?;
    let path = id.path(cache_dir);
    match found {
        Found::Good => Ok(()),
        Found::Missing => bail!(
            "layer file {}: it has gone; start PC1 again",
            path.display()
        ),
        Found::Bad(why) => bail!("layer file {}: {why}; start PC1 again", path.display()),
    }
}

/// Reads and digests the chunk at `offset`, and reports it. It does not stay in the page cache, which the
/// parents cache needs more.
fn read_chunk(
    id: &LayerId,
    file: &mut File,
    chunk: &mut [u8],
    offset: u64,
    digested: &mut Xxh3,
    report: &mut Report<'_>,
) -> Result<()> {
    file.read_exact(chunk)?;
    digested.update(chunk);
    forget(file, offset, chunk.len());
    let done = (offset + chunk.len() as u64) / NODE_SIZE as u64;
    report(done, id.spec.nodes.into())
}

/// Asks the kernel to drop what it keeps of a part of a file.
fn forget(file: &File, offset: u64, length: usize) {
    if let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) {
        // SAFETY: advice about an open descriptor touches no memory.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, length, libc::POSIX_FADV_DONTNEED) };
    }
}

/// Opens a layer file of the right size and identity, and has `contents` read all of it.
fn read(
    id: &LayerId,
    cache_dir: &Path,
    contents: &mut dyn FnMut(&mut File, &mut Xxh3) -> Result<()>,
) -> Result<Found> {
    let path = id.path(cache_dir);
    let context = || format!("read layer file {}", path.display());
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error).with_context(context),
    };
    let size = file.metadata().with_context(context)?.len();
    if size != id.size() {
        return Ok(Found::Bad(format!(
            "{size} bytes found, {} expected",
            id.size()
        )));
    }
    let Some(sidecar) = Sidecar::read(id, cache_dir) else {
        return Ok(Found::Bad("it has no checksum file".to_owned()));
    };
    let mut digested = Xxh3::new();
    if !sidecar.same_layer(&Sidecar::new(id, &digested)) {
        return Ok(Found::Bad(
            "it belongs to another replica, proof type or size".to_owned(),
        ));
    }
    match contents(&mut file, &mut digested) {
        // A disk that can't give the bytes back is a damaged layer like any other.
        Err(error) if error.is::<io::Error>() => return Ok(Found::Bad(format!("{error}"))),
        result => result?,
    }
    if sidecar == Sidecar::new(id, &digested) {
        Ok(Found::Good)
    } else {
        Ok(Found::Bad("its checksum is wrong".to_owned()))
    }
}
