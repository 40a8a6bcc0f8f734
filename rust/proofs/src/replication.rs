//! PC2 by the engine of the `pc2` crate, and the aux files that go with the trees.

use std::io::Write;
use std::marker::PhantomData;
use std::path::Path;
use std::thread;

use anyhow::{ensure, Context, Result};
use filecoin_proofs::constants::{DefaultPieceHasher, SectorShape2KiB};
use filecoin_proofs::types::StoreConfig;
use filecoin_proofs::with_shape;
use filecoin_proofs_api::seal::{Labels, SealPreCommitPhase2Output};
use filecoin_proofs_api::MerkleTreeTrait;
use pc2::{Commitments, Engine, Shape};
use poseidon::Kernel;
use storage_proofs_core::cache_key::CacheKey;
use storage_proofs_core::util::default_rows_to_discard;
use storage_proofs_porep::stacked::{self, TemporaryAux};
use typenum::Unsigned;

use crate::cache::remove_aux;
use crate::control::Control;
use crate::durable::PartialFile;
use crate::sector::{layers, size_of, AUX_FILES, NODE_SIZE, TREE_D_FILE};
use crate::tasks::PC2;
use crate::tree_d;

/// Children of a node in the trees of a sector.
const TREE_ARITY: u64 = 8;

/// What `t_aux` holds, of any shape.
type Aux = TemporaryAux<SectorShape2KiB, DefaultPieceHasher>;

/// Runs PC2 for a task whose files were checked, except the layers.
pub fn replicate(task: &PC2, control: &mut Control<'_>) -> Result<SealPreCommitPhase2Output> {
    let registered_proof = task.pc1out.registered_proof;
    let sector_size = size_of(registered_proof);
    let comm_d = task.pc1out.comm_d;
    let root = tree_d::root(&task.cache_dir, sector_size)?;
    ensure!(
        root == Some(comm_d),
        "tree_d {}: its root is {}, expected comm_d of PC1, {}",
        task.cache_dir.join(TREE_D_FILE).display(),
        tree_d::shown(root),
        hex::encode(comm_d)
    );
    remove_aux(&task.cache_dir)?;
    let engine = engine()?;
    let sector = pc2::Sector {
        shape: shape_of(sector_size)?,
        cache_dir: &task.cache_dir,
        data: &task.cache_dir.join(TREE_D_FILE),
        comm_d,
        replica: &task.sealed_file,
    };
    let mut total_work = 0;
    let mut watch = |done, total| {
        total_work = total;
        control.step(done, total)
    };
    // Before the engine removes what it would take up: a run that is cut between them goes on there.
    let mut conclude = |commitments: &Commitments| {
        let labels = label_configs(&task.pc1out.labels, &task.cache_dir);
        let t_aux = temporary_aux(labels, &sector.shape, &task.cache_dir)?;
        write_aux(&task.cache_dir, commitments, &t_aux)
    };
    let commitments = engine.run(&sector, &mut watch, &mut conclude)?;
    control.finish(total_work)?;
    Ok(SealPreCommitPhase2Output {
        registered_proof,
        comm_r: commitments.comm_r,
        comm_d,
    })
}

/// The engine, with all that this machine has.
pub fn engine() -> Result<Engine> {
    let engine = Engine {
        kernel: Kernel::best(),
        threads: thread::available_parallelism()?.get(),
    };
    log::info!(
        "PC2 engine: {} kernel, {} threads",
        engine.kernel.name(),
        engine.threads
    );
    Ok(engine)
}

/// The shape of the trees of a sector.
pub fn shape_of(sector_size: u64) -> Result<Shape> {
    fn arities<Tree: MerkleTreeTrait>() -> (u64, u64) {
        (Tree::SubTreeArity::U64, Tree::TopTreeArity::U64)
    }
    let (sub_arity, top_arity) = with_shape!(sector_size, arities);
    let shape = Shape {
        nodes: sector_size / NODE_SIZE,
        layers: layers(sector_size)?.try_into()?,
        sub_arity,
        top_arity,
        rows_to_discard: 0,
    };
    let base_nodes = usize::try_from(shape.base_nodes())?;
    Ok(Shape {
        rows_to_discard: default_rows_to_discard(base_nodes, TREE_ARITY as usize).try_into()?,
        ..shape
    })
}

/// Writes `p_aux` and `t_aux`, as the library does.
pub fn write_aux(cache_dir: &Path, commitments: &Commitments, t_aux: &[u8]) -> Result<()> {
    let write = |name: &str, contents: &[u8]| {
        let path = cache_dir.join(name);
        let mut aux = PartialFile::create(&path)?;
        aux.file
            .write_all(contents)
            .with_context(|| format!("write {}", path.display()))?;
        aux.publish()
    };
    let [p_aux, t_aux_name] = AUX_FILES;
    write(p_aux, &persistent_aux(commitments))?;
    write(t_aux_name, t_aux)
}

/// Contents of `p_aux`.
fn persistent_aux(commitments: &Commitments) -> Vec<u8> {
    [commitments.comm_c, commitments.comm_r_last].concat()
}

/// Contents of `t_aux`: where labels and trees are, and their sizes in nodes. The shape of the tree in
/// its type does not show in them.
fn temporary_aux(labels: Vec<StoreConfig>, shape: &Shape, cache_dir: &Path) -> Result<Vec<u8>> {
    let tree_nodes = |leaves: u64, arity: u64| (arity * leaves - 1) / (arity - 1);
    let config = |key: CacheKey, nodes: u64, rows_to_discard: u32| -> Result<StoreConfig> {
        Ok(StoreConfig {
            path: cache_dir.to_owned(),
            id: key.to_string(),
            size: Some(nodes.try_into()?),
            rows_to_discard: rows_to_discard.try_into()?,
        })
    };
    let base = tree_nodes(shape.base_nodes(), TREE_ARITY);
    let aux = Aux {
        labels: stacked::Labels::new(labels),
        tree_d_config: config(CacheKey::CommDTree, tree_nodes(shape.nodes, 2), 0)?,
        tree_r_last_config: config(CacheKey::CommRLastTree, base, shape.rows_to_discard)?,
        tree_c_config: config(CacheKey::CommCTree, base, 0)?,
        _g: PhantomData,
    };
    bincode::serialize(&aux).context("t_aux")
}

/// Rows that the files of tree_r_last leave out, as `t_aux` says.
pub fn rows_to_discard(t_aux: &[u8]) -> Result<u32> {
    let aux: Aux = bincode::deserialize(t_aux).context("t_aux")?;
    Ok(aux.tree_r_last_config.rows_to_discard.try_into()?)
}

/// The layers as PC1 described them, in `cache_dir`.
fn label_configs(labels: &Labels, cache_dir: &Path) -> Vec<StoreConfig> {
    let configs = match labels {
        Labels::StackedDrg2KiBV1(labels) => &labels.labels,
        Labels::StackedDrg8MiBV1(labels) => &labels.labels,
        Labels::StackedDrg512MiBV1(labels) => &labels.labels,
        Labels::StackedDrg32GiBV1(labels) => &labels.labels,
        Labels::StackedDrg64GiBV1(labels) => &labels.labels,
    };
    let here = |config: &StoreConfig| StoreConfig {
        path: cache_dir.to_owned(),
        ..config.clone()
    };
    configs.iter().map(here).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use filecoin_hashers::poseidon::PoseidonHasher;
    use filecoin_hashers::sha256::Sha256Hasher;
    use filecoin_hashers::{Domain, Hasher, PoseidonArity};
    use storage_proofs_core::api_version::ApiVersion;
    use storage_proofs_core::drgraph::BASE_DEGREE;
    use storage_proofs_core::merkle::{get_base_tree_count, LCTree};
    use storage_proofs_core::proof::ProofScheme;
    use storage_proofs_porep::stacked::{Challenges, SetupParams, StackedDrg, EXP_DEGREE};
    use typenum::{U0, U2, U8};

    use super::*;

    const BASE_NODES: usize = 64;
    const LAYERS: usize = 11;

    /// Seals zeros with the library, and compares its aux files with ours of the same commitments.
    fn same_as_the_library<Sub: 'static + PoseidonArity, Top: 'static + PoseidonArity>() {
        type Drg<'a, Sub, Top> = StackedDrg<'a, LCTree<PoseidonHasher, U8, Sub, Top>, Sha256Hasher>;
        let nodes = BASE_NODES * get_base_tree_count::<LCTree<PoseidonHasher, U8, Sub, Top>>();
        let parameters = Drg::<Sub, Top>::setup(&SetupParams {
            nodes,
            degree: BASE_DEGREE,
            expansion_degree: EXP_DEGREE,
            porep_id: [5; 32],
            challenges: Challenges::new_interactive(1),
            num_layers: LAYERS,
            api_version: ApiVersion::V1_2_0,
            api_features: vec![],
        })
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path();
        let replica = cache.join("replica");
        let mut data = vec![0; nodes * 32];
        fs::write(&replica, &data).unwrap();
        let id = <PoseidonHasher as Hasher>::Domain::try_from_bytes(&[1; 32]).unwrap();
        let (labels, _) = Drg::<Sub, Top>::replicate_phase1(&parameters, &id, cache).unwrap();
        let configs = labels.labels.clone();
        let (tau, (p_aux, t_aux)) = Drg::<Sub, Top>::replicate_phase2(
            &parameters,
            labels,
            data.as_mut_slice().into(),
            None,
            cache.to_owned(),
            replica,
        )
        .unwrap();

        let shape = Shape {
            nodes: nodes as u64,
            layers: LAYERS as u32,
            sub_arity: Sub::U64,
            top_arity: Top::U64,
            rows_to_discard: default_rows_to_discard(BASE_NODES, 8) as u32,
        };
        let commitments = Commitments {
            comm_c: p_aux.comm_c.into(),
            comm_r_last: p_aux.comm_r_last.into(),
            comm_r: tau.comm_r.into(),
        };
        let expected = bincode::serialize(&t_aux).unwrap();
        assert!(temporary_aux(configs, &shape, cache).unwrap() == expected);
        assert_eq!(rows_to_discard(&expected).unwrap(), shape.rows_to_discard);
        assert!(persistent_aux(&commitments) == bincode::serialize(&p_aux).unwrap());
    }

    #[test]
    fn aux_files_are_the_librarys_also_in_the_forms_of_32_and_64_gib() {
        same_as_the_library::<U0, U0>();
        same_as_the_library::<U8, U0>();
        same_as_the_library::<U8, U2>();
    }
}
