//! How large the circuits are, as counted by `examples/circuit_shapes.rs` and
//! `examples/bench_generator.rs`.
//!
//! Counting takes seconds for small sectors and minutes for large ones, but a parameter file of
//! another circuit should be noticed at once. The numbers change with the circuits only, and so with
//! the version in the files' names.

use crate::circuits::{Kind, ParameterSet, LOCAL_SECTOR_SIZES, SECTOR_SIZES};
use crate::layout::FileLayout;
use crate::qap::Shape;

/// (public inputs, private variables, constraints) by sector size.
type Shapes = [(usize, usize, usize); SECTOR_SIZES.len()];

const POREP: Shapes = [
    (40, 2_685_673, 2_687_961),
    (40, 3_842_449, 3_844_969),
    (40, 4_420_837, 4_423_473),
    (328, 130_169_893, 130_278_869),
    (328, 131_076_643, 131_186_177),
];

const UPDATE: Shapes = [
    (5, 1_703_569, 1_705_044),
    (5, 9_998_039, 10_007_508),
    (5, 57_401_314, 57_450_484),
    (5, 80_978_488, 81_049_504),
    (5, 84_931_220, 85_006_106),
];

const WINNING_POST: Shapes = [
    (133, 91_674, 90_883),
    (133, 233_442, 230_803),
    (133, 304_326, 300_763),
    (133, 375_210, 370_723),
    (133, 396_000, 391_447),
];

const WINDOW_POST: Shapes = [
    (23, 22_128, 21_889),
    (23, 65_088, 64_289),
    (23, 86_568, 85_489),
    (25_840, 126_902_376, 125_305_057),
    (25_301, 131_500_200, 129_913_201),
];

/// Variables that occur in the left and in the right factor of a constraint: the lengths of the a
/// and b queries, for the local sector sizes.
type Densities = [(usize, usize); LOCAL_SECTOR_SIZES.len()];

const POREP_DENSITY: Densities = [(2_674_948, 685_522), (3_815_036, 1_011_290)];
const UPDATE_DENSITY: Densities = [(1_697_194, 444_404), (9_981_020, 2_567_922)];
const WINNING_POST_DENSITY: Densities = [(69_433, 66_793), (176_881, 169_489)];
const WINDOW_POST_DENSITY: Densities = [(16_793, 16_029), (49_353, 47_149)];

impl ParameterSet {
    /// The shape of the set's circuit.
    pub fn shape(&self) -> Shape {
        let shapes = match self.kind() {
            Kind::PoRep => POREP,
            Kind::Update => UPDATE,
            Kind::WinningPoSt => WINNING_POST,
            Kind::WindowPoSt => WINDOW_POST,
        };
        let position = SECTOR_SIZES
            .iter()
            .position(|size| *size == self.sector_size());
        let (inputs, aux, constraints) =
            shapes[position.expect("a set has one of the known sizes")];
        Shape {
            inputs,
            aux,
            constraints,
        }
    }

    /// Bytes of the set's `.params` file; `None` for sizes that are not generated locally.
    pub fn local_bytes(&self) -> Option<u64> {
        let densities = match self.kind() {
            Kind::PoRep => POREP_DENSITY,
            Kind::Update => UPDATE_DENSITY,
            Kind::WinningPoSt => WINNING_POST_DENSITY,
            Kind::WindowPoSt => WINDOW_POST_DENSITY,
        };
        let position = LOCAL_SECTOR_SIZES
            .iter()
            .position(|size| *size == self.sector_size())?;
        let (a, b) = densities[position];
        Some(FileLayout::new(&self.shape(), a, b).bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_circuits() {
        // The counts of large sectors take minutes; these share all the code with them.
        for kind in [Kind::WinningPoSt, Kind::WindowPoSt] {
            for size in [SECTOR_SIZES[0], SECTOR_SIZES[1], SECTOR_SIZES[2]] {
                let set = ParameterSet::new(kind, size).unwrap();
                assert_eq!(set.count().unwrap(), set.shape(), "{kind} {size}");
            }
        }
        for kind in [Kind::PoRep, Kind::Update] {
            let set = ParameterSet::new(kind, SECTOR_SIZES[0]).unwrap();
            assert_eq!(set.count().unwrap(), set.shape(), "{kind}");
        }
    }

    #[test]
    fn local_files_have_a_known_length() {
        let bytes = |kind, size| ParameterSet::new(kind, size).unwrap().local_bytes();
        assert_eq!(bytes(Kind::PoRep, SECTOR_SIZES[0]), Some(1_114_707_768));
        assert_eq!(bytes(Kind::WindowPoSt, SECTOR_SIZES[0]), Some(11_501_496));
        assert_eq!(bytes(Kind::WindowPoSt, SECTOR_SIZES[2]), None);
    }
}
