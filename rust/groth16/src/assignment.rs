//! From a circuit to its assignment: the values of its variables, and what each constraint's three
//! linear combinations come to.

use std::io;

use anyhow::Result;
use bellperson::{Circuit, ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use blstrs::Scalar;
use ff::Field;

use crate::density::Density;
use crate::memory::reserved;

/// Whether a synthesis is to end: asked for every variable.
pub type Stopped<'a> = dyn Fn() -> bool + Sync + 'a;

/// How large a circuit will be, at most; only to allocate once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    pub aux: usize,
    pub constraints: usize,
}

/// A synthesised circuit. `a[i]`, `b[i]` and `c[i]` are the three linear combinations of constraint i
/// at the variables' values: `a[i] · b[i] = c[i]` where the witness is right.
#[derive(Debug, Default)]
pub struct Assignment {
    pub(crate) a: Vec<Scalar>,
    pub(crate) b: Vec<Scalar>,
    pub(crate) c: Vec<Scalar>,
    /// Public inputs, the constant one first.
    pub(crate) inputs: Vec<Scalar>,
    /// Private variables.
    pub(crate) aux: Vec<Scalar>,
    /// Private variables of the A query. All public inputs are in it.
    pub(crate) a_aux: Density,
    /// Public inputs of the two B queries.
    pub(crate) b_inputs: Density,
    /// Private variables of the two B queries.
    pub(crate) b_aux: Density,
}

impl Assignment {
    /// Synthesises `circuit`. For every public input x a constraint x · 0 = 0 follows, as the
    /// parameters have it: it keeps the inputs' A polynomials independent.
    ///
    /// An error if there is no memory for so large a circuit, and soon after `stopped` is true; parts that
    /// a circuit synthesises by themselves and joins are not stopped.
    pub(crate) fn of<C: Circuit<Scalar>>(
        circuit: C,
        capacity: Capacity,
        stopped: &Stopped<'_>,
    ) -> Result<Self> {
        let mut synthesis = Synthesis {
            assignment: Self::with_capacity(capacity)?,
            stopped: Some(stopped),
        };
        synthesis.assignment.inputs.push(Scalar::ONE);
        circuit.synthesize(&mut synthesis)?;
        for index in 0..synthesis.assignment.inputs.len() {
            let input = Variable::new_unchecked(Index::Input(index));
            synthesis.enforce(|| "", |terms| terms + input, |terms| terms, |terms| terms);
        }
        Ok(synthesis.assignment)
    }

    fn with_capacity(Capacity { aux, constraints }: Capacity) -> Result<Self> {
        Ok(Self {
            a: reserved(constraints)?,
            b: reserved(constraints)?,
            c: reserved(constraints)?,
            inputs: Vec::new(),
            aux: reserved(aux)?,
            a_aux: Density::with_capacity(aux)?,
            b_inputs: Density::default(),
            b_aux: Density::with_capacity(aux)?,
        })
    }
}

/// An assignment that a circuit fills.
#[derive(Default)]
struct Synthesis<'a> {
    assignment: Assignment,
    stopped: Option<&'a Stopped<'a>>,
}

/// The sum of `terms` at the variables' values. The variables that occur are inserted into the
/// densities: those with coefficient zero have no part in the query's polynomial.
fn evaluate(
    terms: &LinearCombination<Scalar>,
    values: (&[Scalar], &[Scalar]),
    mut inputs: Option<&mut Density>,
    mut aux: Option<&mut Density>,
) -> Scalar {
    let mut sum = Scalar::ZERO;
    let mut add = |(index, coefficient): (&usize, &Scalar),
                   values: &[Scalar],
                   density: &mut Option<&mut Density>| {
        if coefficient.is_zero_vartime() {
            return;
        }
        if let Some(density) = density {
            density.insert(*index);
        }
        let value = values[*index];
        // Most coefficients are one: a comparison is far cheaper than a multiplication.
        if *coefficient == Scalar::ONE {
            sum += value;
        } else {
            sum += value * coefficient;
        }
    };
    for term in terms.iter_inputs() {
        add(term, values.0, &mut inputs);
    }
    for term in terms.iter_aux() {
        add(term, values.1, &mut aux);
    }
    sum
}

impl ConstraintSystem<Scalar> for Synthesis<'_> {
    type Root = Self;

    fn new() -> Self {
        Self::default()
    }

    fn alloc<F, A, AR>(&mut self, _: A, value: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        if self.stopped.is_some_and(|stopped| stopped()) {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        let Assignment { aux, .. } = &mut self.assignment;
        aux.push(value()?);
        Ok(Variable::new_unchecked(Index::Aux(aux.len() - 1)))
    }

    fn alloc_input<F, A, AR>(&mut self, _: A, value: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let Assignment { inputs, .. } = &mut self.assignment;
        inputs.push(value()?);
        Ok(Variable::new_unchecked(Index::Input(inputs.len() - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, a: LA, b: LB, c: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LB: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LC: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
    {
        let all = &mut self.assignment;
        let values = (&all.inputs[..], &all.aux[..]);
        let zero = LinearCombination::zero;
        let a = evaluate(&a(zero()), values, None, Some(&mut all.a_aux));
        let b = evaluate(
            &b(zero()),
            values,
            Some(&mut all.b_inputs),
            Some(&mut all.b_aux),
        );
        let c = evaluate(&c(zero()), values, None, None);
        all.a.push(a);
        all.b.push(b);
        all.c.push(c);
    }

    /// The circuits of window PoSt synthesise their sectors in parallel and join them.
    fn is_extensible() -> bool {
        true
    }

    /// `other` has a constant one of its own, which is this assignment's.
    fn extend(&mut self, other: &Self) {
        let (all, other) = (&mut self.assignment, &other.assignment);
        let inputs = all.inputs.len();
        let aux = all.aux.len();
        all.a_aux.extend(&other.a_aux, |index| index + aux);
        all.b_aux.extend(&other.b_aux, |index| index + aux);
        all.b_inputs.extend(&other.b_inputs, |index| match index {
            0 => 0,
            index => index - 1 + inputs,
        });
        all.a.extend_from_slice(&other.a);
        all.b.extend_from_slice(&other.b);
        all.c.extend_from_slice(&other.c);
        all.inputs.extend_from_slice(&other.inputs[1..]);
        all.aux.extend_from_slice(&other.aux);
    }

    fn push_namespace<NR: Into<String>, N: FnOnce() -> NR>(&mut self, _: N) {}

    fn pop_namespace(&mut self) {}

    fn get_root(&mut self) -> &mut Self {
        self
    }
}
