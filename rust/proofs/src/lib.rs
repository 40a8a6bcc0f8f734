//! Façade over `filecoin-proofs-api`: one typed function per stage of sealing, upgrading, unsealing
//! and proving, for the five sector sizes and every published proof type.
//!
//! A stage takes a task of [`tasks`] and returns an output whose JSON is the one of the
//! external-processor protocol. A stage checks its input files before the library sees them, so
//! that an error names the path, what was found and what was expected; a panic inside the library
//! becomes an error (see [`failure::guarded`]); and what a stage wrote is on the disk (fsync) when
//! it returns. Every function may be called from any thread, many at a time.
//!
//! Sizes are bytes. *Unpadded* bytes are a client's data, *padded* bytes are those of a sector
//! after fr32 bit padding: 127 unpadded bytes are 128 padded ones.

mod add_pieces;
mod cache;
mod chunks;
mod commit;
mod direct;
mod durable;
mod engine_choice;
mod fr32;
mod labelling;
mod merkle;
mod parents;
mod pieces;
mod post;
mod precommit;
mod range;
mod replica;
mod replication;
mod sector;
mod snap;
mod snap_decode;
mod snap_encode;
mod snark;
mod tree_d;
mod unseal;

pub mod control;
pub mod failure;
pub mod tasks;

pub use add_pieces::{add_pieces, piece_commitment};
pub use cache::clear_cache;
pub use commit::{c1, c2, synth_proof, verify_seal};
pub use control::Control;
pub use filecoin_proofs_api::seal::{
    SealCommitPhase1Output, SealCommitPhase2Output, SealPreCommitPhase1Output,
    SealPreCommitPhase2Output,
};
pub use filecoin_proofs_api::{
    Commitment, PieceInfo, RegisteredPoStProof, RegisteredSealProof, RegisteredUpdateProof,
    UnpaddedBytesAmount,
};
pub use labelling::parents_cache;
pub use merkle::zero_commitment;
pub use parents::{look_at_parents_cache, ParentsCacheCheck, ParentsCacheFile};
pub use pieces::data_commitment;
pub use post::{verify_window_post, verify_winning_post, window_post, winning_post};
pub use precommit::{pc1, pc2};
pub use snap::{snap_prove, snap_vanilla, verify_snap};
pub use snap_decode::snap_decode;
pub use snap_encode::snap_encode;
pub use tree_d::{static_tree_d, tree_d};
pub use unseal::unseal;
