"""Texts of the proofs libraries, explained."""

from __future__ import annotations

import pytest

from damocles_worker.errors import Level
from damocles_worker.processors.explain import explain, names_damaged_layer

MISSING = (
    "No cached parameters found for stacked-proof-of-replication-merkletree-poseidon_hasher-8-8-0 "
    "[failure finding /var/tmp/filecoin-proof-parameters/v28-stacked-proof.params]"
)


@pytest.mark.parametrize(
    ("text", "next_step", "waits_for"),
    [
        (MISSING, "into /var/tmp/filecoin-proof-parameters", "parameter file v28-stacked-proof.params"),
        ("Invalid parameters file: /p/v28-x.params", "digest differs", "parameter file v28-x.params"),
        (
            "parameters /p/v28-x.params: B in G2 query: ends at byte 90, but the file has 80 bytes",
            "params check`, replace /p/v28-x.params; the task",
            "parameter file v28-x.params",
        ),
        (
            "parameters /p q/v28-x.params: verifying key: failed to fill whole buffer",
            "replace /p q/v28-x.params",
            "parameter file v28-x.params",
        ),
        ("parameters /p/v28-x.params: Too many open files (os error 24)", "LimitNOFILE", None),
        (
            "/p/v28-x.params are parameters of another circuit: (public inputs, …) are (1, 2), (3, 4) here",
            "params check`, replace /p/v28-x.params (it belongs to another proof), then resume",
            None,
        ),
        ("write layer 3: No space left on device (os error 28)", "Free space", "space on"),
        ("panic: Os { code: 122, message: Disk quota exceeded }", "Free space", "space on"),
        ("open: Read-only file system (os error 30)", "read-write", None),
        ("read: Input/output error (os error 5)", "dmesg", None),
        ("open: Too many open files (os error 24)", "LimitNOFILE", None),
        ("read /nfs/p_aux: Permission denied (os error 13)", "owner, its mode", None),
        ("open /nfs/sealed: Stale file handle (os error 116)", "file server", None),
        ("unseal /x: node 0: decodes to no padded data, so the key isn't this sector's", "rebuild", None),
        ("the vanilla proofs of /u over /s don't hold: comm_r_old is not", "earlier --state", None),
        ("mmap: Cannot allocate memory (os error 12)", "Not enough memory", None),
        (
            "a proof with /p/v28-x.params needs 25.0 GiB of memory, but may take 3.1 GiB (left)",
            "run fewer stages at once",
            "memory for the proof",
        ),
        ("memory map must have a non-zero length", "params check", None),
        ("panic: Once instance has previously been poisoned", "restart the worker", None),
        (
            "C2 of sector 7: two proofs in a row don't hold (it doesn't verify), computed with X on Y"
            " from /p/v28.params: faulty memory, …",
            "restart it with the other engine (DAMOCLES_C2_ENGINE=crate, or unset)",
            None,
        ),
        (
            "tree_d /c/tree-d.dat, a link to /s: the root over its leaves is 0a, expected comm_d 0b: the",
            "--state PieceAdded",
            None,
        ),
        ("tree_d /c d/t.dat: its root is missing, expected comm_d of PC1, 0b", "--state PieceAdded", None),
        ("panic: something new", "`damocles-worker worker resume` tries again", None),
    ],
)
def test_known_texts(text: str, next_step: str, waits_for: str | None) -> None:
    error = explain("builtin C2", text)
    assert error.cause == f"builtin C2 failed: {text}"
    assert error.level is Level.PERMANENT
    assert next_step in error.next_step
    if waits_for is None:
        assert error.waits_for is None
    else:
        assert error.waits_for is not None
        assert waits_for in error.waits_for


def test_error_numbers_are_not_found_inside_others() -> None:
    assert explain("builtin PC1", "os error 57").next_step == explain("builtin PC1", "new").next_step


def test_damaged_layers_are_known_by_their_text() -> None:
    refused = explain("builtin PC2", "label layer 3 /c/sc-02-data-layer-3.dat: its checksum is wrong")
    assert names_damaged_layer(refused)
    assert not names_damaged_layer(explain("builtin PC2", "tree_d /c/tree-d.dat: its root is wrong"))


def test_long_texts_become_one_short_line_and_the_log_has_the_whole(caplog: pytest.LogCaptureFixture) -> None:
    error = explain("builtin PC1", "first\nsecond\t" + "x" * 5000 + " the end")
    assert error.cause.startswith("builtin PC1 failed: first second xxx")
    assert "\n" not in error.cause
    assert len(error.cause) < 500
    assert error.next_step.startswith("The log has the whole message")
    (line,) = caplog.messages
    assert line.startswith("builtin PC1 failed: first second")
    assert line.endswith("the end")


def test_the_log_is_not_spoken_of_where_it_has_no_more() -> None:
    assert "log" not in explain("builtin PC1", "short").next_step
