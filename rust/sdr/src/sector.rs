//! Labelling a sector: resume, label memory, one lane per layer, files written behind the hashing.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use crate::arena::{Buffer, Shortage};
use crate::engine::{Engine, MemoryHolder, Running, Slot, WAIT};
use crate::graph::NODE_SIZE;
use crate::kernel::{Lane, LaneMemory};
use crate::layers::{check, load, Found, LayerId, Writer};
use crate::lock::{try_exclusive, Lock};
use crate::parents::ParentsCache;
use crate::progress::{Meter, Watch};

/// Longest time between two looks at a lane.
const LOOK: Duration = Duration::from_millis(20);

/// A sector to be labelled.
#[derive(Clone)]
pub struct Sector {
    /// The parents of its graph.
    pub parents: Arc<ParentsCache>,
    pub replica_id: [u8; 32],
    /// Layers: 2 for sectors up to 512 MiB, 11 above.
    pub layers: u32,
}

/// What labelling a sector took.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Layers that were found good and not computed, in order.
    pub kept: Vec<u32>,
    /// Time from start to end.
    pub wall: Duration,
    /// Time in which a lane of this sector was being hashed.
    pub hashing: Duration,
}

/// Labels a sector: afterwards `cache_dir` holds all its layers under the proofs crate's names, with
/// their checksum files, on the disk.
///
/// Layers that are there already, are this sector's and have the right checksum are kept; missing and
/// damaged ones are computed. The calling thread sleeps or writes; the engine's threads hash. Fails
/// with the error that `watch` returned, if it did; the layers finished by then stay for the next run.
pub fn label_sector(
    engine: &Engine,
    sector: &Sector,
    cache_dir: &Path,
    watch: &mut Watch<'_>,
) -> Result<Outcome> {
    let start = Instant::now();
    let id = |layer| sector.layer_id(layer);
    let mut meter = Meter::new(sector);
    let _alone = alone_in(cache_dir, &mut meter, watch)?;
    let stopped = |layer| {
        format!(
            "layer {layer} of {}; the layers before it are kept",
            sector.layers
        )
    };
    let create = |layer| Writer::create(id(layer), cache_dir).with_context(|| stopped(layer));
    let finish = |writer: Writer, labels: &[u8]| {
        let layer = writer.layer();
        writer.finish(labels).with_context(|| stopped(layer))
    };
    // A full disk is found out before layers are read: every try while it is full would read them all.
    if let Some(layer) = (1..=sector.layers).find(|layer| !id(*layer).path(cache_dir).exists()) {
        create(layer)?;
    }
    let kept = find_good(sector, cache_dir, &mut meter, watch)?;
    let missing: Vec<u32> = (1..=sector.layers)
        .filter(|layer| !kept.contains(layer))
        .collect();
    let mut labelling = None;
    let mut unfinished: Option<Writer> = None;
    meter.expect(&missing);
    for layer in missing {
        let labelling = match &mut labelling {
            Some(labelling) => labelling,
            empty => empty.insert(Labelling::new(engine, sector, &mut meter, watch)?),
        };
        if layer > 1 && !labelling.has_layer(layer - 1) {
            if let Some(writer) = unfinished.take() {
                finish(writer, labelling.newest())?;
            }
            labelling.load(&id(layer - 1), cache_dir, &mut meter, watch)?;
        }
        // SAFETY: dropped below or on the way out of this function, in either case before `labelling`.
        let mut running = unsafe { labelling.start(layer) };
        meter.layer(layer, watch)?;
        labelling.settle(&mut meter, watch)?;
        // Only now that the hashing goes on: the end of the layer before, and flushing it.
        if let Some(writer) = unfinished.take() {
            finish(writer, labelling.previous())?;
        }
        let mut writer = create(layer)?;
        // One chunk at a time: the next layer waits for what is being written when this one ends.
        let mut behind = false;
        while !running.wait(if behind { Duration::ZERO } else { LOOK })? {
            let node = running.node();
            behind = writer
                .follow(labelling.current(node))
                .with_context(|| stopped(layer))?;
            meter.node(node, watch)?;
        }
        let hashing = labelling.finished(layer, &running);
        drop(running);
        meter.finished_layer(hashing);
        unfinished = Some(writer);
    }
    if let (Some(writer), Some(labelling)) = (unfinished, &labelling) {
        finish(writer, labelling.newest())?;
    }
    meter.finished(watch)?;
    Ok(Outcome {
        kept,
        wall: start.elapsed(),
        hashing: labelling.map_or(Duration::ZERO, |labelling| labelling.hashing),
    })
}

/// The labels of a layer, in node order, in memory.
pub struct Labels {
    buffer: Buffer,
    _holder: MemoryHolder,
}

impl Deref for Labels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: all of the buffer is labels, and nobody writes to it any more.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr(), self.buffer.size()) }
    }
}

/// Computes all layers of a sector in memory, two at a time, and returns the last: the key that decodes
/// a replica. Nothing is written to a file; when this returns, one sector of memory is in use.
pub fn last_layer(engine: &Engine, sector: &Sector, watch: &mut Watch<'_>) -> Result<Labels> {
    let mut meter = Meter::new(sector);
    let mut labelling = Labelling::new(engine, sector, &mut meter, watch)?;
    let layers: Vec<u32> = (1..=sector.layers).collect();
    meter.expect(&layers);
    for layer in layers {
        // SAFETY: dropped below or on the way out of this function, in either case before `labelling`.
        let mut running = unsafe { labelling.start(layer) };
        meter.layer(layer, watch)?;
        labelling.settle(&mut meter, watch)?;
        while !running.wait(LOOK)? {
            meter.node(running.node(), watch)?;
        }
        let hashing = labelling.finished(layer, &running);
        drop(running);
        meter.finished_layer(hashing);
    }
    meter.finished(watch)?;
    let [first, second] = labelling.buffers;
    Ok(Labels {
        buffer: if labelling.newest == 0 { first } else { second },
        _holder: labelling.holder,
    })
}

/// The lock of a cache directory: a run that was thought dead, and still writes, must have ended before
/// another one touches its files.
fn alone_in(cache_dir: &Path, meter: &mut Meter, watch: &mut Watch<'_>) -> Result<Option<Lock>> {
    let mut told = false;
    loop {
        let dir = File::open(cache_dir)
            .with_context(|| format!("open cache directory {}", cache_dir.display()))?;
        match try_exclusive(dir) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Ok(None) => (),
            // A file system that can't lock a directory.
            Err(_) => return Ok(None),
        }
        if !told {
            told = true;
            (watch.say)(format!(
                "PC1 waits: another process still writes label layers in {}; it should end by itself, \
                 or be ended",
                cache_dir.display()
            ));
        }
        meter.idle(watch)?;
        thread::sleep(WAIT);
    }
}

impl Sector {
    fn layer_id(&self, layer: u32) -> LayerId {
        LayerId {
            spec: *self.parents.spec(),
            replica_id: self.replica_id,
            layer,
        }
    }
}

/// The layers in `cache_dir` that are good. What is wrong with others is told.
fn find_good(
    sector: &Sector,
    cache_dir: &Path,
    meter: &mut Meter,
    watch: &mut Watch<'_>,
) -> Result<Vec<u32>> {
    ensure!(sector.layers > 0, "0 layers: expected at least one");
    let mut good = Vec::new();
    for layer in 1..=sector.layers {
        let id = sector.layer_id(layer);
        let mut report = |_, _| meter.idle(watch);
        match check(&id, cache_dir, &mut report)? {
            Found::Good => good.push(layer),
            Found::Missing => (),
            Found::Bad(why) => (watch.say)(format!(
                "layer file {}: {why}; computing it again",
                id.path(cache_dir).display()
            )),
        }
    }
    Ok(good)
}

/// A sector's place in the engine and its label memory.
struct Labelling<'a> {
    sector: &'a Sector,
    slot: Slot<'a>,
    buffers: [Buffer; 2],
    holder: MemoryHolder,
    /// Index of the buffer that holds the newest whole layer; the other is written next.
    newest: usize,
    /// Which layer that is.
    layer: Option<u32>,
    hashing: Duration,
    started: Instant,
    settled: bool,
}

/// Label memory for a sector. While other sectors hold what is missing, this waits, and those that come
/// later wait behind it.
fn allocate(
    engine: &Engine,
    slot: &Slot<'_>,
    sector: &Sector,
    meter: &mut Meter,
    watch: &mut Watch<'_>,
) -> Result<([Buffer; 2], MemoryHolder)> {
    let size = usize::try_from(sector.parents.spec().layer_size())?;
    let _turn = engine.memory_turn(&mut || meter.idle(watch))?;
    let mut told = false;
    // What there is already is kept: huge pages are cleared when they are taken.
    let mut first: Option<Buffer> = None;
    loop {
        // If nobody holds any, nobody will give anything back: it may still do with swap, or what the
        // kernel did not count.
        let at_any_price = !engine.memory_is_held();
        let mut buffer = || {
            engine
                .arena()
                .allocate(size, slot.core().node, at_any_price, watch.say)
        };
        let mut both = || {
            if first.is_none() {
                first = Some(buffer()?);
            }
            buffer()
        };
        let error = match both() {
            Ok(second) => {
                let first = first.expect("it was taken before the second");
                return Ok(([first, second], engine.hold_memory()));
            }
            Err(error) if error.is::<Shortage>() => error,
            Err(error) => {
                return Err(error).context(
                    "label memory: two buffers of the sector's size are needed per sector",
                )
            }
        };
        if !told {
            told = true;
            (watch.say)(format!(
                "PC1 waits for memory, which other sectors hold: {error}; give it fewer sectors at once \
                 (concurrent of the processor, or processors.limitation.concurrent.pc1), or the machine more memory"
            ));
        }
        meter.idle(watch)?;
        thread::sleep(WAIT);
    }
}

/// In words, what so many cores take.
fn places(cores: usize, lanes: usize) -> String {
    let sectors = if lanes == 1 { "sector" } else { "sectors" };
    match cores {
        1 => format!("1 core hashes {lanes} {sectors}"),
        _ => format!("{cores} cores hash {lanes} {sectors} each"),
    }
}

impl<'a> Labelling<'a> {
    fn new(
        engine: &'a Engine,
        sector: &'a Sector,
        meter: &mut Meter,
        watch: &mut Watch<'_>,
    ) -> Result<Self> {
        let mut told = false;
        let slot = engine.reserve(&mut || {
            if !told {
                told = true;
                (watch.say)(format!(
                    "PC1 waits for a place: {} at a time; give it fewer sectors at once (concurrent of the \
                     processor, or processors.limitation.concurrent.pc1), or more cpus (its cgroup.cpuset)",
                    places(engine.cores().count(), engine.lanes())
                ));
            }
            meter.idle(watch)
        })?;
        let (buffers, holder) = allocate(engine, &slot, sector, meter, watch)?;
        Ok(Labelling {
            sector,
            buffers,
            holder,
            slot,
            newest: 0,
            layer: None,
            hashing: Duration::ZERO,
            started: Instant::now(),
            settled: false,
        })
    }

    fn has_layer(&self, layer: u32) -> bool {
        self.layer == Some(layer)
    }

    /// Fills the newest buffer from a layer file.
    fn load(
        &mut self,
        id: &LayerId,
        cache_dir: &Path,
        meter: &mut Meter,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let buffer = &self.buffers[self.newest];
        // SAFETY: the buffer is this sector's alone, and no lane of it is running.
        let labels = unsafe { slice::from_raw_parts_mut(buffer.as_ptr(), buffer.size()) };
        self.layer = None;
        load(id, cache_dir, labels, &mut |_, _| meter.idle(watch))?;
        self.layer = Some(id.layer);
        Ok(())
    }

    /// Starts hashing `layer` into the older buffer; the newest holds the layer before.
    ///
    /// # Safety
    ///
    /// What is returned must be dropped before self is, and before `load` or another `start`: until
    /// then the buffers are in use.
    unsafe fn start(&mut self, layer: u32) -> Running {
        let memory = LaneMemory {
            labels: self.buffers[1 - self.newest].as_ptr(),
            previous: self.buffers[self.newest].as_ptr(),
        };
        // SAFETY: both buffers hold the sector's nodes and live in self, which outlives the lane by the
        // caller's contract. Only finished labels of the one being written are read.
        let lane = unsafe {
            Lane::new(
                self.sector.parents.clone(),
                &self.sector.replica_id,
                layer,
                memory,
            )
        };
        self.started = Instant::now();
        self.slot.start(lane)
    }

    /// Settles the buffers once, beside the hashing of the first layer: clearing a sector's worth of
    /// memory twice takes its time.
    fn settle(&mut self, meter: &mut Meter, watch: &mut Watch<'_>) -> Result<()> {
        if !self.settled {
            self.settled = true;
            // What is written first comes first.
            for buffer in [1 - self.newest, self.newest] {
                self.buffers[buffer].populate(&mut |_, _| meter.idle(watch))?;
                self.buffers[buffer].look_at_placement(watch.say);
            }
        }
        Ok(())
    }

    /// Notes that the lane that was started, `running`, has reached the end of `layer`, and returns how long
    /// it was hashed.
    fn finished(&mut self, layer: u32, running: &Running) -> Duration {
        let end = running.reached_end().unwrap_or_else(Instant::now);
        let hashing = end - self.started;
        self.hashing += hashing;
        self.newest = 1 - self.newest;
        self.layer = Some(layer);
        hashing
    }

    /// The first `node` labels of the layer being hashed, which are finished.
    fn current(&self, node: u32) -> &[u8] {
        self.labels(1 - self.newest, node as usize * NODE_SIZE)
    }

    /// The whole layer before the one being hashed.
    fn previous(&self) -> &[u8] {
        self.newest()
    }

    /// The newest whole layer.
    fn newest(&self) -> &[u8] {
        self.labels(self.newest, self.buffers[self.newest].size())
    }

    fn labels(&self, buffer: usize, bytes: usize) -> &[u8] {
        // SAFETY: inside the buffer, whose pages are all there; nobody writes to a whole layer, and the
        // lane of one being hashed writes only behind its node.
        unsafe { slice::from_raw_parts(self.buffers[buffer].as_ptr(), bytes) }
    }
}
