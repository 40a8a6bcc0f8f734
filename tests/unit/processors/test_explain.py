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
            "params check`, replace /p/v28-x.params (it belongs to another proof), then restart",
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
        ("panic: something new", "worker resume", None),
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


def test_long_texts_become_one_short_line() -> None:
    cause = explain("builtin PC1", "first\nsecond\t" + "x" * 5000).cause
    assert cause.startswith("builtin PC1 failed: first second xxx")
    assert "\n" not in cause
    assert len(cause) < 500
