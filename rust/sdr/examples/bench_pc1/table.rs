//! The table: medians of all rounds, and ratios to a reference row of the same round.

use crate::clock::Measured;

pub struct Row {
    name: String,
    /// Why it may not have been measured.
    unless: &'static str,
    /// One value per round; none if it could not be measured.
    pub values: Vec<Measured>,
}

impl Row {
    pub fn new(name: &str, unless: &'static str) -> Self {
        Row {
            name: name.to_owned(),
            unless,
            values: Vec::new(),
        }
    }

    /// The median speed; 0 if there is none.
    pub fn median(&self) -> f64 {
        let speeds = self.speeds();
        if speeds.is_empty() {
            0.0
        } else {
            median(&speeds)
        }
    }

    /// The median of the ratios to another row, each of the same round; none if there is none.
    pub fn ratio(&self, to: &Row) -> Option<f64> {
        let ratios: Vec<f64> = self
            .speeds()
            .iter()
            .zip(&to.speeds())
            .map(|(speed, to)| speed / to)
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    fn speeds(&self) -> Vec<f64> {
        self.values
            .iter()
            .map(|value| value.labels_per_second)
            .collect()
    }
}

/// Prints `rows`, with ratios to `rows[reference]`.
pub fn print(rows: &[Row], reference: usize) {
    println!("| what, on one core | labels/s (median) | range | cycles per label | ratio to (a) |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let speeds = row.speeds();
        if speeds.is_empty() {
            println!("| {} | not measured: {} | | | |", row.name, row.unless);
            continue;
        }
        let cycles: Option<Vec<f64>> = row
            .values
            .iter()
            .map(|value| value.cycles_per_label)
            .collect();
        let cycles = cycles.map_or_else(
            || "not counted".to_owned(),
            |cycles| format!("{:.0}", median(&cycles)),
        );
        let ratio = row
            .ratio(&rows[reference])
            .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!(
            "| {} | {:.3} M | {:.3} - {:.3} M | {cycles} | {ratio} |",
            row.name,
            median(&speeds) / 1e6,
            speeds.iter().copied().fold(f64::INFINITY, f64::min) / 1e6,
            speeds.iter().copied().fold(0.0, f64::max) / 1e6,
        );
    }
}

/// Prints a chart (Mermaid, which Markdown viewers draw) of speed against number of lanes.
pub fn chart(size: &str, rows: &[(usize, &Row)]) {
    let measured = rows.iter().filter(|(_, row)| !row.values.is_empty());
    let (lanes, speeds): (Vec<_>, Vec<_>) = measured
        .map(|(lanes, row)| {
            let speed = median(&row.speeds()) / 1e6;
            (lanes.to_string(), format!("{speed:.3}"))
        })
        .unzip();
    println!();
    println!("```mermaid");
    println!("xychart-beta");
    println!("    title \"Million labels per second per core, {size} sector\"");
    println!("    x-axis \"lanes\" [{}]", lanes.join(", "));
    println!("    y-axis \"million labels per second\" 0 --> 4");
    println!("    bar [{}]", speeds.join(", "));
    println!("```");
    println!();
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
