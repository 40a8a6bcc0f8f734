//! How far a sector is, told to whoever watches.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::sector::Sector;

/// Shortest time between two reports of one layer.
const INTERVAL: Duration = Duration::from_millis(100);

/// How far the labelling of a sector is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The layer being hashed, from 1; 0 before the first.
    pub layer: u32,
    pub layers: u32,
    /// Nodes of that layer that have their labels.
    pub node: u32,
    pub nodes: u32,
    /// Average of this run.
    pub labels_per_second: f64,
    /// The layer that this run hashed last, and the labels per second of its hashing alone.
    pub hashed: Option<(u32, f64)>,
    /// Time that the labels still missing will take at that rate; none before there is a rate.
    pub left: Option<Duration>,
}

/// Who watches a sector being labelled.
pub struct Watch<'a> {
    /// Called at the start of each layer and about ten times a second; an error it returns cancels
    /// the sector.
    pub progress: &'a mut dyn FnMut(&Progress) -> Result<()>,
    /// Receives one sentence per thing worth telling the user.
    pub say: &'a mut dyn FnMut(String),
}

/// Keeps a sector's progress and reports it.
pub struct Meter {
    progress: Progress,
    /// When the first layer of this run began to be hashed.
    started: Option<Instant>,
    reported: Option<Instant>,
    /// Labels computed in this run's finished layers, and those to be computed in all.
    done: u64,
    total: u64,
}

impl Meter {
    pub fn new(sector: &Sector) -> Self {
        Meter {
            progress: Progress {
                layers: sector.layers,
                nodes: sector.parents.spec().nodes,
                ..Progress::default()
            },
            started: None,
            reported: None,
            done: 0,
            // Until it is known which layers are there.
            total: u64::from(sector.layers) * u64::from(sector.parents.spec().nodes),
        }
    }

    /// These layers are to be hashed.
    pub fn expect(&mut self, layers: &[u32]) {
        self.total = layers.len() as u64 * u64::from(self.progress.nodes);
    }

    /// Nothing new, but whoever watches may want to cancel.
    pub fn idle(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        if self.reported.is_some_and(|last| last.elapsed() < INTERVAL) {
            return Ok(());
        }
        self.report(watch)
    }

    /// The hashing of a layer begins. The first one of a run starts the clock of its rate: waiting for a
    /// place and for memory is no slow hashing.
    pub fn layer(&mut self, layer: u32, watch: &mut Watch<'_>) -> Result<()> {
        self.started.get_or_insert_with(Instant::now);
        self.progress.layer = layer;
        self.progress.node = 0;
        self.report(watch)
    }

    pub fn node(&mut self, node: u32, watch: &mut Watch<'_>) -> Result<()> {
        self.progress.node = node;
        self.idle(watch)
    }

    /// The layer is hashed, which took so long.
    pub fn finished_layer(&mut self, hashing: Duration) {
        let rate = f64::from(self.progress.nodes) / hashing.as_secs_f64();
        self.progress.hashed = Some((self.progress.layer, rate));
        self.progress.node = 0;
        self.done += u64::from(self.progress.nodes);
    }

    /// The last report: every layer is there.
    pub fn finished(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.progress.layer = self.progress.layers;
        self.progress.node = self.progress.nodes;
        self.report_done(self.total, watch)
    }

    fn report(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.report_done(self.done + u64::from(self.progress.node), watch)
    }

    fn report_done(&mut self, done: u64, watch: &mut Watch<'_>) -> Result<()> {
        let elapsed = self.started.map(|started| started.elapsed());
        let rate = elapsed.map_or(0.0, |elapsed| done as f64 / elapsed.as_secs_f64());
        let missing = self.total.saturating_sub(done);
        self.progress.labels_per_second = rate;
        self.progress.left = match missing {
            0 => Some(Duration::ZERO),
            _ if done > 0 => Some(Duration::from_secs_f64(missing as f64 / rate)),
            _ => None,
        };
        self.reported = Some(Instant::now());
        (watch.progress)(&self.progress)
    }
}
