//! Tasks of proofs of spacetime.

use std::path::PathBuf;

use filecoin_proofs_api::{ChallengeSeed, Commitment, RegisteredPoStProof};
use serde::{Deserialize, Serialize};

use super::fields::{base64_list, named};

/// A sector to be proven by a PoSt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replica {
    pub sector_id: u64,
    #[serde(deserialize_with = "named::comm_r")]
    pub comm_r: Commitment,
    /// Holds `p_aux` and tree_r_last.
    pub cache_dir: PathBuf,
    pub sealed_file: PathBuf,
}

/// Task of window PoSt and winning PoSt. Output: [`WindowPoStOutput`], [`WinningPoStOutput`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoSt {
    pub miner_id: u64,
    pub proof_type: RegisteredPoStProof,
    pub replicas: Vec<Replica>,
    #[serde(deserialize_with = "named::seed")]
    pub seed: ChallengeSeed,
}

/// Either `faults` is empty or `proofs` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowPoStOutput {
    #[serde(with = "base64_list")]
    pub proofs: Vec<Vec<u8>>,
    /// Numbers of the sectors that can't be proven, ascending.
    pub faults: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WinningPoStOutput {
    #[serde(with = "base64_list")]
    pub proofs: Vec<Vec<u8>>,
}

/// A sector whose proof is verified. The paths of a [`Replica`] may stand in its JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicReplica {
    pub sector_id: u64,
    #[serde(deserialize_with = "named::comm_r")]
    pub comm_r: Commitment,
}

/// Output: whether the proof holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyPoSt {
    pub miner_id: u64,
    pub proof_type: RegisteredPoStProof,
    pub replicas: Vec<PublicReplica>,
    #[serde(deserialize_with = "named::seed")]
    pub seed: ChallengeSeed,
    #[serde(with = "base64_list")]
    pub proofs: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_of_a_post_are_base64() {
        let text = r#"{"proofs":["AAEC","/w=="],"faults":[]}"#;
        let output = WindowPoStOutput {
            proofs: vec![vec![0, 1, 2], vec![255]],
            faults: vec![],
        };
        assert_eq!(serde_json::to_string(&output).unwrap(), text);
        let read: WindowPoStOutput = serde_json::from_str(text).unwrap();
        assert_eq!(read, output);
        let bad = serde_json::from_str::<WinningPoStOutput>(r#"{"proofs":["AAEC","%"]}"#);
        let error = bad.unwrap_err().to_string();
        assert!(error.starts_with("proofs[1]: "), "{error}");
    }
}
