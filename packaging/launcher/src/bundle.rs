//! What `packaging/bundle.py` put behind this program in its file.
//!
//! ```text
//! program | zlib stream: manifest, contents of all files | footer
//! ```
//!
//! The manifest has a line `SHA-256 SIZE MODE PATH` per file, in the order of the contents. The
//! footer: SHA-256 of the manifest, its length, position of the stream (64 bits each), [`MAGIC`].

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{ensure, Context, Result};
use flate2::read::ZlibDecoder;
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"damocles-worker\n";
const FOOTER: usize = 32 + 8 + 8 + 16;

/// A file of the tree.
pub struct Entry {
    pub digest: String,
    pub size: u64,
    pub mode: u32,
    pub path: String,
}

/// The tree inside the file of this program.
pub struct Bundle {
    /// 16 hexadecimal digits that depend on every byte of the tree.
    pub name: String,
    pub entries: Vec<Entry>,
    /// The contents of all entries, one after the other.
    pub contents: ZlibDecoder<BufReader<File>>,
}

impl Bundle {
    /// Read all but the contents.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-i64::try_from(FOOTER)?))?;
        let mut footer = [0; FOOTER];
        file.read_exact(&mut footer)?;
        ensure!(footer.ends_with(MAGIC), "it does not end as it was built");
        let number = |at| u64::from_le_bytes(footer[at..at + 8].try_into().expect("8 bytes"));
        file.seek(SeekFrom::Start(number(40)))?;
        let mut contents = ZlibDecoder::new(BufReader::with_capacity(1 << 18, file));
        let mut manifest = Vec::new();
        contents
            .by_ref()
            .take(number(32))
            .read_to_end(&mut manifest)?;
        let is_whole = Sha256::digest(&manifest)[..] == footer[..32];
        ensure!(is_whole, "its list of files is not as it was built");
        let lines = String::from_utf8(manifest)?;
        Ok(Self {
            name: hex::encode(&footer[..8]),
            entries: lines.lines().map(entry).collect::<Result<_>>()?,
            contents,
        })
    }
}

fn entry(line: &str) -> Result<Entry> {
    let mut fields = line.splitn(4, ' ');
    let mut field = || fields.next().context("a short line in its list of files");
    Ok(Entry {
        digest: field()?.to_owned(),
        size: field()?.parse()?,
        mode: u32::from_str_radix(field()?, 8)?,
        path: field()?.to_owned(),
    })
}
