//! TOML text to a tree of plain Python values in which every key and value knows its position.
//!
//! A node is the tuple `(kind, line, column, value)`. `kind` is one of `string`, `integer`, `float`,
//! `boolean`, `datetime`, `array` and `table`; an array's value is a list of nodes, a table's a list
//! of `(key, line, column, node)` in the order of the file. Lines and columns start at 1; columns
//! count characters.

use ::toml::de::{DeTable, DeValue};
use ::toml::Spanned;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(parse_toml, module)?)
}

/// Line, column and message of a syntax error.
type SyntaxError = (usize, usize, String);

/// Parses `text` as far as it can be understood.
///
/// Returns the root table's node and all syntax errors in the order of the file. What stands where an
/// error was found is left out or guessed, so a tree that comes with errors is only good for looking
/// for more of them.
#[pyfunction]
pub fn parse_toml(py: Python<'_>, text: &str) -> PyResult<(Py<PyAny>, Vec<SyntaxError>)> {
    let (root, failures) = DeTable::parse_recoverable(text);
    let mut tree = Tree {
        positions: Positions::new(text),
        errors: Vec::new(),
    };
    for failure in &failures {
        let span = failure.span().unwrap_or_default();
        let mut message = failure.message().to_owned();
        if message == "duplicate key" {
            message = format!(
                "duplicate key `{}`",
                text.get(span.clone()).unwrap_or_default()
            );
        }
        tree.errors.push((span.start, message));
    }
    let start = root.span().start;
    let entries = tree.entries(py, root.get_ref())?;
    let node = tree.node(py, "table", start, entries.into_any())?;
    tree.errors.sort_by_key(|(offset, _)| *offset);
    let errors = tree
        .errors
        .iter()
        .map(|(offset, message)| {
            let (line, column) = tree.positions.of(*offset);
            (line, column, message.clone())
        })
        .collect();
    Ok((node.into_any().unbind(), errors))
}

struct Tree<'t> {
    positions: Positions<'t>,
    /// Byte offset and message.
    errors: Vec<(usize, String)>,
}

impl Tree<'_> {
    fn node<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        start: usize,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (line, column) = self.positions.of(start);
        (kind, line, column, value).into_pyobject(py)
    }

    fn entries<'py>(
        &mut self,
        py: Python<'py>,
        table: &DeTable<'_>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let list = PyList::empty(py);
        for (key, value) in entries {
            let (line, column) = self.positions.of(key.span().start);
            list.append((key.get_ref().as_ref(), line, column, self.value(py, value)?))?;
        }
        Ok(list)
    }

    fn value<'py>(
        &mut self,
        py: Python<'py>,
        value: &Spanned<DeValue<'_>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let start = value.span().start;
        let (kind, plain) = match value.get_ref() {
            DeValue::String(text) => ("string", text.as_ref().into_pyobject(py)?.into_any()),
            DeValue::Integer(number) => {
                // TOML promises 64 signed bits; a larger literal has no value to go on with.
                let parsed =
                    i64::from_str_radix(number.as_str(), number.radix()).unwrap_or_else(|_| {
                        let message = format!("the integer {number} does not fit in 64 bits");
                        self.errors.push((start, message));
                        0
                    });
                ("integer", parsed.into_pyobject(py)?.into_any())
            }
            DeValue::Float(number) => {
                let parsed: f64 = number.as_str().parse().unwrap_or(f64::NAN);
                ("float", parsed.into_pyobject(py)?.into_any())
            }
            DeValue::Boolean(truth) => ("boolean", truth.into_pyobject(py)?.to_owned().into_any()),
            DeValue::Datetime(moment) => {
                ("datetime", moment.to_string().into_pyobject(py)?.into_any())
            }
            DeValue::Array(items) => {
                let list = PyList::empty(py);
                for item in items {
                    list.append(self.value(py, item)?)?;
                }
                ("array", list.into_any())
            }
            DeValue::Table(table) => ("table", self.entries(py, table)?.into_any()),
        };
        self.node(py, kind, start, plain)
    }
}

/// Turns byte offsets into lines and columns.
struct Positions<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Positions<'t> {
    fn new(text: &'t str) -> Self {
        let starts = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self {
            text,
            line_starts: std::iter::once(0).chain(starts).collect(),
        }
    }

    /// Line and column, both from 1; the column counts characters, not bytes.
    fn of(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let before = self
            .text
            .get(self.line_starts[line - 1]..offset)
            .unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}
