//! A sector sealed in a temporary directory, stage by stage.

use std::fs;
use std::path::PathBuf;

use filecoin_proofs_api::RegisteredSealProof;
use proofs::tasks::{AddPieces, PieceFile, PieceSource, SynthProof, TreeD, C1, PC1, PC2};
use proofs::{
    Control, PieceInfo, SealCommitPhase1Output, SealPreCommitPhase1Output,
    SealPreCommitPhase2Output,
};
use tempfile::TempDir;

pub const PROVER_ID: [u8; 32] = {
    let mut id = [0u8; 32];
    id[0] = 144;
    id[1] = 78;
    id
};
pub const TICKET: [u8; 32] = [1; 32];
pub const SEED: [u8; 32] = [5; 32];
pub const SECTOR_ID: u64 = 7;

pub struct Sector {
    pub proof: RegisteredSealProof,
    pub dir: TempDir,
}

impl Sector {
    pub fn new(proof: RegisteredSealProof) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        Sector { proof, dir }
    }

    pub fn size(&self) -> u64 {
        self.proof.sector_size().into()
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub fn staged(&self) -> PathBuf {
        self.dir.path().join("staged")
    }

    pub fn sealed(&self) -> PathBuf {
        self.dir.path().join("sealed")
    }

    /// Writes `data` beside the sector and describes it as a piece.
    pub fn piece(&self, name: &str, data: &[u8], piece_size: u64) -> PieceSource {
        let path = self.dir.path().join(name);
        fs::write(&path, data).unwrap();
        PieceSource {
            piece_file: PieceFile::Local(path),
            payload_size: data.len() as u64,
            piece_size,
        }
    }

    pub fn add_pieces_task(&self, pieces: Vec<PieceSource>) -> AddPieces {
        AddPieces {
            seal_proof_type: self.proof,
            pieces,
            staged_filepath: self.staged(),
        }
    }

    pub fn add_pieces(&self, pieces: Vec<PieceSource>) -> Vec<PieceInfo> {
        proofs::add_pieces(&self.add_pieces_task(pieces), &mut Control::none()).unwrap()
    }

    pub fn tree_d_task(&self) -> TreeD {
        TreeD {
            registered_proof: self.proof,
            staged_file: self.staged(),
            cache_dir: self.cache(),
        }
    }

    pub fn tree_d(&self) {
        proofs::tree_d(&self.tree_d_task(), &mut Control::none()).unwrap();
    }

    pub fn pc1_task(&self, piece_infos: &[PieceInfo]) -> PC1 {
        PC1 {
            registered_proof: self.proof,
            cache_path: self.cache(),
            in_path: self.staged(),
            out_path: self.sealed(),
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            ticket: TICKET,
            piece_infos: piece_infos.to_vec(),
            empty_sealed_file: false,
        }
    }

    pub fn pc1(&self, piece_infos: &[PieceInfo]) -> SealPreCommitPhase1Output {
        proofs::pc1(self.pc1_task(piece_infos), &mut Control::none()).unwrap()
    }

    pub fn pc2_task(&self, pc1out: SealPreCommitPhase1Output) -> PC2 {
        PC2 {
            pc1out,
            cache_dir: self.cache(),
            sealed_file: self.sealed(),
        }
    }

    pub fn pc2(&self, pc1out: SealPreCommitPhase1Output) -> SealPreCommitPhase2Output {
        proofs::pc2(self.pc2_task(pc1out), &mut Control::none()).unwrap()
    }

    pub fn synth_proof(&self, pc2out: &SealPreCommitPhase2Output, piece_infos: &[PieceInfo]) {
        let task = SynthProof {
            cache_path: self.cache(),
            replica_path: self.sealed(),
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            ticket: TICKET,
            pc2out: pc2out.clone(),
            piece_infos: piece_infos.to_vec(),
        };
        proofs::synth_proof(task, &mut Control::none()).unwrap();
    }

    pub fn c1_task(&self, pc2out: &SealPreCommitPhase2Output, piece_infos: &[PieceInfo]) -> C1 {
        C1 {
            cache_path: self.cache(),
            replica_path: self.sealed(),
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            ticket: TICKET,
            seed: SEED,
            pc2out: pc2out.clone(),
            piece_infos: piece_infos.to_vec(),
        }
    }

    pub fn c1(
        &self,
        pc2out: &SealPreCommitPhase2Output,
        piece_infos: &[PieceInfo],
    ) -> SealCommitPhase1Output {
        proofs::c1(self.c1_task(pc2out, piece_infos), &mut Control::none()).unwrap()
    }

    /// The whole way to C1; C1 checks its vanilla proofs against comm_d and comm_r.
    pub fn seal(&self, pieces: Vec<PieceSource>) -> (Vec<PieceInfo>, SealCommitPhase1Output) {
        let infos = self.add_pieces(pieces);
        self.tree_d();
        let pc2out = self.pc2(self.pc1(&infos));
        let c1out = self.c1(&pc2out, &infos);
        (infos, c1out)
    }
}

/// Bytes without a pattern that padding or hashing could hide.
pub fn payload(length: usize, start: u64) -> Vec<u8> {
    let mut state = start;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}
