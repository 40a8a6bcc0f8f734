//! Writing large files past the page cache, which has better uses on a sealing machine: the parents
//! cache, the layers that PC2 reads next. It also spares copying every byte once more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::durable::PartialFile;

/// Smaller files are written through the page cache, where who reads them next finds them.
const FROM: u64 = 128 << 20;
/// So are smaller parts of large files: the cache gathers them to something worth writing.
const PART: usize = 64 << 10;
/// Alignment of what is written past the page cache, in memory and in the file.
const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGNMENT`].
pub struct Aligned {
    room: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// `length` zero bytes.
    pub fn new(length: usize) -> Self {
        let room = vec![0; length + ALIGNMENT];
        let start = room.as_ptr().align_offset(ALIGNMENT);
        Aligned {
            room,
            start,
            length,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.start + self.length]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.length]
    }
}

/// A file being written, by several threads at a time: large aligned parts go past the page cache where
/// the file system can do that.
pub struct DirectFile<'a> {
    partial: &'a PartialFile,
    direct: Option<File>,
    /// Cleared for good by the first refusal.
    usable: AtomicBool,
}

impl<'a> DirectFile<'a> {
    /// Writes to `partial`, which will have `size` bytes.
    pub fn new(partial: &'a PartialFile, size: u64) -> Self {
        let direct = (size >= FROM).then(|| partial.open_direct().ok()).flatten();
        DirectFile {
            usable: AtomicBool::new(direct.is_some()),
            partial,
            direct,
        }
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_somehow(bytes, offset)
            .with_context(|| format!("write {}", self.partial.partial().display()))
    }

    fn write_somehow(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct_for(bytes, offset) {
            match direct.write_all_at(bytes, offset) {
                // A device with larger blocks; what was written already is written again.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.usable.store(false, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        self.partial.file.write_all_at(bytes, offset)
    }

    fn direct_for(&self, bytes: &[u8], offset: u64) -> Option<&File> {
        let aligned = [bytes.as_ptr() as usize, bytes.len()]
            .iter()
            .all(|at| at.is_multiple_of(ALIGNMENT))
            && offset.is_multiple_of(ALIGNMENT as u64);
        let wanted = aligned && bytes.len() >= PART && self.usable.load(Ordering::Relaxed);
        self.direct.as_ref().filter(|_| wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of every kind, past the cache and through it, end up where they belong.
    #[test]
    fn a_large_file_has_every_byte_whichever_way_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let partial = PartialFile::create(&path).unwrap();
        partial.file.set_len(FROM).unwrap();
        let file = DirectFile::new(&partial, FROM);
        let mut part = Aligned::new(PART);
        assert_eq!(part.bytes().as_ptr().align_offset(ALIGNMENT), 0);
        part.bytes_mut().fill(7);
        file.write(part.bytes(), 0).unwrap();
        file.write(&part.bytes()[..32], PART as u64).unwrap();
        file.write(part.bytes(), PART as u64 + 32).unwrap();
        file.write(part.bytes(), FROM - PART as u64).unwrap();
        drop(file);
        partial.publish().unwrap();
        let written = std::fs::read(&path).unwrap();
        let (first, rest) = written.split_at(2 * PART + 32);
        let (hole, last) = rest.split_at(rest.len() - PART);
        assert!(first.iter().chain(last).all(|byte| *byte == 7));
        assert!(hole.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn small_files_stay_in_the_page_cache() {
        let dir = tempfile::tempdir().unwrap();
        let partial = PartialFile::create(&dir.path().join("file")).unwrap();
        let file = DirectFile::new(&partial, FROM - 1);
        assert!(file.direct.is_none());
    }
}
