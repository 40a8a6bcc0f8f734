//! The vanilla proof of one replica, or why it is a fault.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use filecoin_hashers::{Domain, HashFunction, Hasher};
use filecoin_proofs::constants::{DefaultTreeDomain, DefaultTreeHasher};
use filecoin_proofs_api::post::generate_single_vanilla_proof;
use filecoin_proofs_api::{Commitment, PrivateReplicaInfo, RegisteredPoStProof};

use crate::cache::require_tree_r_last;
use crate::failure::{guarded, one_line};
use crate::merkle::NODE;
use crate::sector::{require_dir, require_size, AUX_FILES};
use crate::tasks::Replica;

/// The vanilla proof (opaque bytes), or the fault in words.
pub type Outcome = std::result::Result<Vec<u8>, String>;

/// What the system says when the machine, not the replica, is short of something. The libraries pass
/// such errors on as text, in panics too.
const SHORTAGES: [&str; 3] = [
    "Too many open files",
    "Cannot allocate memory",
    "memory allocation of",
];

/// A replica and the leaves it is asked for.
pub struct Challenged<'a> {
    pub proof_type: RegisteredPoStProof,
    pub challenges: &'a [u64],
    pub replica: &'a Replica,
}

impl Challenged<'_> {
    /// Proves the replica. An error is a shortage of the machine, about which nothing follows for
    /// the replica.
    pub fn prove(&self) -> Result<Outcome> {
        match guarded(|| self.vanilla_proof()) {
            Ok(proof) => Ok(Ok(proof)),
            Err(error) => {
                let fault = one_line(&error);
                if SHORTAGES.iter().any(|shortage| fault.contains(shortage)) {
                    return Err(error.context(format!("sector {}", self.replica.sector_id)));
                }
                Ok(Err(fault))
            }
        }
    }

    fn vanilla_proof(&self) -> Result<Vec<u8>> {
        let replica = self.replica;
        let sector_size = self.proof_type.sector_size().into();
        require_size("sealed file", &replica.sealed_file, sector_size)?;
        require_dir("cache directory", &replica.cache_dir)?;
        require_tree_r_last(&replica.cache_dir, sector_size)?;
        require_comm_r(&replica.cache_dir, &replica.comm_r)?;
        let info = PrivateReplicaInfo::new(
            self.proof_type,
            replica.comm_r,
            replica.cache_dir.clone(),
            replica.sealed_file.clone(),
        );
        generate_single_vanilla_proof(
            self.proof_type,
            replica.sector_id.into(),
            &info,
            self.challenges,
        )
        .with_context(|| {
            format!(
                "{} with the trees in {}",
                replica.sealed_file.display(),
                replica.cache_dir.display()
            )
        })
    }
}

/// Fails unless `p_aux` is that of `comm_r`, which is the hash of the two commitments in it: comm_c,
/// comm_r_last. The library compares comm_r_last with the tree only.
fn require_comm_r(cache_dir: &Path, comm_r: &Commitment) -> Result<()> {
    let path = cache_dir.join(AUX_FILES[0]);
    let aux = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        aux.len() == 2 * NODE,
        "{}: {} bytes found, {} expected",
        path.display(),
        aux.len(),
        2 * NODE
    );
    let comm_c = DefaultTreeDomain::try_from_bytes(&aux[..NODE])?;
    let comm_r_last = DefaultTreeDomain::try_from_bytes(&aux[NODE..])?;
    let found = <DefaultTreeHasher as Hasher>::Function::hash2(&comm_c, &comm_r_last);
    let found: &[u8] = found.as_ref();
    ensure!(
        found == comm_r,
        "{}: is that of comm_r {}, {} expected",
        path.display(),
        hex(found),
        hex(comm_r)
    );
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
