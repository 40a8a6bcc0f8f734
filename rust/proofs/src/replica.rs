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

/// Numbers of the errors with which the system says that the machine or the way to a file, not the replica, is
/// short of something. Input/output errors are not among them: a bad block makes one replica faulty, and must not
/// keep the others from being proven.
const NOT_THE_REPLICA: [u32; 12] = [
    // Not permitted, no such device or address, out of memory, permission denied, no such device, too many open
    // files of all and of this process.
    1, 6, 12, 13, 19, 23, 24,
    // Of file systems on other hosts: not connected, timed out, host down, no route, stale handle.
    107, 110, 112, 113, 116,
];

/// Whether a text, in which the libraries pass errors on and panic, is of one of [`NOT_THE_REPLICA`].
fn says_nothing_of_the_replica(text: &str) -> bool {
    let shown = |code: &u32| {
        text.contains(&format!("(os error {code})")) || text.contains(&format!("code: {code},"))
    };
    text.contains("memory allocation of") || NOT_THE_REPLICA.iter().any(shown)
}

/// A replica and the leaves it is asked for.
pub struct Challenged<'a> {
    pub proof_type: RegisteredPoStProof,
    pub challenges: &'a [u64],
    pub replica: &'a Replica,
}

impl Challenged<'_> {
    /// Proves the replica. An error is one of the machine or of the way to the file, about which nothing
    /// follows for the replica.
    pub fn prove(&self) -> Result<Outcome> {
        match guarded(|| self.vanilla_proof()) {
            Ok(proof) => Ok(Ok(proof)),
            Err(error) => {
                let fault = one_line(&error);
                if says_nothing_of_the_replica(&fault) {
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
        hex::encode(found),
        hex::encode(comm_r)
    );
    Ok(())
}
