"""RUST_LOG and DAMOCLES_WORKER_LOG as people have them in their scripts."""

from __future__ import annotations

import logging

import pytest

from damocles_worker.errors import UsageError
from damocles_worker.logs.directives import TRACE, Directives

OURS = "damocles_worker::sealing::thread"
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


def directives(rust_log: str = "", worker_log: str = "") -> Directives:
    return Directives.of_environment({"RUST_LOG": rust_log, "DAMOCLES_WORKER_LOG": worker_log})


def lowest(found: Directives, target: str) -> int | None:
    """The lowest level that is printed of a target."""
    levels = (TRACE, DEBUG, INFO, WARNING, ERROR)
    return next((level for level in levels if found.admits(target, level)), None)


@pytest.mark.parametrize(
    ("text", "level"),
    [("debug", DEBUG), ("Info", INFO), ("warn", WARNING), ("1", ERROR), ("trace", TRACE), ("off", None)],
)
def test_a_level_alone_is_for_everything(text: str, level: int | None) -> None:
    found = directives(text)
    assert lowest(found, OURS) == lowest(found, "storage_proofs_porep::stacked") == level


def test_without_settings_this_program_informs_and_libraries_warn() -> None:
    found = directives()
    assert lowest(found, OURS) == lowest(found, "sdr::engine") == lowest(found, "pc2::files") == INFO
    assert lowest(found, "filecoin_proofs::api") == lowest(found, "asyncio") == WARNING
    assert found.lowest == INFO


def test_the_longest_target_decides_and_the_rest_is_as_the_bare_level_says() -> None:
    found = directives("warn, damocles_worker::sealing=debug ,damocles_worker::sealing::thread=error,hyper")
    assert lowest(found, "damocles_worker::sealing::stages") == DEBUG
    assert lowest(found, OURS) == ERROR
    assert lowest(found, "damocles_worker::daemon") == WARNING
    assert lowest(found, "hyper::client") == TRACE
    assert found.lowest == TRACE


def test_without_a_bare_level_others_say_their_errors() -> None:
    found = directives("storage_proofs=debug")
    # A target is the beginning of a name, as in the Rust worker: it covers storage_proofs_core as well.
    assert lowest(found, "storage_proofs_core::cache_key") == DEBUG
    assert lowest(found, OURS) == ERROR


def test_either_variable_admits_a_line() -> None:
    found = directives("error", "damocles_worker::manager=debug")
    assert lowest(found, "damocles_worker::manager::client") == DEBUG
    assert lowest(found, OURS) == ERROR


def test_chatty_libraries_are_quiet_unless_they_are_named() -> None:
    assert lowest(directives("trace"), "asyncio") == WARNING
    assert lowest(directives("trace"), "merkletree::store") == INFO
    assert lowest(directives("warn,asyncio=debug"), "asyncio") == DEBUG


def test_spans_in_a_directive_are_passed_over() -> None:
    found = directives("warn,damocles_worker::sealing[seal{sector=s-t01000-1}]=debug,[request]=info")
    assert lowest(found, OURS) == DEBUG
    assert lowest(found, "other") == INFO


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(UsageError, match=r"RUST_LOG: 'bogus' in 'a=bogus'.*debug"):
        directives("info,a=bogus")
