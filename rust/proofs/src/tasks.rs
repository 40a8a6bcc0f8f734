//! Tasks of the stages, as JSON: the field names of the external-processor protocol, plus the tasks
//! of the stages that have no external processor (`SynthProof`, `C1`, `VerifySeal`, `ClearCache`,
//! `SnapVanilla`, `VerifySnap`, `SnapDecode`, `VerifyPoSt`).
//!
//! 32-byte values are arrays of integers, PoSt proofs are base64. Unknown fields are ignored, as the
//! protocol asks.

use std::path::PathBuf;

use filecoin_proofs_api::seal::{
    SealCommitPhase1Output, SealPreCommitPhase1Output, SealPreCommitPhase2Output,
};
use filecoin_proofs_api::{Commitment, PieceInfo, ProverId, RegisteredSealProof, Ticket};
use serde::{Deserialize, Serialize};

mod fields;
mod post;
mod update;

use fields::named;

pub use post::{PoSt, PublicReplica, Replica, VerifyPoSt, WindowPoStOutput, WinningPoStOutput};
pub use update::{
    SealedEmpty, SnapDecode, SnapEncode, SnapEncodeOutput, SnapProve, SnapVanilla, Unseal,
    UpdateKey, VerifySnap,
};

/// Where the payload of a piece comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PieceFile {
    /// Fetched over HTTP; whoever runs the stage opens it first and passes an `Fd`.
    Url(String),
    /// A file of this machine.
    Local(PathBuf),
    /// An open descriptor of this process, in blocking mode. It is read from its current position
    /// and stays open. Never sent to another process.
    Fd(i32),
    /// No payload: zeros.
    Pledge,
}

/// A piece to be added: `payload_size` bytes of data, then zeros up to `piece_size`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PieceSource {
    pub piece_file: PieceFile,
    /// Unpadded bytes.
    pub payload_size: u64,
    /// Unpadded bytes: 127 · 2ⁿ.
    pub piece_size: u64,
}

/// Output: the piece infos, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddPieces {
    pub seal_proof_type: RegisteredSealProof,
    pub pieces: Vec<PieceSource>,
    pub staged_filepath: PathBuf,
}

/// Output: `true`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TreeD {
    pub registered_proof: RegisteredSealProof,
    pub staged_file: PathBuf,
    pub cache_dir: PathBuf,
}

/// Output: [`SealPreCommitPhase1Output`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PC1 {
    pub registered_proof: RegisteredSealProof,
    pub cache_path: PathBuf,
    /// The staged file.
    pub in_path: PathBuf,
    /// The sealed file; created if it isn't there.
    pub out_path: PathBuf,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    #[serde(deserialize_with = "named::ticket")]
    pub ticket: Ticket,
    pub piece_infos: Vec<PieceInfo>,
    /// Not of the protocol: the sealed file needs the sector's size only. PC2 of this program takes the data
    /// from tree_d; whoever gives the task sees to it that a PC2 that encodes in place gets a copy.
    #[serde(default)]
    pub empty_sealed_file: bool,
}

/// Output: [`SealPreCommitPhase2Output`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PC2 {
    pub pc1out: SealPreCommitPhase1Output,
    pub cache_dir: PathBuf,
    pub sealed_file: PathBuf,
}

/// Output: `true`; the proofs are in the cache directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SynthProof {
    pub cache_path: PathBuf,
    pub replica_path: PathBuf,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    #[serde(deserialize_with = "named::ticket")]
    pub ticket: Ticket,
    pub pc2out: SealPreCommitPhase2Output,
    pub piece_infos: Vec<PieceInfo>,
}

/// Output: [`SealCommitPhase1Output`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct C1 {
    pub cache_path: PathBuf,
    pub replica_path: PathBuf,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    #[serde(deserialize_with = "named::ticket")]
    pub ticket: Ticket,
    #[serde(deserialize_with = "named::seed")]
    pub seed: Ticket,
    pub pc2out: SealPreCommitPhase2Output,
    pub piece_infos: Vec<PieceInfo>,
}

/// Output: `{"proof": [..]}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct C2 {
    pub c1out: SealCommitPhase1Output,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    /// Actor id of the miner; the proof doesn't need it.
    pub miner_id: u64,
}

/// Output: whether the proof holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifySeal {
    pub registered_proof: RegisteredSealProof,
    #[serde(deserialize_with = "named::comm_r")]
    pub comm_r: Commitment,
    #[serde(deserialize_with = "named::comm_d")]
    pub comm_d: Commitment,
    #[serde(deserialize_with = "named::prover_id")]
    pub prover_id: ProverId,
    pub sector_id: u64,
    #[serde(deserialize_with = "named::ticket")]
    pub ticket: Ticket,
    #[serde(deserialize_with = "named::seed")]
    pub seed: Ticket,
    pub proof: Vec<u8>,
}

/// No output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClearCache {
    pub registered_proof: RegisteredSealProof,
    pub cache_path: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_sources_are_spelt_as_in_the_protocol() {
        let spelt = |file: &PieceFile| serde_json::to_string(file).unwrap();
        assert_eq!(spelt(&PieceFile::Pledge), r#""pledge""#);
        assert_eq!(spelt(&PieceFile::Local("/p".into())), r#"{"local":"/p"}"#);
        assert_eq!(
            spelt(&PieceFile::Url("http://m/p".into())),
            r#"{"url":"http://m/p"}"#
        );
        let fd: PieceFile = serde_json::from_str(r#"{"fd":7}"#).unwrap();
        assert_eq!(fd, PieceFile::Fd(7));
    }

    #[test]
    fn a_short_ticket_is_named_with_both_lengths() {
        let task = format!(
            r#"{{"registered_proof":"StackedDrg2KiBV1_1","cache_path":"/c","in_path":"/i","out_path":"/o",
               "prover_id":{:?},"sector_id":1,"ticket":[1,2,3],"piece_infos":[]}}"#,
            [0u8; 32]
        );
        let error = serde_json::from_str::<PC1>(&task).unwrap_err().to_string();
        assert!(
            error.starts_with("ticket: 3 bytes found, 32 expected"),
            "{error}"
        );
    }
}
