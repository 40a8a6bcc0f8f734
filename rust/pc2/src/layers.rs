//! The label layers of a sector, as PC1 left them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{anyhow, Context, Result};
use poseidon::{Node, NotAnElement};
use sdr::layers::Recorded;

use crate::shape::Shape;
use crate::source::{Origin, Source};

/// Threads that read layers at the same time.
const READERS: usize = 4;

/// Nodes of each layer that [`verify`] reads at a time.
const AT_ONCE: u64 = 1 << 16;

/// The layers of a sector, being read.
pub struct Layers(Vec<Source>);

impl Layers {
    /// Opens the layers in `cache_dir`, which are all there with the right size.
    ///
    /// If one of them has a checksum file, all must have: of the sector that most of them are of.
    pub fn open(shape: &Shape, cache_dir: &Path) -> Result<Self> {
        let numbers = 1..=shape.layers;
        let recorded: Vec<Option<Recorded>> = numbers
            .clone()
            .map(|number| Recorded::read(cache_dir, number))
            .collect();
        let reference = reference(&recorded, shape.size());
        let open = |(number, recorded): (u32, &Option<Recorded>)| {
            let origin = Origin::Layer(number, path_of(cache_dir, number));
            let file = open(&origin, shape.size())?;
            let expected = match (recorded, reference) {
                (_, None) => None,
                (Some(recorded), Some(reference))
                    if recorded.belongs(number, shape.size(), reference) =>
                {
                    Some(recorded.checksum().to_owned())
                }
                (Some(_), _) => {
                    let why = "its checksum file is of another layer or sector than the others'";
                    return Err(origin.damaged(why.to_owned()));
                }
                (None, _) => return Err(origin.damaged("it has no checksum file".to_owned())),
            };
            Ok(Source::new(origin, file, expected))
        };
        numbers
            .zip(&recorded)
            .map(open)
            .collect::<Result<_>>()
            .map(Layers)
    }

    /// The checksums that the layers should have; none if they came without.
    pub fn checksums(&self) -> Option<Vec<String>> {
        self.0
            .iter()
            .map(|layer| layer.expected().map(str::to_owned))
            .collect()
    }

    /// The labels of `count` nodes from node `first` on, in order of layers. Every call goes on where
    /// the one before ended.
    pub fn read(&mut self, first: u64, count: u64) -> Result<Vec<Vec<Node>>> {
        let share = self.0.len().div_ceil(READERS);
        thread::scope(|scope| {
            let readers: Vec<_> = self
                .0
                .chunks_mut(share)
                .map(|layers| {
                    scope.spawn(move || {
                        let labels = layers.iter_mut().map(|layer| layer.read(first, count));
                        labels.collect::<Result<Vec<_>>>()
                    })
                })
                .collect();
            let mut labels = Vec::new();
            for reader in readers {
                let read = reader.join().map_err(|_| anyhow!("a reader panicked"))?;
                labels.extend(read?);
            }
            Ok(labels)
        })
    }

    /// Fails unless all that was read is what PC1 wrote: to be called when everything was.
    pub fn verify(&self) -> Result<()> {
        self.0.iter().try_for_each(Source::verify)
    }

    /// For errors in labels while the layers are being read.
    pub fn origins(&self) -> Origins {
        Origins(self.0.iter().map(|layer| layer.origin.clone()).collect())
    }
}

/// Reads the label layers in `cache_dir` once, for those who don't look at their checksums; without any,
/// only that they are there. An error of `look` ends it.
///
/// Fails with a [`DamagedLayer`](crate::DamagedLayer) if a layer is missing, short or not what its checksum
/// file says.
pub fn verify(shape: &Shape, cache_dir: &Path, look: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let mut layers = Layers::open(shape, cache_dir)?;
    if layers.checksums().is_some() {
        for first in (0..shape.nodes).step_by(AT_ONCE as usize) {
            look()?;
            layers.read(first, AT_ONCE.min(shape.nodes - first))?;
        }
    }
    layers.verify()
}

/// The last layer, to be read once more from its start.
pub fn last(shape: &Shape, cache_dir: &Path, expected: Option<String>) -> Result<Source> {
    let origin = Origin::Layer(shape.layers, path_of(cache_dir, shape.layers));
    let file = open(&origin, shape.size())?;
    Ok(Source::new(origin, file, expected))
}

/// What the layers are.
pub struct Origins(Vec<Origin>);

impl Origins {
    /// The error of a label that is no field element, where `column` counts layers from 0 and the
    /// labels hashed begin at node `first`.
    pub fn foreign(&self, found: NotAnElement, first: u64) -> anyhow::Error {
        self.0[found.column].foreign(first + found.index as u64)
    }
}

/// The checksum file that most layers' agree with; the first of them if there are several.
fn reference(recorded: &[Option<Recorded>], size: u64) -> Option<&Recorded> {
    let numbered = (1..).zip(recorded);
    let all: Vec<(u32, &Recorded)> = numbered
        .filter_map(|(number, recorded)| Some((number, recorded.as_ref()?)))
        .collect();
    let agreeing = |with: &Recorded| {
        all.iter()
            .filter(|(number, recorded)| recorded.belongs(*number, size, with))
            .count()
    };
    // Of equal ones `max_by_key` takes the last.
    let backwards = all.iter().rev().map(|(_, recorded)| *recorded);
    backwards.max_by_key(|recorded| agreeing(recorded))
}

fn path_of(cache_dir: &Path, number: u32) -> PathBuf {
    cache_dir.join(format!("sc-02-data-layer-{number}.dat"))
}

fn open(origin: &Origin, expected: u64) -> Result<File> {
    let path = origin.path();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(origin.damaged("is missing".to_owned()))
        }
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    let found = file.metadata()?.len();
    if found != expected {
        return Err(origin.damaged(format!("{found} bytes found, {expected} expected")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::DamagedLayer;

    const SHAPE: Shape = Shape {
        nodes: 64,
        layers: 11,
        sub_arity: 0,
        top_arity: 0,
        rows_to_discard: 0,
    };

    /// Eleven layers of zeros; `replica_id` is what the checksum file of layer `number` says.
    fn write_layers(dir: &Path, replica_id: impl Fn(u32) -> Option<&'static str>) {
        for number in 1..=SHAPE.layers {
            fs::write(path_of(dir, number), [0; 2048]).unwrap();
            if let Some(id) = replica_id(number) {
                let sidecar = format!(
                    r#"{{"format":1,"replica_id":"{id}","porep_id":"","graph_version":"1.1",
                       "layer":{number},"size":2048,"checksum":"00"}}"#
                );
                fs::write(path_of(dir, number).with_extension("sum"), sidecar).unwrap();
            }
        }
    }

    fn damaged<T>(result: Result<T>) -> DamagedLayer {
        result.err().unwrap().downcast().unwrap()
    }

    #[test]
    fn the_layer_without_a_checksum_file_is_named_not_the_next() {
        let dir = tempfile::tempdir().unwrap();
        write_layers(dir.path(), |number| (number != 1).then_some("a"));
        let found = damaged(Layers::open(&SHAPE, dir.path()));
        assert_eq!(
            (found.layer, found.why.as_str()),
            (1, "it has no checksum file")
        );
    }

    #[test]
    fn the_one_layer_of_another_sector_is_named_also_if_it_is_the_first() {
        for foreign in [1, 7, 11] {
            let dir = tempfile::tempdir().unwrap();
            write_layers(dir.path(), |number| {
                Some(if number == foreign { "b" } else { "a" })
            });
            let found = damaged(Layers::open(&SHAPE, dir.path()));
            assert_eq!(found.layer, foreign);
            assert!(found.why.contains("of another layer or sector"), "{found}");
        }
    }

    #[test]
    fn a_layer_that_the_disk_does_not_give_back_is_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        write_layers(dir.path(), |_| Some("a"));
        let mut layers = Layers::open(&SHAPE, dir.path()).unwrap();
        layers.read(0, 32).unwrap();
        let cut = File::options().write(true).open(path_of(dir.path(), 5));
        cut.unwrap().set_len(1500).unwrap();
        let found = damaged(layers.read(32, 32));
        assert_eq!(found.layer, 5);
        assert!(
            found.why.starts_with("can't be read from node 32 on: "),
            "{found}"
        );
    }
}
