//! From a circuit to its QAP polynomials evaluated at tau.
//!
//! The circuit is synthesised twice, with closures called only in the second pass: [`Shape`] counts
//! variables and constraints, which fixes the evaluation domain and so the Lagrange coefficients;
//! [`AtTau`] then adds each constraint's terms straight into the sums they belong to. Nothing is
//! kept per term, which is what makes the proving library's generator large.

use anyhow::{ensure, Result};
use bellperson::{Circuit, ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use blstrs::Scalar;
use ff::{BatchInverter, Field, PrimeField};
use rayon::prelude::*;

/// How large a circuit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Public inputs, the constant one among them.
    pub inputs: usize,
    /// Private variables.
    pub aux: usize,
    /// Constraints, the one that is added for each public input among them.
    pub constraints: usize,
}

impl Shape {
    /// Counts by synthesising `circuit`.
    pub fn of<C: Circuit<Scalar>>(circuit: C) -> Result<Self> {
        let mut counter = Counter(Shape::default());
        counter.0.inputs = 1;
        circuit.synthesize(&mut counter)?;
        let Counter(mut shape) = counter;
        shape.constraints += shape.inputs;
        Ok(shape)
    }

    /// Points in the evaluation domain: the smallest power of two that holds the constraints.
    pub fn domain(&self) -> usize {
        self.constraints.next_power_of_two()
    }

    /// All variables, public and private.
    pub fn variables(&self) -> usize {
        self.inputs + self.aux
    }
}

struct Counter(Shape);

/// The members of [`ConstraintSystem`] that are the same for both passes: no namespaces, no names.
macro_rules! without_namespaces {
    () => {
        type Root = Self;

        fn push_namespace<NR: Into<String>, N: FnOnce() -> NR>(&mut self, _: N) {}

        fn pop_namespace(&mut self) {}

        fn get_root(&mut self) -> &mut Self {
            self
        }
    };
}

impl ConstraintSystem<Scalar> for Counter {
    without_namespaces!();

    fn alloc<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.0.aux += 1;
        Ok(Variable::new_unchecked(Index::Aux(self.0.aux - 1)))
    }

    fn alloc_input<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.0.inputs += 1;
        Ok(Variable::new_unchecked(Index::Input(self.0.inputs - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, _: LA, _: LB, _: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LB: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LC: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
    {
        self.0.constraints += 1;
    }
}

/// One of the three QAP polynomial families at tau: a value per public input and per private
/// variable.
#[derive(Debug, Default, PartialEq)]
pub struct Family {
    pub inputs: Vec<Scalar>,
    pub aux: Vec<Scalar>,
}

impl Family {
    fn with_capacity(shape: &Shape) -> Self {
        Self {
            inputs: Vec::with_capacity(shape.inputs),
            aux: Vec::with_capacity(shape.aux),
        }
    }

    fn add(&mut self, terms: &LinearCombination<Scalar>, at_tau: &Scalar) {
        let add = |value: &mut Scalar, coefficient: &Scalar| {
            // Most coefficients are one: a comparison is far cheaper than a multiplication.
            if *coefficient == Scalar::ONE {
                *value += at_tau;
            } else {
                *value += *at_tau * coefficient;
            }
        };
        for (index, coefficient) in terms.iter_inputs() {
            add(&mut self.inputs[*index], coefficient);
        }
        for (index, coefficient) in terms.iter_aux() {
            add(&mut self.aux[*index], coefficient);
        }
    }

    /// The values of all variables, public inputs first, without the zeros: the queries of a
    /// parameter file leave out the points at infinity.
    pub fn non_zero(&self) -> Vec<Scalar> {
        let values = self.inputs.iter().chain(&self.aux);
        values
            .filter(|value| !value.is_zero_vartime())
            .copied()
            .collect()
    }
}

/// The polynomials u (`a`), v (`b`) and w (`c`) of every variable, evaluated at tau.
#[derive(Debug, Default, PartialEq)]
pub struct AtTau {
    pub a: Family,
    pub b: Family,
    pub c: Family,
}

struct Evaluator<'a> {
    lagrange: &'a [Scalar],
    constraints: usize,
    sums: AtTau,
}

impl AtTau {
    /// Evaluates by synthesising `circuit`, which must have the shape `shape`; `lagrange` holds the
    /// coefficients of [`lagrange_at`] for that shape's domain.
    pub fn of<C: Circuit<Scalar>>(circuit: C, shape: &Shape, lagrange: &[Scalar]) -> Result<Self> {
        let mut evaluator = Evaluator {
            lagrange,
            constraints: 0,
            sums: AtTau {
                a: Family::with_capacity(shape),
                b: Family::with_capacity(shape),
                c: Family::with_capacity(shape),
            },
        };
        evaluator.alloc_input(|| "", || Ok(Scalar::ONE))?;
        circuit.synthesize(&mut evaluator)?;
        // The extra constraint x · 0 = 0 of each public input makes its polynomials independent of
        // the other variables', so that no proof can stand for two statements.
        for input in 0..evaluator.sums.a.inputs.len() {
            evaluator.enforce(
                || "",
                |zero| zero + Variable::new_unchecked(Index::Input(input)),
                |zero| zero,
                |zero| zero,
            );
        }
        let found = Shape {
            inputs: evaluator.sums.a.inputs.len(),
            aux: evaluator.sums.a.aux.len(),
            constraints: evaluator.constraints,
        };
        ensure!(
            found == *shape,
            "the circuit changed between two syntheses: {found:?}, first {shape:?}"
        );
        Ok(evaluator.sums)
    }
}

impl ConstraintSystem<Scalar> for Evaluator<'_> {
    without_namespaces!();

    fn alloc<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let AtTau { a, b, c } = &mut self.sums;
        for family in [&mut *a, b, c] {
            family.aux.push(Scalar::ZERO);
        }
        Ok(Variable::new_unchecked(Index::Aux(a.aux.len() - 1)))
    }

    fn alloc_input<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let AtTau { a, b, c } = &mut self.sums;
        for family in [&mut *a, b, c] {
            family.inputs.push(Scalar::ZERO);
        }
        Ok(Variable::new_unchecked(Index::Input(a.inputs.len() - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, a: LA, b: LB, c: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LB: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LC: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
    {
        // A circuit with more constraints than were counted is reported after the synthesis.
        if let Some(at_tau) = self.lagrange.get(self.constraints) {
            self.sums.a.add(&a(LinearCombination::zero()), at_tau);
            self.sums.b.add(&b(LinearCombination::zero()), at_tau);
            self.sums.c.add(&c(LinearCombination::zero()), at_tau);
        }
        self.constraints += 1;
    }
}

/// The vanishing polynomial of a domain of `size` points (a power of two) at tau: tau^size - 1.
///
/// An error if that is zero, for tau would then be a point of the domain itself.
pub fn vanishing_at(tau: &Scalar, size: usize) -> Result<Scalar> {
    let vanishing = tau.pow_vartime([size as u64]) - Scalar::ONE;
    ensure!(
        !vanishing.is_zero_vartime(),
        "tau is a root of unity of the evaluation domain of {size} points"
    );
    Ok(vanishing)
}

/// The Lagrange basis polynomials of the domain of `size` points (a power of two) at tau.
///
/// With ω the domain's root of unity, `Lᵢ(τ) = (τⁿ - 1)/n · ωⁱ/(τ - ωⁱ)`; the proving library gets the
/// same numbers from an inverse FFT of the powers of tau.
pub fn lagrange_at(tau: &Scalar, size: usize) -> Result<Vec<Scalar>> {
    const CHUNK: usize = 1 << 14;
    let log_size = size.trailing_zeros();
    ensure!(
        size.is_power_of_two() && log_size < Scalar::S,
        "no evaluation domain of {size} points: a power of two below 2^{} is needed",
        Scalar::S
    );
    let omega = (log_size..Scalar::S).fold(Scalar::ROOT_OF_UNITY, |root, _| root.square());
    let scale = vanishing_at(tau, size)? * Scalar::from(size as u64).invert().unwrap();
    let mut lagrange = vec![Scalar::ZERO; size];
    lagrange
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, values)| {
            let first = omega.pow_vartime([(chunk * CHUNK) as u64]);
            let mut root = first;
            for value in values.iter_mut() {
                *value = *tau - root;
                root *= omega;
            }
            let mut scratch = vec![Scalar::ZERO; values.len()];
            BatchInverter::invert_with_external_scratch(values, &mut scratch);
            let mut factor = scale * first;
            for value in values.iter_mut() {
                *value *= factor;
                factor *= omega;
            }
        });
    Ok(lagrange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lagrange_coefficients_interpolate() {
        // p(x) = x³ + 2x + 3 has degree below 8, so the sum of p(ωⁱ)·Lᵢ(τ) is p(τ).
        let polynomial = |x: Scalar| x * x * x + x.double() + Scalar::from(3);
        let tau = Scalar::from(1234567);
        let lagrange = lagrange_at(&tau, 8).unwrap();
        let omega = (3..Scalar::S).fold(Scalar::ROOT_OF_UNITY, |root, _| root.square());
        let mut root = Scalar::ONE;
        let mut sum = Scalar::ZERO;
        for coefficient in lagrange {
            sum += polynomial(root) * coefficient;
            root *= omega;
        }
        assert_eq!(sum, polynomial(tau));
    }

    #[test]
    fn a_domain_of_one_point() {
        assert_eq!(lagrange_at(&Scalar::from(9), 1).unwrap(), [Scalar::ONE]);
    }

    #[test]
    fn tau_in_the_domain_is_refused() {
        let error = lagrange_at(&-Scalar::ONE, 8).unwrap_err().to_string();
        assert!(error.contains("evaluation domain of 8 points"), "{error}");
    }
}
