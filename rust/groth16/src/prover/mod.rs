//! Groth16 proofs.

use anyhow::{ensure, Result};
use bellperson::groth16::Proof;
use bellperson::Circuit;
use blstrs::{Bls12, G1Projective, G2Projective, Scalar};
use ff::Field;
use group::prime::PrimeCurveAffine;
use group::Curve;
use rand::rngs::OsRng;

use crate::arithmetic::{Arithmetic, Fields, Portable, Wide};
use crate::assignment::{Assignment, Capacity, Stopped};
use crate::density::Density;
use crate::fft::Lanes as _;
use crate::msm::{self, Group, G1, G2};
use crate::parameters::{Parameters, Query};
use crate::quotient::{quotient, Combinations, TRANSFORMS};

/// Hears how far a proof is: (done, total), in units of no meaning. An error it returns ends the proof.
pub type Progress<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// What makes a proof tell nothing of the witness. Two different proofs never have the same.
struct Blinding {
    r: Scalar,
    s: Scalar,
}

impl Blinding {
    fn random() -> Self {
        Self {
            r: Scalar::random(OsRng),
            s: Scalar::random(OsRng),
        }
    }
}

/// The values of `circuit`'s variables, for [`prove`].
///
/// An error if the circuit is not that of the parameters, if there is no memory for it, and soon after
/// `stopped` is true.
pub fn synthesise<C: Circuit<Scalar>>(
    circuit: C,
    parameters: &Parameters,
    stopped: &Stopped<'_>,
) -> Result<Assignment> {
    let capacity = Capacity {
        aux: parameters.aux(),
        constraints: parameters.domain(),
    };
    let assignment = Assignment::of(circuit, capacity, stopped)?;
    require_same_circuit(&assignment, parameters)?;
    Ok(assignment)
}

/// A proof of the circuit that `assignment` is of. Progress is reported, and can end the proof, between
/// the transforms and after every chunk of points.
///
/// An error if the circuit is not that of the parameters, [`Unsatisfied`](crate::Unsatisfied) if a
/// constraint doesn't hold for its witness, an error if a point of the parameters that is needed can't be
/// one, or if there is no memory.
pub fn prove(
    assignment: Assignment,
    parameters: &Parameters,
    arithmetic: Arithmetic,
    progress: &mut Progress<'_>,
) -> Result<Proof<Bls12>> {
    let blinding = Blinding::random();
    prove_blinded(assignment, parameters, &blinding, arithmetic, progress)
}

fn prove_blinded(
    assignment: Assignment,
    parameters: &Parameters,
    blinding: &Blinding,
    arithmetic: Arithmetic,
    progress: &mut Progress<'_>,
) -> Result<Proof<Bls12>> {
    require_same_circuit(&assignment, parameters)?;
    let mut work = Work::new(parameters, progress);
    work.advance(0)?;
    let sums = match arithmetic {
        // A domain must fill the lanes.
        Arithmetic::Wide(_) if parameters.domain() >= <Wide as Fields>::Fr::WIDTH => {
            Sums::of::<Wide>(assignment, parameters, &mut work)?
        }
        _ => Sums::of::<Portable>(assignment, parameters, &mut work)?,
    };
    sums.proof(parameters, blinding)
}

/// Fails unless the parameters have the queries of this circuit.
fn require_same_circuit(assignment: &Assignment, parameters: &Parameters) -> Result<()> {
    let Assignment { inputs, aux, a, .. } = assignment;
    let found = (
        inputs.len(),
        aux.len(),
        a.len().next_power_of_two(),
        inputs.len() + assignment.a_aux.len(),
        assignment.b_inputs.len() + assignment.b_aux.len(),
    );
    let (a_points, b_points) = parameters.densities();
    let expected = (
        parameters.verifying_key().ic.len(),
        parameters.aux(),
        parameters.domain(),
        a_points,
        b_points,
    );
    ensure!(
        found == expected,
        "{} are parameters of another circuit: (public inputs, private variables, domain, A query, B \
         query) are {expected:?} there, {found:?} in this circuit",
        parameters.path().display()
    );
    Ok(())
}

/// How much of a proof is done, in terms of a multiplication in G1.
struct Work<'a, 'p> {
    done: u64,
    total: u64,
    progress: &'a mut Progress<'p>,
}

/// Points of the domain that a transform costs as much as a term for.
const TRANSFORMED: u64 = 8;

/// What a term of a multiplication in G2 costs.
const IN_G2: u64 = 3;

impl<'a, 'p> Work<'a, 'p> {
    fn new(parameters: &Parameters, progress: &'a mut Progress<'p>) -> Self {
        let domain = parameters.domain() as u64;
        let aux = parameters.aux() as u64;
        let (a, b) = parameters.densities();
        Self {
            done: 0,
            total: TRANSFORMS * (domain / TRANSFORMED)
                + (domain - 1)
                + aux
                + a as u64
                + b as u64 * (1 + IN_G2),
            progress,
        }
    }

    fn advance(&mut self, terms: u64) -> Result<()> {
        self.done += terms;
        (self.progress)(self.done.min(self.total), self.total)
    }
}

/// The five multi-scalar multiplications of a proof.
struct Sums {
    h: G1Projective,
    l: G1Projective,
    a: G1Projective,
    b_g1: G1Projective,
    b_g2: G2Projective,
}

impl Sums {
    fn of<F: Fields>(
        assignment: Assignment,
        parameters: &Parameters,
        work: &mut Work<'_, '_>,
    ) -> Result<Self> {
        let Assignment {
            a,
            b,
            c,
            inputs,
            aux,
            a_aux,
            b_inputs,
            b_aux,
        } = assignment;
        let domain = parameters.domain();
        let step = &mut || work.advance(domain as u64 / TRANSFORMED);
        let quotient = quotient::<F::Fr>(Combinations { a, b, c }, domain, step)?;
        let h = in_g1::<F>(parameters.h(), quotient.iter(), work)?;
        drop(quotient);

        let l = in_g1::<F>(parameters.l(), aux.iter(), work)?;
        let all_inputs = inputs.iter();
        let a = all_inputs.chain(members(&aux, &a_aux));
        let a = in_g1::<F>(parameters.a(), a, work)?;
        let b = members(&inputs, &b_inputs).chain(members(&aux, &b_aux));
        let b_g1 = in_g1::<F>(parameters.b_g1(), b.clone(), work)?;
        let b_g2 = {
            let step = &mut |terms| work.advance(terms as u64 * IN_G2);
            let sum = msm::multiply::<G2, F::Fp2>(parameters.b_g2(), numbered(b), step);
            G2::sum(&sum?)
        };
        Ok(Self {
            h,
            l,
            a,
            b_g1,
            b_g2,
        })
    }

    /// A = α + a + r·δ, B = β + b + s·δ, C = h + l + s·A + r·B − rs·δ.
    fn proof(&self, parameters: &Parameters, Blinding { r, s }: &Blinding) -> Result<Proof<Bls12>> {
        let key = parameters.verifying_key();
        ensure!(
            !bool::from(key.delta_g1.is_identity() | key.delta_g2.is_identity()),
            "{}: delta is the point at infinity, which would let proofs tell their witness",
            parameters.path().display()
        );
        let delta = G1Projective::from(key.delta_g1);
        let a = self.a + key.alpha_g1 + delta * r;
        let b = self.b_g2 + key.beta_g2 + G2Projective::from(key.delta_g2) * s;
        let b_g1 = self.b_g1 + key.beta_g1 + delta * s;
        let c = self.h + self.l + a * s + b_g1 * r - delta * (*r * s);
        Ok(Proof {
            a: a.to_affine(),
            b: b.to_affine(),
            c: c.to_affine(),
        })
    }
}

fn in_g1<'a, F: Fields>(
    query: Query<'_>,
    scalars: impl Iterator<Item = &'a Scalar> + Clone,
    work: &mut Work<'_, '_>,
) -> Result<G1Projective> {
    let step = &mut |terms| work.advance(terms as u64);
    let sum = msm::multiply::<G1, F::Fp>(query, numbered(scalars), step);
    Ok(G1::sum(&sum?))
}

/// The values of the variables that are in `density`, in the order of their points in a query.
fn members<'a>(
    values: &'a [Scalar],
    density: &'a Density,
) -> impl Iterator<Item = &'a Scalar> + Clone {
    let numbered = values.iter().enumerate();
    numbered.filter_map(|(index, value)| density.contains(index).then_some(value))
}

/// Scalars with the index of their points.
fn numbered<'a>(
    scalars: impl Iterator<Item = &'a Scalar> + Clone,
) -> impl Iterator<Item = (u32, Scalar)> + Clone {
    (0..).zip(scalars.copied())
}

#[cfg(test)]
mod tests;
