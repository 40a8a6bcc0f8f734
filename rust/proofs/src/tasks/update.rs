//! Tasks of upgrading a sector and of reading sectors back.

use std::path::PathBuf;

use filecoin_proofs_api::{
    Commitment, PieceInfo, ProverId, RegisteredSealProof, RegisteredUpdateProof, Ticket,
};
use serde::{Deserialize, Serialize};

use super::fields::named;

/// Output: [`SnapEncodeOutput`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapEncode {
    pub registered_proof: RegisteredUpdateProof,
    /// The update file; created, or truncated, at the sector's size.
    pub new_replica_path: PathBuf,
    /// The update-cache directory.
    pub new_cache_path: PathBuf,
    /// The sealed file of the sector without data: the key.
    pub sector_path: PathBuf,
    pub sector_cache_path: PathBuf,
    pub staged_data_path: PathBuf,
    pub piece_infos: Vec<PieceInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapEncodeOutput {
    pub comm_r_new: Commitment,
    pub comm_r_last_new: Commitment,
    pub comm_d_new: Commitment,
}

/// Output: one vanilla proof per partition, opaque bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapVanilla {
    pub registered_proof: RegisteredUpdateProof,
    #[serde(deserialize_with = "named::comm_r_old")]
    pub comm_r_old: Commitment,
    #[serde(deserialize_with = "named::comm_r_new")]
    pub comm_r_new: Commitment,
    #[serde(deserialize_with = "named::comm_d_new")]
    pub comm_d_new: Commitment,
    pub sector_path: PathBuf,
    pub sector_cache_path: PathBuf,
    pub new_replica_path: PathBuf,
    pub new_cache_path: PathBuf,
}

/// Output: the bytes of the proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapProve {
    pub registered_proof: RegisteredUpdateProof,
    /// The output of [`SnapVanilla`]; the protocol spells it so.
    pub vannilla_proofs: Vec<Vec<u8>>,
    #[serde(deserialize_with = "named::comm_r_old")]
    pub comm_r_old: Commitment,
    #[serde(deserialize_with = "named::comm_r_new")]
    pub comm_r_new: Commitment,
    #[serde(deserialize_with = "named::comm_d_new")]
    pub comm_d_new: Commitment,
}

/// Output: whether the proof holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifySnap {
    pub registered_proof: RegisteredUpdateProof,
    pub proof: Vec<u8>,
    #[serde(deserialize_with = "named::comm_r_old")]
    pub comm_r_old: Commitment,
    #[serde(deserialize_with = "named::comm_r_new")]
    pub comm_r_new: Commitment,
    #[serde(deserialize_with = "named::comm_d_new")]
    pub comm_d_new: Commitment,
}

/// Output: bytes written, `num_bytes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unseal {
    /// The type the sector was sealed with, feature included: its replica id depends on it.
    pub registered_proof: RegisteredSealProof,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    #[serde(deserialize_with = "named::comm_d")]
    pub comm_d: Commitment,
    #[serde(deserialize_with = "named::ticket")]
    pub ticket: Ticket,
    /// The sector's cache directory. Nothing is read from it and nothing is written to it.
    pub cache_dir: PathBuf,
    pub sealed_file: PathBuf,
    pub unsealed_output: PathBuf,
    /// First byte of the range, in unpadded bytes.
    pub offset: u64,
    /// Unpadded bytes.
    pub num_bytes: u64,
}

/// Where the key of an upgrade comes from: the replica of the sector without data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateKey {
    /// The sealed file from before the upgrade.
    SealedFile(PathBuf),
    /// It is computed again, in memory, from what the sector was sealed with.
    Sealed(SealedEmpty),
}

/// What a sector without data was sealed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SealedEmpty {
    /// The seal proof type, feature included.
    pub registered_proof: RegisteredSealProof,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    #[serde(deserialize_with = "named::ticket")]
    pub ticket: Ticket,
}

/// Output: bytes written, `num_bytes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapDecode {
    pub registered_proof: RegisteredUpdateProof,
    /// The update file.
    pub new_replica_path: PathBuf,
    /// The key.
    pub key: UpdateKey,
    #[serde(deserialize_with = "named::comm_r_old")]
    pub comm_r_old: Commitment,
    #[serde(deserialize_with = "named::comm_d_new")]
    pub comm_d_new: Commitment,
    pub unsealed_output: PathBuf,
    /// First byte of the range, in unpadded bytes.
    pub offset: u64,
    /// Unpadded bytes.
    pub num_bytes: u64,
}
