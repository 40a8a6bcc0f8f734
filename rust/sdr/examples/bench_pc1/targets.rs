//! What the engine is to reach, and whether it did.

use crate::table::Row;
use crate::whole::Whole;

/// Sectors up to this size have targets that memory has no part in.
const IN_CACHES: u64 = 8 << 20;

/// Rows to compare.
pub struct Rows<'a> {
    /// The crate's single-core path with SHA flags.
    pub reference: &'a Row,
    /// This engine with one lane, with two, and with any number.
    pub one: &'a Row,
    pub two: Option<&'a Row>,
    pub all: &'a [Row],
    /// The raw limit of two streams.
    pub limit: &'a Row,
}

/// Prints the targets of a sector size: for one lane and for the best number of lanes, each as a multiple
/// of the reference, and those of every size.
pub fn print(size: u64, of_one: f64, of_best: f64, rows: &Rows<'_>, whole: &[Whole]) {
    let best = rows
        .all
        .iter()
        .max_by(|a, b| a.median().total_cmp(&b.median()));
    println!("| target | found | |");
    println!("|---|---|---|");
    if let Some(found) = rows.one.ratio(rows.reference) {
        at_least("1 lane against (a)", found, of_one);
    }
    if let Some(found) = best.and_then(|best| best.ratio(rows.reference)) {
        at_least("best number of lanes against (a)", found, of_best);
    }
    if let Some(found) = rows.two.and_then(|two| two.ratio(rows.one)) {
        let slower = 100.0 * (1.0 - found / 2.0);
        // Where labels lie in the caches; beyond that it is the memory that is shared.
        if size <= IN_CACHES {
            at_most("each of two lanes slower than one alone", slower, 15.0, "%");
        } else {
            println!("| each of two lanes slower than one alone | {slower:.1}% | no target |");
        }
    }
    if let Some(found) = best.and_then(|best| best.ratio(rows.limit)) {
        at_least("best number of lanes against (d), two streams", found, 0.9);
    }
    let mut beside: Vec<_> = whole
        .iter()
        .map(|whole| 1.0 - whole.hashing / whole.wall)
        .collect();
    beside.sort_by(f64::total_cmp);
    if let Some(median) = beside.get(beside.len() / 2) {
        at_most("time of PC1 beside hashing", 100.0 * median, 2.0, "%");
    }
    if let Some(found) = whole.iter().map(|whole| whole.memory).max() {
        let mebibytes = |bytes: u64| (bytes >> 20) as f64;
        let most = mebibytes(2 * size + (64 << 20));
        at_most(
            "anonymous and huge-page memory",
            mebibytes(found),
            most,
            " MiB",
        );
    }
    println!();
}

fn at_least(what: &str, found: f64, target: f64) {
    println!(
        "| {what}: at least {target} | {found:.2} | {} |",
        verdict(found >= target)
    );
}

fn at_most(what: &str, found: f64, target: f64, unit: &str) {
    println!(
        "| {what}: at most {target}{unit} | {found:.1}{unit} | {} |",
        verdict(found <= target)
    );
}

fn verdict(met: bool) -> &'static str {
    if met {
        "met"
    } else {
        "not met"
    }
}
