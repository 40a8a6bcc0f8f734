//! A parameter file, mapped: the verifying key and the five queries of points.
//!
//! The file is what `bellperson` writes: the verifying key, then the queries H, L, A, B in G1 and B
//! in G2, each a big-endian count of four bytes and that many uncompressed points.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{anyhow, ensure, Context, Result};
use bellperson::groth16::VerifyingKey;
use blstrs::Bls12;
use memmap2::{Advice, Mmap};

use crate::msm::{Group, G1, G2};

/// Bytes of a query's count.
const COUNT: usize = 4;

/// A parameter file's content. Points are decoded where they are used.
pub struct Parameters {
    path: PathBuf,
    file: Mmap,
    verifying_key: VerifyingKey<Bls12>,
    h: Section,
    l: Section,
    a: Section,
    b_g1: Section,
    b_g2: Section,
}

/// Tells a file from one that was put in its place.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    name: &'static str,
    points: usize,
    bytes: Range<usize>,
}

/// The points of one query, or a part of it.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    name: &'static str,
    path: &'a Path,
    file: &'a Mmap,
    /// Where the first point lies in the file.
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Query<'a> {
    fn new(name: &'static str, path: &'a Path, file: &'a Mmap, range: Range<usize>) -> Self {
        Self {
            name,
            path,
            file,
            offset: range.start,
            bytes: &file[range],
        }
    }

    /// A query that is the whole of `file`.
    #[cfg(test)]
    pub fn whole(file: &'a Mmap) -> Self {
        Self::new("whole", Path::new("whole"), file, 0..file.len())
    }

    /// An error that names file and query.
    pub fn damaged(&self, why: &str) -> anyhow::Error {
        let (path, name) = (self.path.display(), self.name);
        anyhow!("parameters {path}: the {name} query {why}")
    }

    /// The points, uncompressed, one behind the other.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Lets go of the pages that hold the points `range`, each of `size` bytes. They stay in the
    /// system's cache, but count no longer as memory of this process.
    pub fn release(&self, range: Range<usize>, size: usize) -> Result<()> {
        let start = self.offset + range.start * size;
        self.file
            .advise_range(Advice::DontNeed, start, range.len() * size)
            .context("letting go of mapped parameters")
    }
}

impl Parameters {
    /// The parameters in the file at `path`, mapped once per process, and again when another file has
    /// taken its place.
    ///
    /// An error that names the file if it can't be read, if its size isn't that of its counts, or if
    /// its verifying key isn't one. Points are not checked: the file's digest is, where it is known.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        type Open = HashMap<PathBuf, (Stamp, Arc<Parameters>)>;
        static OPEN: Mutex<Option<Open>> = Mutex::new(None);
        let mut open = OPEN
            .lock()
            .expect("nothing panics while it holds this lock");
        let open = open.get_or_insert_default();
        let named = || format!("parameters {}", path.display());
        let file = File::open(path).with_context(named)?;
        let stamp = Stamp::of(&file).with_context(named)?;
        if let Some((known, parameters)) = open.get(path) {
            if *known == stamp {
                return Ok(Arc::clone(parameters));
            }
        }
        let parameters = Arc::new(Self::map(path, &file).with_context(named)?);
        open.insert(path.to_owned(), (stamp, Arc::clone(&parameters)));
        Ok(parameters)
    }

    fn map(path: &Path, file: &File) -> Result<Self> {
        // SAFETY: nobody writes to a parameter file: it is put in its place by a rename, and a new
        // one replaces it the same way.
        let file = unsafe { Mmap::map(file)? };
        let mut rest = &file[..];
        let verifying_key = VerifyingKey::read(&mut rest).context("verifying key")?;
        let mut end = file.len() - rest.len();
        let mut section = |name: &'static str, size: usize| -> Result<Section> {
            let count = file.get(end..end + COUNT);
            let count = count.with_context(|| format!("{name} query: the file ends before it"))?;
            let points = u32::from_be_bytes(count.try_into()?) as usize;
            let start = end + COUNT;
            end = start + points * size;
            ensure!(
                end <= file.len(),
                "{name} query: ends at byte {end}, but the file has {} bytes",
                file.len()
            );
            Ok(Section {
                name,
                points,
                bytes: start..end,
            })
        };
        let h = section("H", G1::ENCODED)?;
        let l = section("L", G1::ENCODED)?;
        let a = section("A", G1::ENCODED)?;
        let b_g1 = section("B in G1", G1::ENCODED)?;
        let b_g2 = section("B in G2", G2::ENCODED)?;
        ensure!(
            end == file.len(),
            "the queries end at byte {end}, but the file has {} bytes",
            file.len()
        );
        ensure!(
            b_g1.points == b_g2.points,
            "the B query has {} points in G1, but {} in G2",
            b_g1.points,
            b_g2.points
        );
        Ok(Self {
            path: path.to_owned(),
            verifying_key,
            h,
            l,
            a,
            b_g1,
            b_g2,
            file,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn verifying_key(&self) -> &VerifyingKey<Bls12> {
        &self.verifying_key
    }

    /// Points of the evaluation domain: one more than the H query has, and a power of two.
    pub fn domain(&self) -> usize {
        self.h.points + 1
    }

    /// How many private variables there are: all of them are in the L query.
    pub fn aux(&self) -> usize {
        self.l.points
    }

    /// How many points the A query has, and how many each of the B queries.
    pub fn densities(&self) -> (usize, usize) {
        (self.a.points, self.b_g1.points)
    }

    pub fn h(&self) -> Query<'_> {
        self.query(&self.h)
    }

    pub fn l(&self) -> Query<'_> {
        self.query(&self.l)
    }

    pub fn a(&self) -> Query<'_> {
        self.query(&self.a)
    }

    pub fn b_g1(&self) -> Query<'_> {
        self.query(&self.b_g1)
    }

    pub fn b_g2(&self) -> Query<'_> {
        self.query(&self.b_g2)
    }

    fn query(&self, section: &Section) -> Query<'_> {
        Query::new(section.name, &self.path, &self.file, section.bytes.clone())
    }
}
