//! A Groth16 setup written straight into a parameter file.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context, Result};
use bellperson::groth16::VerifyingKey;
use bellperson::{Circuit, SynthesisError};
use blstrs::{Bls12, Scalar};
use ff::Field;
use group::Curve;
use rayon::prelude::*;

use crate::curve::{CurveGroup, G1, G2};
use crate::fixed_base::{FixedBase, BATCH};
use crate::layout::{verifying_key_bytes, FileLayout, Section};
use crate::monitor::Monitor;
use crate::qap::{lagrange_at, vanishing_at, AtTau, Shape};
use crate::trapdoor::Trapdoor;

/// What a generation made, besides the file.
#[derive(Debug)]
pub struct Generated {
    /// The verifying key as it stands at the head of the file and in the `.vk` file.
    pub verifying_key: Vec<u8>,
    /// Length of the file in bytes.
    pub bytes: u64,
    pub shape: Shape,
}

/// Generates the parameters of the circuit that `blank` makes and writes them to `file`.
///
/// `blank` is called twice and must give the same circuit, without assignments. `file` may be empty
/// or have its space allocated; it is cut to length. The bytes depend on circuit and trapdoor only. Errors: the circuit's own; a private
/// variable without a constraint; writing; [`Monitor::stop`].
pub fn generate<C: Circuit<Scalar>>(
    blank: &(dyn Fn() -> C + Sync),
    trapdoor: &Trapdoor,
    file: &File,
    monitor: &Monitor,
) -> Result<Generated> {
    let (shape, (g1, g2)) = rayon::join(
        || Shape::of(blank()),
        || {
            rayon::join(
                || FixedBase::<G1>::new(&trapdoor.g1),
                || FixedBase::<G2>::new(&trapdoor.g2),
            )
        },
    );
    let shape = shape.context("counting the circuit's constraints")?;
    monitor.check()?;
    let variables = shape.variables() as u64;
    let certain = (shape.domain() - 1 + shape.aux) as u64;
    monitor.expect(certain + (2 + G2::WEIGHT) * variables);

    let lagrange = lagrange_at(&trapdoor.tau, shape.domain())?;
    let writer = Writer { file, monitor };
    // The h query needs no circuit: it fills the cores that one synthesis leaves idle.
    let (at_tau, written) = rayon::join(
        || AtTau::of(blank(), &shape, &lagrange),
        || write_h(&writer, &g1, trapdoor, &shape),
    );
    written?;
    let at_tau = at_tau.context("evaluating the circuit's constraints")?;
    drop(lagrange);

    let a = at_tau.a.non_zero();
    let b = at_tau.b.non_zero();
    monitor.expect(certain + a.len() as u64 + (1 + G2::WEIGHT) * b.len() as u64);
    let extension = Extension {
        at_tau: &at_tau,
        trapdoor,
    };

    let layout = FileLayout::new(&shape, a.len(), b.len());
    let delta_inverse = inverse(&trapdoor.delta, "delta")?;
    writer.section(&g1, &layout.l, |range| extension.aux(range, &delta_inverse))?;
    writer.section(&g1, &layout.a, |range| Ok(a[range].to_vec()))?;
    writer.section(&g1, &layout.b_g1, |range| Ok(b[range].to_vec()))?;
    writer.section(&g2, &layout.b_g2, |range| Ok(b[range].to_vec()))?;

    let verifying_key = verifying_key(
        trapdoor,
        &extension.inputs(&inverse(&trapdoor.gamma, "gamma")?),
    )?;
    ensure!(verifying_key.len() as u64 == verifying_key_bytes(shape.inputs));
    writer.write(&verifying_key, 0)?;
    file.set_len(layout.bytes())?;
    Ok(Generated {
        verifying_key,
        bytes: layout.bytes(),
        shape,
    })
}

fn inverse(scalar: &Scalar, name: &str) -> Result<Scalar> {
    Option::from(scalar.invert()).with_context(|| format!("{name} is zero"))
}

/// The polynomials `β·u + α·v + w` that bind the three families together.
struct Extension<'a> {
    at_tau: &'a AtTau,
    trapdoor: &'a Trapdoor,
}

impl Extension<'_> {
    fn value(&self, a: &Scalar, b: &Scalar, c: &Scalar, inverse: &Scalar) -> Scalar {
        (*a * self.trapdoor.beta + *b * self.trapdoor.alpha + c) * inverse
    }

    /// The l query of some private variables; an error where one is in no constraint.
    fn aux(&self, range: Range<usize>, inverse: &Scalar) -> Result<Vec<Scalar>> {
        let AtTau { a, b, c } = self.at_tau;
        range
            .map(|index| {
                let value = self.value(&a.aux[index], &b.aux[index], &c.aux[index], inverse);
                if value.is_zero_vartime() {
                    return Err(SynthesisError::UnconstrainedVariable)
                        .with_context(|| format!("private variable {index}"));
                }
                Ok(value)
            })
            .collect()
    }

    /// The ic query: all public inputs.
    fn inputs(&self, inverse: &Scalar) -> Vec<Scalar> {
        let AtTau { a, b, c } = self.at_tau;
        (0..a.inputs.len())
            .map(|index| {
                self.value(
                    &a.inputs[index],
                    &b.inputs[index],
                    &c.inputs[index],
                    inverse,
                )
            })
            .collect()
    }
}

fn verifying_key(trapdoor: &Trapdoor, ic: &[Scalar]) -> Result<Vec<u8>> {
    let Trapdoor {
        g1,
        g2,
        alpha,
        beta,
        gamma,
        delta,
        ..
    } = trapdoor;
    let key = VerifyingKey::<Bls12> {
        alpha_g1: (g1 * alpha).to_affine(),
        beta_g1: (g1 * beta).to_affine(),
        beta_g2: (g2 * beta).to_affine(),
        gamma_g2: (g2 * gamma).to_affine(),
        delta_g1: (g1 * delta).to_affine(),
        delta_g2: (g2 * delta).to_affine(),
        ic: ic
            .par_iter()
            .map(|value| (g1 * value).to_affine())
            .collect(),
    };
    let mut bytes = Vec::new();
    key.write(&mut bytes)?;
    Ok(bytes)
}

/// The h query: `τⁱ·t(τ)/δ`, with t the domain's vanishing polynomial.
fn write_h(
    writer: &Writer<'_>,
    table: &FixedBase<G1>,
    trapdoor: &Trapdoor,
    shape: &Shape,
) -> Result<()> {
    let delta_inverse = inverse(&trapdoor.delta, "delta")?;
    let scale = vanishing_at(&trapdoor.tau, shape.domain())? * delta_inverse;
    writer.section(table, &FileLayout::h(shape), |range| {
        let first = scale * trapdoor.tau.pow_vartime([range.start as u64]);
        let powers = std::iter::successors(Some(first), |power| Some(*power * trapdoor.tau));
        Ok(powers.take(range.len()).collect())
    })
}

struct Writer<'a> {
    file: &'a File,
    monitor: &'a Monitor,
}

impl Writer<'_> {
    /// Computes and writes a whole query, a batch per task; `scalars` gives those of a range.
    fn section<C: CurveGroup>(
        &self,
        table: &FixedBase<C>,
        section: &Section<C>,
        scalars: impl Fn(Range<usize>) -> Result<Vec<Scalar>> + Sync,
    ) -> Result<()> {
        let count = u32::try_from(section.points).context("a query of 2^32 points or more")?;
        self.write(&count.to_be_bytes(), section.offset)?;
        (0..section.points)
            .into_par_iter()
            .step_by(BATCH)
            .try_for_each(|start| {
                self.monitor.check()?;
                let range = start..section.points.min(start + BATCH);
                let points = table.multiply(&scalars(range.clone())?);
                let mut bytes = vec![0; points.len() * C::ENCODED];
                for (point, out) in points.iter().zip(bytes.chunks_exact_mut(C::ENCODED)) {
                    C::encode(point, out);
                }
                self.write(&bytes, section.point(start))?;
                self.monitor.advance(range.len() as u64 * C::WEIGHT);
                Ok(())
            })
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .with_context(|| format!("writing {} bytes at offset {offset}", bytes.len()))
    }
}
