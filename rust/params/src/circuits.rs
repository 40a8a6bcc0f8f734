//! The circuits that have parameters, by what they prove and for which sector size.

use std::fmt;
use std::str::FromStr;

use anyhow::{bail, ensure, Context, Error, Result};
use bellperson::Circuit;
use blstrs::Scalar;
use filecoin_proofs::constants::{
    DefaultPieceHasher, SectorShape32GiB, SectorShape64GiB, SectorShapeBase,
    PUBLISHED_SECTOR_SIZES, SECTOR_SIZE_2_KIB, SECTOR_SIZE_32_GIB, SECTOR_SIZE_64_GIB,
    SECTOR_SIZE_8_MIB, WINDOW_POST_CHALLENGE_COUNT, WINDOW_POST_SECTOR_COUNT,
    WINNING_POST_CHALLENGE_COUNT, WINNING_POST_SECTOR_COUNT,
};
use filecoin_proofs::parameters::{
    public_params, window_post_public_params, winning_post_public_params,
};
use filecoin_proofs::{PoRepConfig, PoStConfig, PoStType, SectorSize};
use storage_proofs_core::api_version::ApiVersion;
use storage_proofs_core::compound_proof::{CircuitComponent, CompoundProof};
use storage_proofs_core::merkle::MerkleTreeTrait;
use storage_proofs_core::parameter_cache::{
    parameter_id, CacheableParameters, ParameterSetMetadata,
};
use storage_proofs_core::proof::ProofScheme;
use storage_proofs_porep::stacked::{StackedCircuit, StackedCompound, StackedDrg};
use storage_proofs_post::fallback::{
    self, FallbackPoSt, FallbackPoStCircuit, FallbackPoStCompound,
};
use storage_proofs_update::circuit::EmptySectorUpdateCircuit;
use storage_proofs_update::compound::EmptySectorUpdateCompound;
use storage_proofs_update::constants::TreeRHasher;
use storage_proofs_update::{EmptySectorUpdate, PublicParams as UpdatePublicParams};

use crate::qap::Shape;

/// Sector sizes in bytes that parameters exist for, smallest first.
pub const SECTOR_SIZES: [u64; 5] = PUBLISHED_SECTOR_SIZES;

/// Sector sizes, in bytes, that only local networks use: a set may be generated for them.
pub const LOCAL_SECTOR_SIZES: [u64; 2] = [SECTOR_SIZE_2_KIB, SECTOR_SIZE_8_MIB];

/// What a parameter set proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sealing: proof of replication, all proof types of a size (C2).
    PoRep,
    /// Snap deals: an empty sector updated with data.
    Update,
    WinningPoSt,
    WindowPoSt,
}

impl Kind {
    /// Every kind, in the order they are listed to users.
    pub const ALL: [Self; 4] = [
        Self::PoRep,
        Self::Update,
        Self::WinningPoSt,
        Self::WindowPoSt,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PoRep => "porep",
            Self::Update => "update",
            Self::WinningPoSt => "winning",
            Self::WindowPoSt => "window",
        })
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .with_context(|| {
                format!("unknown parameter kind {text:?}: porep, update, winning or window")
            })
    }
}

/// One parameter set: a kind and a sector size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterSet {
    kind: Kind,
    sector_size: u64,
}

/// What the proving library calls a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The common stem of the set's file names, for example
    /// `v28-stacked-proof-of-replication-merkletree-poseidon_hasher-8-0-0-sha256_hasher-…`.
    pub name: String,
    /// The content of the `.meta` file.
    pub metadata: Vec<u8>,
}

/// Something done with a set's circuit; the circuit's type depends on the set.
pub trait CircuitVisitor {
    type Output;

    /// `blank` makes the circuit without assignments, the same one at every call.
    fn visit<C: Circuit<Scalar>>(
        self,
        identity: Identity,
        blank: &(dyn Fn() -> C + Sync),
    ) -> Result<Self::Output>;
}

impl ParameterSet {
    /// An error if `sector_size` is not one that parameters are published for.
    pub fn new(kind: Kind, sector_size: u64) -> Result<Self> {
        if !SECTOR_SIZES.contains(&sector_size) {
            bail!(
                "no parameters exist for sectors of {sector_size} bytes: one of {SECTOR_SIZES:?}"
            );
        }
        Ok(Self { kind, sector_size })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes.
    pub fn sector_size(&self) -> u64 {
        self.sector_size
    }

    /// The set's names and metadata.
    pub fn identity(&self) -> Result<Identity> {
        struct Identify;
        impl CircuitVisitor for Identify {
            type Output = Identity;

            fn visit<C: Circuit<Scalar>>(
                self,
                identity: Identity,
                _: &(dyn Fn() -> C + Sync),
            ) -> Result<Identity> {
                Ok(identity)
            }
        }
        self.visit(Identify)
    }

    /// Counts the variables and constraints of the set's circuit: seconds for small sectors,
    /// minutes for large ones.
    pub fn count(&self) -> Result<Shape> {
        struct Count;
        impl CircuitVisitor for Count {
            type Output = Shape;

            fn visit<C: Circuit<Scalar>>(
                self,
                _: Identity,
                blank: &(dyn Fn() -> C + Sync),
            ) -> Result<Shape> {
                Shape::of(blank())
            }
        }
        self.visit(Count)
    }

    /// Hands the circuit to `visitor`.
    pub fn visit<V: CircuitVisitor>(&self, visitor: V) -> Result<V::Output> {
        match self.sector_size {
            SECTOR_SIZE_32_GIB => with_tree::<SectorShape32GiB, V>(self, visitor),
            SECTOR_SIZE_64_GIB => with_tree::<SectorShape64GiB, V>(self, visitor),
            _ => with_tree::<SectorShapeBase, V>(self, visitor),
        }
    }

    /// Like [`Self::visit`], for the sizes of local networks only: their trees have one shape, so
    /// `visitor` is compiled for that one.
    pub fn visit_local<V: CircuitVisitor>(&self, visitor: V) -> Result<V::Output> {
        ensure!(
            LOCAL_SECTOR_SIZES.contains(&self.sector_size),
            "local parameters are for sectors of 2 KiB and 8 MiB only, not of {} bytes: larger sectors are \
             those of public networks, whose parameters come from a ceremony and can't be made up",
            self.sector_size
        );
        with_tree::<SectorShapeBase, V>(self, visitor)
    }

    fn porep_config(&self) -> PoRepConfig {
        // Neither the seed of the graph nor the version is part of the circuit.
        PoRepConfig::new_groth16(self.sector_size, [0; 32], ApiVersion::V1_1_0)
    }

    fn post_config(&self, typ: PoStType) -> PoStConfig {
        let (challenge_count, sector_count) = match typ {
            PoStType::Winning => (WINNING_POST_CHALLENGE_COUNT, WINNING_POST_SECTOR_COUNT),
            PoStType::Window => {
                let counts = WINDOW_POST_SECTOR_COUNT
                    .read()
                    .expect("nothing panics while it holds this lock");
                (WINDOW_POST_CHALLENGE_COUNT, counts[&self.sector_size])
            }
        };
        PoStConfig {
            sector_size: SectorSize(self.sector_size),
            challenge_count,
            sector_count,
            typ,
            priority: false,
            api_version: ApiVersion::V1_2_0,
        }
    }
}

fn with_tree<Tree, V>(set: &ParameterSet, visitor: V) -> Result<V::Output>
where
    Tree: 'static + MerkleTreeTrait<Hasher = TreeRHasher>,
    V: CircuitVisitor,
{
    match set.kind {
        Kind::PoRep => hand_over::<
            StackedDrg<'_, Tree, DefaultPieceHasher>,
            StackedCircuit<Tree, DefaultPieceHasher>,
            StackedCompound<Tree, DefaultPieceHasher>,
            V,
        >(&public_params::<Tree>(&set.porep_config())?, visitor),
        Kind::Update => hand_over::<
            EmptySectorUpdate<Tree>,
            EmptySectorUpdateCircuit<Tree>,
            EmptySectorUpdateCompound<Tree>,
            V,
        >(
            &UpdatePublicParams::from_sector_size(set.sector_size),
            visitor,
        ),
        Kind::WinningPoSt => hand_over_post::<Tree, V>(
            &winning_post_public_params::<Tree>(&set.post_config(PoStType::Winning))?,
            visitor,
        ),
        Kind::WindowPoSt => hand_over_post::<Tree, V>(
            &window_post_public_params::<Tree>(&set.post_config(PoStType::Window))?,
            visitor,
        ),
    }
}

fn hand_over_post<Tree, V>(public: &fallback::PublicParams, visitor: V) -> Result<V::Output>
where
    Tree: 'static + MerkleTreeTrait,
    V: CircuitVisitor,
{
    hand_over::<FallbackPoSt<'_, Tree>, FallbackPoStCircuit<Tree>, FallbackPoStCompound<Tree>, V>(
        public, visitor,
    )
}

/// `S` is the proof scheme, `C` its circuit, `P` the library's type that joins the two.
fn hand_over<'a, S, C, P, V>(public: &S::PublicParams, visitor: V) -> Result<V::Output>
where
    S: ProofScheme<'a>,
    S::PublicParams: ParameterSetMetadata + Sync + Send,
    S::PublicInputs: Clone + Sync,
    S::Proof: Sync + Send,
    C: Circuit<Scalar> + CircuitComponent + Send,
    P: CompoundProof<'a, S, C> + CacheableParameters<C, S::PublicParams>,
    V: CircuitVisitor,
{
    let file = parameter_id(&P::cache_identifier(public));
    let name = file.strip_suffix(".params").unwrap_or(&file).to_owned();
    let metadata = serde_json::to_vec(&P::cache_meta(public))?;
    visitor.visit(Identity { name, metadata }, &|| P::blank_circuit(public))
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_proofs_core::parameter_cache::PARAMETERS;

    #[test]
    fn every_set_has_the_name_of_a_published_one() {
        for kind in Kind::ALL {
            for sector_size in SECTOR_SIZES {
                let identity = ParameterSet::new(kind, sector_size)
                    .unwrap()
                    .identity()
                    .unwrap();
                let published = &PARAMETERS[&format!("{}.params", identity.name)];
                assert_eq!(published.sector_size, sector_size, "{}", identity.name);
            }
        }
    }

    #[test]
    fn unknown_sizes_and_kinds_are_named() {
        let error = ParameterSet::new(Kind::PoRep, 4096)
            .unwrap_err()
            .to_string();
        assert!(error.contains("4096"), "{error}");
        let error = "pore".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("pore"), "{error}");
    }
}
