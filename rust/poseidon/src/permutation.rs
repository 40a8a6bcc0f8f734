//! The permutation, once for every arithmetic: the eight-wide one can't be a trait's, since the
//! methods of a trait can't ask for features of the CPU.

/// Makes `permute` for the arithmetic of a module of the `field` crate.
macro_rules! permutation {
    ($element:ty, $constant:ty, $sum:ty $(, #[$attribute:meta])*) => {
        use crate::schedule::{Block, FullRound, Schedule, BLOCK};

        type State<const WIDTH: usize, const GROUPS: usize> = [[$element; WIDTH]; GROUPS];

        /// Element 1 of the permuted state: the digest. `GROUPS` states are permuted at the same time,
        /// so that one's chain of S-boxes leaves the CPU work to do in the other.
        $(#[$attribute])*
        pub fn permute<const WIDTH: usize, const GROUPS: usize>(
            schedule: &Schedule<$constant>,
            state: &mut State<WIDTH, GROUPS>,
        ) -> [$element; GROUPS] {
            for elements in state.iter_mut() {
                for (element, key) in elements.iter_mut().zip(&schedule.first_keys) {
                    *element = element.add_lazily(&key.splat());
                }
            }
            for round in &schedule.before {
                full_round(round, state);
            }
            for block in &schedule.partial {
                partial_rounds(block, state);
            }
            for round in &schedule.after {
                full_round(round, state);
            }
            let powers = fourth_powers(state);
            let mut digests = [<$element>::zero(); GROUPS];
            for ((digest, elements), powers) in digests.iter_mut().zip(state).zip(powers) {
                for (element, power) in elements.iter_mut().zip(&powers) {
                    *element = element.mul(power);
                }
                let mut sum = <$sum>::zero();
                sum.add_dot(elements, &schedule.last);
                *digest = sum.reduce();
            }
            digests
        }

        $(#[$attribute])*
        fn full_round<const WIDTH: usize, const GROUPS: usize>(
            round: &FullRound<$constant>,
            state: &mut State<WIDTH, GROUPS>,
        ) {
            let mut powers = fourth_powers(state);
            for (elements, powers) in state.iter().zip(&mut powers) {
                for ((element, power), key) in elements.iter().zip(powers).zip(&round.keys) {
                    *power = element.mul_add(power, key);
                }
            }
            for (elements, powers) in state.iter_mut().zip(&powers) {
                for (element, row) in elements.iter_mut().zip(round.matrix.chunks_exact(WIDTH)) {
                    let mut sum = <$sum>::zero();
                    sum.add_dot(powers, row);
                    *element = sum.reduce();
                }
            }
        }

        $(#[$attribute])*
        fn partial_rounds<const WIDTH: usize, const GROUPS: usize>(
            block: &Block<$constant>,
            state: &mut State<WIDTH, GROUPS>,
        ) {
            let mut sums = [[<$sum>::zero(); GROUPS]; BLOCK];
            for (sums, round) in sums.iter_mut().zip(&block.rounds) {
                for (sum, elements) in sums.iter_mut().zip(state.iter()) {
                    sum.add_dot(&elements[1..], &round.state);
                }
            }
            let mut x = [[<$element>::zero(); BLOCK]; GROUPS];
            for (r, (round, sums)) in block.rounds.iter().zip(&mut sums).enumerate() {
                let mut first = [[<$element>::zero()]; GROUPS];
                for ([first], elements) in first.iter_mut().zip(state.iter()) {
                    *first = elements[0];
                }
                let powers = fourth_powers(&first);
                for ((x, [first]), [power]) in x.iter_mut().zip(&first).zip(&powers) {
                    x[r] = first.mul_add(power, &round.key);
                }
                for ((sum, x), elements) in sums.iter_mut().zip(&x).zip(state.iter_mut()) {
                    sum.add_dot(&x[..=r], &round.x);
                    elements[0] = sum.reduce();
                }
            }
            let rounds = block.rounds.len();
            for (elements, x) in state.iter_mut().zip(&x) {
                let factors = block.update.chunks_exact(rounds);
                for (element, factors) in elements[1..].iter_mut().zip(factors) {
                    let mut sum = <$sum>::of(element);
                    sum.add_dot(&x[..rounds], factors);
                    *element = sum.reduce();
                }
            }
        }

        $(#[$attribute])*
        fn fourth_powers<const WIDTH: usize, const GROUPS: usize>(
            state: &State<WIDTH, GROUPS>,
        ) -> State<WIDTH, GROUPS> {
            let mut powers = *state;
            for _ in 0..2 {
                // One step for all of them, then the next: the steps of one element wait for each other.
                for power in powers.as_flattened_mut() {
                    *power = power.square();
                }
            }
            powers
        }
    };
}

/// One state at a time on any machine.
pub mod one {
    permutation!(field::fr::Fr, field::fr::Constant, field::fr::Sum);
}

/// Four states at a time and group; the bounds are those of [`eight`].
#[cfg(target_arch = "x86_64")]
pub mod four {
    permutation!(
        field::fr4::Fr4,
        field::fr4::Constant,
        field::fr4::Sum,
        #[target_feature(enable = "avx2")]
    );
}

/// Eight states at a time and group. A value stays below 2²⁶⁰, which is 35 p, without being reduced
/// between the rounds: one block adds at most 1.3 p to an element that starts with 1.8 p, 15 blocks
/// make 21 p, the full round behind them at most 14 p of that.
#[cfg(target_arch = "x86_64")]
pub mod eight {
    permutation!(
        field::fr8::Fr8,
        field::fr8::Constant,
        field::fr8::Sum,
        #[target_feature(enable = "avx512f,avx512ifma")]
    );
}
