//! The stages on real sectors of 2 KiB and 8 MiB. C2 and the SNARK of an upgrade are not computed: they
//! take minutes. Proofs of spacetime are.

mod encoding;
mod files;
mod json;
mod labelling;
mod parameters;
mod post;
mod replication;
mod sealing;
mod sector;
mod unsealing;
mod upgrade;
