"""Reads tables by their schema: checked values out, and a finding for every key that is not known."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from damocles_worker.config.document import Entry, Node, join
from damocles_worker.config.findings import Report, Severity, nearest, suggestion
from damocles_worker.config.schema import PROCESSORS, Alias, Ignored, Key, Table, known_paths
from damocles_worker.config.values import Place


def read_table(
    node: Node, table: Table, path: str, report: Report, *, unknown: Severity = "error"
) -> dict[str, Any]:
    """The values of a table by key: only what is there and right.

    Tables below become dicts, arrays of tables lists of dicts (with an empty one in the place of an
    element that is no table, so that positions in the list are those of the file).
    """
    values: dict[str, Any] = {}
    given = {entry.key for entry in node.entries}
    for entry in node.entries:
        below = join(path, entry.key)
        schema = table.entries.get(entry.key)
        key = entry.key
        if isinstance(schema, Alias):
            if schema.of in given:
                _report_clash(report, below, entry, schema)
                continue
            if schema.warning:
                report.warning(below, entry.position, schema.warning, f"write {schema.of}")
            key = schema.of
            schema = table.entries[key]
        if schema is None:
            _report_unknown(report, below, entry, table, unknown)
        elif isinstance(schema, Ignored):
            report.warning(below, entry.position, schema.warning, schema.next_step)
        elif isinstance(schema, Key):
            for value in Place(entry.node, below, report, secret=schema.secret).read(schema.read):
                values[key] = value
        elif isinstance(schema, Table):
            if schema.many:
                values[key] = _read_many(entry, schema, below, report, unknown)
            elif entry.node.kind == "table":
                values[key] = read_table(entry.node, schema, below, report, unknown=unknown)
            else:
                _report_no_table(report, below, entry)
    return values


def _read_many(
    entry: Entry, table: Table, path: str, report: Report, unknown: Severity
) -> list[dict[str, Any]]:
    if entry.node.kind != "array":
        if entry.node.kind == "table":
            message = f"[{path}] is a single table, expected an array of tables"
        else:
            message = f"found {entry.node.describe()}, expected an array of tables"
        report.error(path, entry.position, message, f"write [[{path}]] with two brackets")
        return []
    elements = []
    for index, item in enumerate(entry.node.items):
        below = f"{path}[{index}]"
        if item.kind == "table":
            elements.append(read_table(item, table, below, report, unknown=unknown))
        else:
            report.error(
                below, item.position, f"found {item.describe()}, expected a table", f"write [[{path}]]"
            )
            elements.append({})
    return elements


def _report_no_table(report: Report, path: str, entry: Entry) -> None:
    if entry.node.kind == "array":
        report.error(path, entry.position, "this table is given once, not as a list", f"write [{path}]")
    else:
        message = f"found {entry.node.describe()}, expected a table"
        report.error(path, entry.node.position, message, f"write [{path}], and its keys below it")


def _report_clash(report: Report, path: str, entry: Entry, alias: Alias) -> None:
    if alias.clash_is_error:
        message = f"{entry.key} and {alias.of} are the same key, given twice"
        report.error(path, entry.position, message, f"keep {alias.of}")
    else:
        message = f"ignored, because {alias.of} is there too (keys are case-sensitive)"
        report.warning(path, entry.position, message, f"move what is in it to {alias.of}")


def _report_unknown(report: Report, path: str, entry: Entry, table: Table, level: Severity) -> None:
    names = [name for name, schema in table.entries.items() if not isinstance(schema, Ignored)]
    near = nearest(entry.key, names)
    elsewhere = sorted(known_paths(entry.key), key=lambda known: -_common_parts(known, path))
    if elsewhere:
        next_step = f"this key belongs elsewhere: {' or '.join(elsewhere[:2])}"
    elif near is not None:
        schema = table.entries[near]
        doc = f" ({schema.doc})" if isinstance(schema, Key | Table) else ""
        next_step = f'did you mean "{near}"{doc}?'
    else:
        next_step = suggestion(entry.key, names)
    noun = "stage" if table is PROCESSORS and entry.node.kind == "array" else "key"
    message = f'unknown {noun} "{entry.key}"'
    if level == "error":
        report.error(path, entry.position, message, next_step)
    else:
        report.warning(path, entry.position, f"{message} is ignored", next_step)


def _common_parts(one: str, other: str) -> int:
    """How many leading parts of two TOML paths are the same."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1].split("[")[0], pairs))
