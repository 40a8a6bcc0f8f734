//! Writing pieces into the staged file of a sector, and piece commitments (comm_p).

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{bail, ensure, Context, Result};
use filecoin_proofs_api::{Commitment, PieceInfo, UnpaddedBytesAmount};

use crate::control::Control;
use crate::durable::{start_writing_back, sync_parent};
use crate::failure::guarded;
use crate::fr32::{self, BLOCK_IN, BLOCK_OUT};
use crate::merkle::{self, Node};
use crate::pieces::{offsets, padded_piece_size, zero_piece};
use crate::sector::size_of;
use crate::tasks::{AddPieces, PieceFile, PieceSource};

/// Padded bytes that are read, padded, hashed and written at a time.
const CHUNK: u64 = 4 << 20;

/// Longest wait for data before the cancel flag is looked at, milliseconds.
const PATIENCE: libc::c_int = 200;

/// Chunks of data that are on their way from the source to the hash, and padded ones on their way from there
/// into the staged file: one being made, one waiting, one being used.
const BUFFERS: usize = 3;

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
            let write = |offset: u64, padded: &[u8]| {
                staged
                    .write_all_at(padded, start + offset)
                    .with_context(|| format!("write staged file {}", path.display()))?;
                start_writing_back(&staged, start + offset, padded.len());
                Ok(())
            };
            infos.push(
                add_piece(piece, write, &mut progress, control)
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
        let info = add_piece(&piece, |_, _| Ok(()), &mut progress, control)?;
        control.finish(progress.total)?;
        Ok(info.commitment)
    })
}

/// Unpadded bytes over all pieces of a call.
struct Progress {
    done: u64,
    total: u64,
}

fn add_piece(
    piece: &PieceSource,
    write: impl FnMut(u64, &[u8]) -> Result<()> + Send,
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
            stream(source, piece, padded_size, write, progress, control)
                .with_context(|| path.display().to_string())?
        }
        PieceFile::Fd(fd) => {
            let source = duplicate(*fd)?;
            stream(source, piece, padded_size, write, progress, control)
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

/// Pads and hashes the payload chunk by chunk, gives each padded chunk with its offset in the piece
/// to `write`, and returns the piece's commitment. Chunks behind the payload are zero: they are
/// neither hashed nor written.
///
/// While this thread reads one chunk, a second pads and hashes the one before, and a third writes the one
/// before that: what is slowest of the three (a download, hashing, the disk) takes the time.
fn stream(
    mut source: File,
    piece: &PieceSource,
    padded_size: u64,
    write: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    progress: &mut Progress,
    control: &mut Control<'_>,
) -> Result<Commitment> {
    let chunk = CHUNK.min(padded_size);
    let chunk_data = chunk / BLOCK_OUT as u64 * BLOCK_IN as u64;
    let before = progress.done;
    let commitment = thread::scope(|scope| -> Result<Commitment> {
        let (full, chunks) = mpsc::sync_channel(1);
        let (returned, empty) = mpsc::channel();
        for _ in 0..BUFFERS {
            let buffer = vec![0u8; usize::try_from(chunk_data)?];
            returned.send(buffer).expect("the other end is here");
        }
        let (hashed, to_write) = mpsc::sync_channel(1);
        let (written, spare) = mpsc::channel();
        for _ in 0..BUFFERS {
            let buffer = vec![0u8; usize::try_from(chunk)?];
            written.send(buffer).expect("the other end is here");
        }
        let hashing = scope.spawn(move || hash_chunks(chunks, &returned, &spare, &hashed));
        let writing = scope.spawn(move || write_chunks(to_write, &written, write));
        let mut read = 0;
        while read < piece.payload_size {
            // No buffer comes back when writing has failed: the reason is that thread's answer.
            let Ok(mut data) = empty.recv() else { break };
            let wanted = usize::try_from((piece.payload_size - read).min(chunk_data))?;
            let filled = read_up_to(&mut source, &mut data[..wanted], progress, control)?;
            read += filled as u64;
            ensure!(
                filled == wanted,
                "ends after {read} bytes, payload_size is {}",
                piece.payload_size
            );
            data[wanted..].fill(0);
            if full.send(data).is_err() {
                break;
            }
            progress.done += chunk_data;
            control.step(progress.done, progress.total)?;
        }
        drop(full);
        let hashed = hashing.join();
        writing
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))?;
        let mut roots = hashed.unwrap_or_else(|panic| resume_unwind(panic));
        let chunks = usize::try_from(padded_size / chunk)?;
        roots.resize(chunks, merkle::zero_commitment(chunk));
        Ok(merkle::root_of(roots))
    })?;
    progress.done = before + piece.piece_size;
    control.step(progress.done, progress.total)?;
    Ok(commitment)
}

/// The roots of chunks of data, in order. Each chunk is padded into a spare buffer and passed on to be
/// written, and its own buffer returned. Ends early when nobody writes any more.
fn hash_chunks(
    chunks: mpsc::Receiver<Vec<u8>>,
    returned: &mpsc::Sender<Vec<u8>>,
    spare: &mpsc::Receiver<Vec<u8>>,
    hashed: &mpsc::SyncSender<Vec<u8>>,
) -> Vec<Node> {
    let mut roots = Vec::new();
    for data in chunks {
        let Ok(mut padded) = spare.recv() else { break };
        roots.push(merkle::fill_and_hash(&mut padded, |start, block| {
            let start = start / BLOCK_OUT * BLOCK_IN;
            let end = start + block.len() / BLOCK_OUT * BLOCK_IN;
            fr32::pad(&data[start..end], block);
        }));
        // The reader may have ended, with an error or because this was the last chunk.
        let _ = returned.send(data);
        if hashed.send(padded).is_err() {
            break;
        }
    }
    roots
}

/// Gives each padded chunk, with its offset in the piece, to `write`, and its buffer back.
fn write_chunks(
    chunks: mpsc::Receiver<Vec<u8>>,
    written: &mpsc::Sender<Vec<u8>>,
    mut write: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut offset = 0;
    for padded in chunks {
        write(offset, &padded)?;
        offset += padded.len() as u64;
        // Hashing may have ended: this was the last chunk.
        let _ = written.send(padded);
    }
    Ok(())
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
    let found = unsafe { libc::poll(&mut wanted, 1, PATIENCE) };
    found != 0 && !(found < 0 && io::Error::last_os_error().kind() == ErrorKind::Interrupted)
}

/// Fills `data` from `source` as far as it goes and returns how far that was. A pipe that delivers nothing does not
/// keep it from being cancelled.
fn read_up_to(
    source: &mut File,
    data: &mut [u8],
    progress: &Progress,
    control: &mut Control<'_>,
) -> Result<usize> {
    let mut filled = 0;
    while filled < data.len() {
        while !readable_soon(source) {
            control.step_now(progress.done + filled as u64, progress.total)?;
        }
        match source.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                control.step_now(progress.done + filled as u64, progress.total)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("is in non-blocking mode: set it to blocking before the stage")
            }
            Err(error) => return Err(error).context("read"),
        }
        // A pipe may deliver slowly: between reads too, not only between chunks.
        control.step(progress.done + filled as u64, progress.total)?;
    }
    Ok(filled)
}
