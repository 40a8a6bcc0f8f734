//! Computations on lanes, compiled for the instructions of the lanes they run on.

/// A computation that lanes run with the instructions they need. `run` must be `#[inline(always)]`,
/// and so must everything it calls that touches lanes: what isn't inlined is compiled for any CPU.
pub trait Kernel {
    type Output;

    fn run(self) -> Self::Output;
}
