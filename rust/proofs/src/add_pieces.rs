//! Writing pieces into the staged file of a sector, and piece commitments (comm_p).

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{bail, ensure, Context, Result};
use filecoin_proofs_api::{Commitment, PieceInfo, UnpaddedBytesAmount};

use crate::chunks::{roots_of_chunks, PATIENCE};
use crate::control::Control;
use crate::durable::{start_writing_back, sync_parent};
use crate::failure::guarded;
use crate::fr32::{self, BLOCK_IN, BLOCK_OUT};
use crate::merkle::{self, Node};
use crate::pieces::{offsets, padded_piece_size, zero_piece};
use crate::sector::size_of;
use crate::tasks::{AddPieces, PieceFile, PieceSource};

/// Padded bytes that one thread reads, pads, hashes and writes at a time: with the data, what a core's own
/// cache holds.
const CHUNK: u64 = 512 << 10;

/// Bytes whose way to the disk is started at a time.
const STRETCH: u64 = 4 << 20;

/// Threads at most: a source gives no more than these can hash.
const MOST_THREADS: usize = 16;

/// Writes the pieces, fr32 padded, into the staged file, and returns their infos in order.
///
/// The staged file is truncated first and ends with the size of the sector; what is zero (the fill
/// behind a payload, a pledge piece, the rest of the sector) is left as a hole. Without pieces it
/// is one hole, and the only info is the zero commitment of the sector. Each piece starts at a
/// multiple of its own size. Cancelled between reads; an unfinished staged file is left behind.
/// Progress is in unpadded bytes.
///
/// Errors: a payload larger than its piece, a source shorter than its payload, pieces that don't
/// fit, a `url` source, and I/O errors, each naming the piece and its source.
pub fn add_pieces(task: &AddPieces, control: &mut Control<'_>) -> Result<Vec<PieceInfo>> {
    guarded(|| {
        control.check()?;
        let sector_size = size_of(task.seal_proof_type);
        let starts = offsets(
            sector_size,
            task.pieces.iter().map(|piece| piece.piece_size),
        )?;
        let path = &task.staged_filepath;
        let staged =
            File::create(path).with_context(|| format!("create staged file {}", path.display()))?;
        staged
            .set_len(sector_size)
            .with_context(|| format!("set size of staged file {}", path.display()))?;

        let mut progress = Progress {
            done: 0,
            total: task.pieces.iter().map(|piece| piece.piece_size).sum(),
        };
        let mut infos = Vec::with_capacity(task.pieces.len());
        for (index, (piece, start)) in task.pieces.iter().zip(starts).enumerate() {
            let place = Place {
                staged: &staged,
                path,
                start,
            };
            infos.push(
                add_piece(piece, Some(place), &mut progress, control)
                    .with_context(|| format!("piece {index}"))?,
            );
        }
        if infos.is_empty() {
            infos.push(zero_piece(sector_size));
        }
        staged
            .sync_all()
            .with_context(|| format!("flush staged file {}", path.display()))?;
        sync_parent(path)?;
        control.finish(progress.total)?;
        Ok(infos)
    })
}

/// Commitment of a piece: the first `payload_size` bytes of the file at `path`, then zeros up to
/// `piece_size` (unpadded bytes, 127 · 2ⁿ). Same errors and progress as [`add_pieces`].
pub fn piece_commitment(
    path: &Path,
    payload_size: u64,
    piece_size: u64,
    control: &mut Control<'_>,
) -> Result<Commitment> {
    guarded(|| {
        control.check()?;
        let piece = PieceSource {
            piece_file: PieceFile::Local(path.to_owned()),
            payload_size,
            piece_size,
        };
        let mut progress = Progress {
            done: 0,
            total: piece_size,
        };
        let info = add_piece(&piece, None, &mut progress, control)?;
        control.finish(progress.total)?;
        Ok(info.commitment)
    })
}

/// Where a piece goes.
#[derive(Clone, Copy)]
struct Place<'a> {
    staged: &'a File,
    path: &'a Path,
    /// Its first byte in the staged file.
    start: u64,
}

impl Place<'_> {
    /// Writes all of `padded` at `offset` in the piece.
    fn write(&self, offset: u64, padded: &[u8]) -> Result<()> {
        self.staged
            .write_all_at(padded, self.start + offset)
            .with_context(|| format!("write staged file {}", self.path.display()))
    }

    /// Starts writing back the stretch that ends at `offset` in the piece, if one ends there.
    fn start_writing_back(&self, offset: u64) {
        if offset > 0 && offset.is_multiple_of(STRETCH) {
            start_writing_back(self.staged, self.start + offset - STRETCH, STRETCH as usize);
        }
    }
}

/// Unpadded bytes over all pieces of a call.
struct Progress {
    done: u64,
    total: u64,
}

fn add_piece(
    piece: &PieceSource,
    place: Option<Place<'_>>,
    progress: &mut Progress,
    control: &mut Control<'_>,
) -> Result<PieceInfo> {
    let padded_size = padded_piece_size(piece.piece_size)?;
    ensure!(
        piece.payload_size <= piece.piece_size,
        "payload of {} bytes is larger than the piece of {} bytes (unpadded)",
        piece.payload_size,
        piece.piece_size
    );
    let commitment = match &piece.piece_file {
        PieceFile::Pledge => {
            progress.done += piece.piece_size;
            control.step(progress.done, progress.total)?;
            merkle::zero_commitment(padded_size)
        }
        PieceFile::Local(path) => {
            let source = File::open(path).with_context(|| path.display().to_string())?;
            stream(source, piece, padded_size, place, progress, control)
                .with_context(|| path.display().to_string())?
        }
        PieceFile::Fd(fd) => {
            let source = duplicate(*fd)?;
            stream(source, piece, padded_size, place, progress, control)
                .with_context(|| format!("file descriptor {fd}"))?
        }
        PieceFile::Url(url) => {
            bail!("{url}: this stage opens no URLs, pass it as a file or a descriptor")
        }
    };
    Ok(PieceInfo {
        commitment,
        size: UnpaddedBytesAmount(piece.piece_size),
    })
}

/// A descriptor of our own on the same open file, so that the caller's stays open.
fn duplicate(fd: i32) -> Result<File> {
    ensure!(
        fd >= 0,
        "file descriptor {fd}: expected a number of an open descriptor"
    );
    // SAFETY: fd is not -1, and the borrow ends within this statement; a number that isn't open is
    // answered with EBADF.
    let owned = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    Ok(owned
        .with_context(|| format!("file descriptor {fd}"))?
        .into())
}

/// Pads and hashes the payload chunk by chunk, writes each to its `place`, and returns the piece's
/// commitment. Chunks behind the payload are zero: they are
/// neither hashed nor written.
///
/// Threads take turns to read a chunk, and each goes on with its own: its bytes stay in the cache of
/// one core from the source to the staged file. This one waits for the disk where that is behind.
fn stream(
    source: File,
    piece: &PieceSource,
    padded_size: u64,
    place: Option<Place<'_>>,
    progress: &mut Progress,
    control: &mut Control<'_>,
) -> Result<Commitment> {
    let chunk = CHUNK.min(padded_size);
    let payload = Payload {
        source: Mutex::new(source),
        size: piece.payload_size,
        chunk: chunk / BLOCK_OUT as u64 * BLOCK_IN as u64,
        read: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
    };
    let count = usize::try_from(piece.payload_size.div_ceil(payload.chunk))?;
    let mut roots = roots_of_chunks(
        count,
        MOST_THREADS,
        &payload.stopped,
        || payload.worker(chunk, place),
        |hashed| {
            let done = progress.done + payload.read.load(Ordering::Relaxed);
            let Some(index) = hashed else {
                return control.step_now(done, progress.total);
            };
            if let Some(place) = place {
                // The others write what is before, or have done so.
                place.start_writing_back(index as u64 * chunk);
            }
            control.step(done, progress.total)
        },
    )?;
    roots.resize(
        usize::try_from(padded_size / chunk)?,
        merkle::zero_commitment(chunk),
    );
    progress.done += piece.piece_size;
    control.step(progress.done, progress.total)?;
    Ok(merkle::root_of(roots))
}

/// The payload of a piece, read by one thread at a time.
struct Payload {
    source: Mutex<File>,
    size: u64,
    /// Bytes of a chunk.
    chunk: u64,
    /// Bytes read so far; changed by who holds the source.
    read: AtomicU64,
    /// Nobody waits for the rest.
    stopped: AtomicBool,
}

impl Payload {
    /// What one thread does: the next chunk, and the root over its `padded` bytes.
    fn worker<'a>(
        &'a self,
        padded: u64,
        place: Option<Place<'a>>,
    ) -> impl FnMut() -> Result<Option<(usize, Node)>> + 'a {
        // Both are at most CHUNK.
        let (mut data, mut padded) = (vec![0; self.chunk as usize], vec![0; padded as usize]);
        move || {
            let Some(index) = self.next_chunk(&mut data)? else {
                return Ok(None);
            };
            let root = merkle::fill_and_hash(&mut padded, |start, block| {
                let start = start / BLOCK_OUT * BLOCK_IN;
                let end = start + block.len() / BLOCK_OUT * BLOCK_IN;
                fr32::pad(&data[start..end], block);
            });
            if let Some(place) = place {
                place.write((index * padded.len()) as u64, &padded)?;
            }
            Ok(Some((index, root)))
        }
    }

    /// Reads the next chunk into `data`, with zeros behind the payload, and returns its index; none if there is
    /// no other or all shall stop.
    fn next_chunk(&self, data: &mut [u8]) -> Result<Option<usize>> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.read.load(Ordering::Relaxed);
        let wanted = usize::try_from((self.size - start).min(self.chunk))?;
        let filled = self.fill(&mut source, &mut data[..wanted])?;
        if filled == 0 && wanted == 0 || self.stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
        ensure!(
            filled == wanted,
            "ends after {} bytes, payload_size is {}",
            start + filled as u64,
            self.size
        );
        data[wanted..].fill(0);
        Ok(Some(usize::try_from(start / self.chunk)?))
    }

    /// Fills `data` from the source as far as it goes and returns how far that was. A pipe that delivers nothing
    /// keeps nobody from stopping.
    fn fill(&self, source: &mut File, data: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < data.len() && !self.stopped.load(Ordering::Relaxed) {
            if !readable_soon(source) {
                continue;
            }
            match source.read(&mut data[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.read.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bail!("is in non-blocking mode: set it to blocking before the stage")
                }
                Err(error) => return Err(error).context("read"),
            }
        }
        Ok(filled)
    }
}

/// Waits for something to read, or the end, and returns whether it has come within [`PATIENCE`]. A read that can't
/// be waited for is left to the read itself.
fn readable_soon(source: &File) -> bool {
    let mut wanted = libc::pollfd {
        fd: source.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, which lives as long as the call.
    let found = unsafe { libc::poll(&mut wanted, 1, PATIENCE.as_millis() as libc::c_int) };
    found != 0 && !(found < 0 && io::Error::last_os_error().kind() == ErrorKind::Interrupted)
}
