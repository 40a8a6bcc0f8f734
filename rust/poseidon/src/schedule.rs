//! The constants of an instance, in the order in which the permutation takes them.
//!
//! They are neptune's: round keys moved behind the S-boxes, sparse matrices in the partial rounds. The
//! partial rounds are taken in blocks here. In a partial round only the first element goes through the
//! S-box; with x the result and w, v the sparse matrix, the round is
//!
//! ```text
//! s₀ ← w₀ x + Σ wᵢ sᵢ        sᵢ ← sᵢ + vᵢ x   (i ≥ 1)
//! ```
//!
//! Inside a block the sᵢ stay as they were at its start, and s₀ of a later round takes what the block's
//! earlier x would have added: Σᵢ wᵢ vᵢ times that x, a constant. At the end of a block each sᵢ takes
//! all of them with one reduction instead of one for each round.

use std::sync::Arc;

use blstrs::Scalar;
use ff::Field;
use neptune::poseidon::{Arity, PoseidonConstants};

/// Partial rounds in a block: with four, the additional products cost least against the reductions
/// that they save.
pub const BLOCK: usize = 4;

/// The constants of one instance, for an arithmetic with constants of type `C`.
pub struct Schedule<C> {
    /// The first element of every state.
    pub tag: C,
    /// Added to the state before the first round.
    pub first_keys: Vec<C>,
    /// Full rounds before the partial ones.
    pub before: Vec<FullRound<C>>,
    pub partial: Vec<Block<C>>,
    /// Full rounds after the partial ones, without the last.
    pub after: Vec<FullRound<C>>,
    /// What makes the digest, element 1, of the state in the last round, after the S-boxes.
    pub last: Vec<C>,
}

/// S-boxes, keys, and a dense matrix.
pub struct FullRound<C> {
    pub keys: Vec<C>,
    /// Row by row: row j makes element j of the new state.
    pub matrix: Arc<[C]>,
}

/// Some partial rounds.
pub struct Block<C> {
    pub rounds: Vec<PartialRound<C>>,
    /// What the elements 1… of the state take at the end: for each, a factor of every round's x.
    pub update: Vec<C>,
}

/// One partial round of a block.
pub struct PartialRound<C> {
    /// Added to the first element after its S-box, which makes x.
    pub key: C,
    /// Factors of the elements 1… of the state at the block's start.
    pub state: Vec<C>,
    /// Factors of the x of the block's rounds up to this one.
    pub x: Vec<C>,
}

impl<C> Schedule<C> {
    /// The schedule of neptune's `constants`, each converted by `convert`.
    pub fn new<A: Arity<Scalar>>(
        constants: &PoseidonConstants<Scalar, A>,
        convert: impl Fn(&Scalar) -> C,
    ) -> Self {
        let width = constants.width();
        let half = constants.half_full_rounds;
        let all = |scalars: &[Scalar]| -> Vec<C> { scalars.iter().map(&convert).collect() };
        // neptune multiplies the state with the matrix from the left.
        let columns = |matrix: &[Vec<Scalar>]| -> Arc<[C]> {
            let column = |j: usize| matrix.iter().map(move |row| &row[j]);
            (0..width).flat_map(column).map(&convert).collect()
        };
        let dense = columns(&constants.mds_matrices.m);
        let pre_sparse = columns(&constants.pre_sparse_matrix);

        let keys = &constants.compressed_round_constants;
        let (first_keys, keys) = keys.split_at(width);
        let (before, keys) = keys.split_at(half * width);
        let (partial, after) = keys.split_at(constants.partial_rounds);
        let full_rounds = |keys: &[Scalar]| -> Vec<FullRound<C>> {
            let round = |keys: &[Scalar]| FullRound {
                keys: all(keys),
                matrix: dense.clone(),
            };
            keys.chunks_exact(width).map(round).collect()
        };
        let mut before = full_rounds(before);
        if let Some(last) = before.last_mut() {
            last.matrix = pre_sparse;
        }
        let sparse: Vec<Sparse<'_>> = constants
            .sparse_matrixes
            .iter()
            .map(|matrix| Sparse {
                w: &matrix.w_hat,
                v: &matrix.v_rest,
            })
            .collect();
        let blocks = partial.chunks(BLOCK).zip(sparse.chunks(BLOCK));
        Schedule {
            tag: convert(&constants.domain_tag),
            first_keys: all(first_keys),
            before,
            partial: blocks
                .map(|(keys, matrices)| block(keys, matrices, &convert))
                .collect(),
            after: full_rounds(after),
            last: all(&constants
                .mds_matrices
                .m
                .iter()
                .map(|row| row[1])
                .collect::<Vec<_>>()),
        }
    }
}

/// The matrix of a partial round: w₀… and v₁….
struct Sparse<'a> {
    w: &'a [Scalar],
    v: &'a [Scalar],
}

fn block<C>(keys: &[Scalar], matrices: &[Sparse<'_>], convert: impl Fn(&Scalar) -> C) -> Block<C> {
    let rounds = keys.iter().zip(matrices).enumerate();
    let rounds = rounds.map(|(r, (key, matrix))| {
        let (first, rest) = matrix.w.split_first().expect("a matrix has a row");
        let earlier = matrices[..r].iter();
        let x = earlier.map(|earlier| dot(rest, earlier.v));
        PartialRound {
            key: convert(key),
            state: rest.iter().map(&convert).collect(),
            x: x.chain([*first]).map(|factor| convert(&factor)).collect(),
        }
    });
    let elements = 0..matrices.first().map_or(0, |matrix| matrix.v.len());
    Block {
        rounds: rounds.collect(),
        update: elements
            .flat_map(|i| matrices.iter().map(move |matrix| &matrix.v[i]))
            .map(&convert)
            .collect(),
    }
}

fn dot(a: &[Scalar], b: &[Scalar]) -> Scalar {
    a.iter()
        .zip(b)
        .fold(Scalar::ZERO, |sum, (a, b)| sum + a * b)
}
