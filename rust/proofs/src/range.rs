//! Reading a range of a sector's data back: decoded, unpadded, chunk by chunk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use rayon::prelude::*;

use crate::control::Control;
use crate::durable::PartialFile;
use crate::fr32::{self, BLOCK_IN, BLOCK_OUT};
use crate::sector::{unpadded, NODE_SIZE};

/// Padded bytes that are read, decoded and written at a time.
const CHUNK: u64 = 4 << 20;

/// Padded bytes that one thread decodes or unpads alone; a whole number of blocks.
pub const THREAD_BLOCK: usize = 64 << 10;

/// A range of unpadded bytes that lies inside a sector and isn't empty.
pub struct SectorRange {
    start: u64,
    end: u64,
}

impl SectorRange {
    /// The range of `num_bytes` from `offset`; an error says what of it lies outside the sector.
    pub fn checked(offset: u64, num_bytes: u64, sector_size: u64) -> Result<Self> {
        let available = unpadded(sector_size);
        ensure!(num_bytes > 0, "num_bytes 0: expected 1 or more");
        match offset.checked_add(num_bytes) {
            Some(end) if end <= available => Ok(SectorRange { start: offset, end }),
            _ => bail!(
                "range of {num_bytes} bytes at offset {offset}: the sector has {available} unpadded \
                 bytes"
            ),
        }
    }

    /// Writes the range's bytes to the file at `output`, which appears when it is complete, and
    /// returns how many there are.
    ///
    /// `decode(offset, chunk)` fills `chunk` with the padded data from `offset` (padded bytes) on.
    /// Progress is in unpadded bytes. Data that can't come from padding is an error: it was decoded
    /// with the wrong key.
    pub fn write(
        &self,
        output: &Path,
        decode: impl Fn(u64, &mut [u8]) -> Result<()>,
        control: &mut Control<'_>,
    ) -> Result<u64> {
        let (block_in, block_out) = (BLOCK_IN as u64, BLOCK_OUT as u64);
        let total = self.end - self.start;
        let unsealed = PartialFile::create(output)?;
        let first = self.start / block_in * block_out;
        let last = self.end.div_ceil(block_in) * block_out;
        let chunk_size = CHUNK.min(last - first);
        let mut padded = vec![0u8; usize::try_from(chunk_size)?];
        let mut data = vec![0u8; padded.len() / BLOCK_OUT * BLOCK_IN];

        let mut written = 0;
        for offset in (first..last).step_by(padded.len()) {
            control.step(written, total)?;
            let length = usize::try_from(chunk_size.min(last - offset))?;
            let padded = &mut padded[..length];
            let data = &mut data[..length / BLOCK_OUT * BLOCK_IN];
            decode(offset, padded)?;
            if let Some(node) = first_unpadded_node(padded) {
                bail!(
                    "node {}: decodes to no padded data, so the key isn't this sector's",
                    offset / NODE_SIZE + node as u64
                );
            }
            unpad(padded, data);

            // The first and the last block may reach beyond the range.
            let data_offset = unpadded(offset);
            let skip = usize::try_from(self.start.saturating_sub(data_offset))?;
            let wanted = usize::try_from(self.end - data_offset)?.min(data.len());
            unsealed
                .file
                .write_all_at(&data[skip..wanted], written)
                .with_context(|| format!("write {}", output.display()))?;
            written += (wanted - skip) as u64;
        }
        unsealed.publish()?;
        control.finish(total)?;
        Ok(written)
    }
}

fn first_unpadded_node(padded: &[u8]) -> Option<usize> {
    padded
        .par_chunks(THREAD_BLOCK)
        .enumerate()
        .find_map_first(|(index, block)| {
            let node = fr32::first_unpadded_node(block)?;
            Some(index * (THREAD_BLOCK / NODE_SIZE as usize) + node)
        })
}

fn unpad(padded: &[u8], data: &mut [u8]) {
    padded
        .par_chunks(THREAD_BLOCK)
        .zip(data.par_chunks_mut(THREAD_BLOCK / BLOCK_OUT * BLOCK_IN))
        .for_each(|(padded, data)| fr32::unpad(padded, data));
}

/// A file that is only read, and is named when that fails.
pub struct Source<'a> {
    what: &'static str,
    path: &'a Path,
    file: File,
}

impl<'a> Source<'a> {
    /// Opens `path` for reading only; `what` names it in errors.
    pub fn open(what: &'static str, path: &'a Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {what} {}", path.display()))?;
        Ok(Source { what, path, file })
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, offset).with_context(|| {
            format!(
                "read {} {} at byte {offset}",
                self.what,
                self.path.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::one_line;

    const SECTOR: u64 = 8 << 20;

    /// Data of the byte at an unpadded offset.
    fn data_at(offset: u64) -> u8 {
        (offset % 251) as u8 | 1
    }

    fn decode(offset: u64, padded: &mut [u8]) -> Result<()> {
        let data: Vec<u8> = (unpadded(offset)..)
            .map(data_at)
            .take(padded.len() / BLOCK_OUT * BLOCK_IN)
            .collect();
        fr32::pad(&data, padded);
        Ok(())
    }

    #[test]
    fn ranges_need_not_start_or_end_at_blocks_or_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let all = unpadded(SECTOR);
        let chunk = unpadded(CHUNK);
        for (start, end) in [
            (0, 1),
            (126, 128),
            (127, 254),
            (5, chunk + 5),
            (chunk - 1, chunk + 1),
            (all - 3, all),
            (0, all),
        ] {
            let range = SectorRange::checked(start, end - start, SECTOR).unwrap();
            let written = range.write(&output, decode, &mut Control::none()).unwrap();
            assert_eq!(written, end - start);
            let expected: Vec<u8> = (start..end).map(data_at).collect();
            assert!(
                std::fs::read(&output).unwrap() == expected,
                "{start}..{end}"
            );
        }
    }

    #[test]
    fn a_range_outside_the_sector_is_refused_by_name() {
        let text = |offset, bytes| match SectorRange::checked(offset, bytes, 2048) {
            Ok(_) => panic!("{bytes} bytes at {offset} taken"),
            Err(error) => one_line(&error),
        };
        assert_eq!(
            text(1016, 1017),
            "range of 1017 bytes at offset 1016: the sector has 2032 unpadded bytes"
        );
        assert!(text(u64::MAX, 2).contains("the sector has 2032 unpadded bytes"));
        assert_eq!(text(0, 0), "num_bytes 0: expected 1 or more");
    }

    #[test]
    fn data_that_is_not_padded_is_refused_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let range = SectorRange::checked(0, unpadded(SECTOR), SECTOR).unwrap();
        let bad = |offset: u64, padded: &mut [u8]| {
            decode(offset, padded)?;
            if offset == CHUNK {
                padded[THREAD_BLOCK + 63] |= 0x80;
            }
            Ok(())
        };
        let error = range.write(&output, bad, &mut Control::none()).unwrap_err();
        assert_eq!(
            one_line(&error),
            "node 133121: decodes to no padded data, so the key isn't this sector's"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
