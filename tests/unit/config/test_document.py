"""Files that are no TOML text, and positions in those that are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from damocles_worker.config.document import parse_document, walk
from damocles_worker.config.findings import Report
from damocles_worker.config.load import inspect
from tests.unit.config.support import MINIMAL, inspected, settings_of


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b"", "empty", 1),
        (b" \n\n", "empty", 1),
        (b"\xef\xbb\xbf", "empty", 1),
        (b"a = 1\n\x7fELF\0\0", "binary", 2),
        (MINIMAL.encode("utf-16"), "UTF-16", 1),
        (b"# caf\xe9\n", "byte 0xe9 is not UTF-8", 1),
        ("# é\na = 'é".encode() + b"\xff'", "byte 0xff is not UTF-8", 2),
    ],
)
def test_what_is_no_text_is_one_error(tmp_path: Path, content: bytes, message: str, line: int) -> None:
    inspection = inspected(tmp_path, content)
    assert inspection.settings is None
    assert len(inspection.findings) == 1
    assert message in inspection.findings[0].message
    assert inspection.findings[0].line == line
    assert inspection.findings[0].next_step


def test_a_missing_file_and_a_directory_are_one_error(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.toml", "can't be read"), (tmp_path, "directory")):
        findings = inspect(str(path)).findings
        assert len(findings) == 1
        assert message in findings[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(MINIMAL)
    path.chmod(0)
    findings = inspect(str(path)).findings
    assert ["Permission denied" in finding.message for finding in findings] == [True]


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    settings_of(tmp_path, "\ufeff" + MINIMAL)


def test_positions_count_characters_from_one() -> None:
    document = parse_document('a = "é"\n[[t]]\n  "ключ" = [1, { x = true }]\n', Report())
    positions = {path: node.position for path, node in walk(document.root)}
    assert positions == {
        "a": (1, 5),
        "t": (2, 1),
        "t[0]": (2, 1),
        't[0]."ключ"': (3, 12),
        't[0]."ключ"[0]': (3, 13),
        't[0]."ключ"[1]': (3, 16),
        't[0]."ключ"[1].x': (3, 22),
    }


def test_a_syntax_error_has_its_place_and_hides_nothing_else(tmp_path: Path) -> None:
    text = MINIMAL + '[sealing]\nmax_retires = 1\nenable_deals = yes\nseal_interval = "5"\n'
    found = [(finding.line, finding.column) for finding in inspected(tmp_path, text).findings]
    assert found == [(8, 1), (9, 16), (10, 17)]


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    findings = inspected(tmp_path, MINIMAL + "[sealing]\nmax_retries = 1\nmax_retries = 2\n").findings
    assert [(finding.line, "duplicate key `max_retries`" in finding.message) for finding in findings] == [
        (9, True)
    ]


def test_the_documents_comment_that_is_no_toml_is_explained(tmp_path: Path) -> None:
    text = MINIMAL + '[[processors.pc1]]\nargs = ["--args-1", "1", --"args-2", "2"]\n'
    findings = inspected(tmp_path, text).findings
    assert {finding.line for finding in findings if finding.level == "error"} == {8}


def test_nothing_is_said_of_what_follows_a_bracket_that_stays_open(tmp_path: Path) -> None:
    text = 'worker.nme = "w"\nworker.local_pieces_dirs = ["/a",\n' + MINIMAL
    findings = inspected(tmp_path, text).findings
    assert [(finding.line, finding.path) for finding in findings] == [(1, "worker.nme"), (3, "")]
    assert "never closed" in findings[1].next_step


def test_an_integer_beyond_64_bits_is_an_error(tmp_path: Path) -> None:
    findings = inspected(tmp_path, MINIMAL + "[sealing]\nmax_deals = 99999999999999999999\n").findings
    assert any("does not fit in 64 bits" in finding.message and finding.line == 8 for finding in findings)


@pytest.mark.parametrize(
    "text",
    ["a." * 100_000 + "a = 1", "a = " + "[" * 100_000, "a = " + "{a=" * 5_000, "[" + "a." * 100_000 + "a]"],
)
def test_deep_nesting_is_an_error_and_no_crash(tmp_path: Path, text: str) -> None:
    findings = inspected(tmp_path, text).findings
    assert any("recurs" in finding.message for finding in findings)
