"""The hot file of a sealing thread: what it changes, what it can't, and what happens if it is broken."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from msgspec import structs

from damocles_worker.config.hot import hot_thread
from damocles_worker.config.settings import Sealing, Thread
from damocles_worker.daemon import _hot_refresher
from tests.unit.config.support import MINIMAL, only, settings_of

STARTUP = Thread(3, "/stores/3", "snapup", Sealing(allowed_miners=(1,), max_retries=9, max_deals=2))


def hot(directory: Path, text: str) -> str:
    path = directory / "config.toml"
    path.write_text(text)
    return str(path)


def test_without_a_hot_file_the_main_configuration_holds(tmp_path: Path) -> None:
    previous = structs.replace(STARTUP, plan="rebuild")
    assert hot_thread(STARTUP, str(tmp_path / "config.toml"), previous) == (STARTUP, [])


@pytest.mark.parametrize("text", ["", "\n", "# plan = 'rebuild'\n"])
def test_an_empty_hot_file_changes_nothing(tmp_path: Path, text: str) -> None:
    assert hot_thread(STARTUP, hot(tmp_path, text)) == (STARTUP, [])


def test_a_hot_file_goes_over_the_thread_field_by_field(tmp_path: Path) -> None:
    path = hot(tmp_path, 'plan = "rebuild"\n[sealing]\nallowed_miners = []\nmax_retries = 1\n')
    thread, findings = hot_thread(STARTUP, path)
    assert findings == []
    sealing = Sealing(allowed_miners=(), max_retries=1, max_deals=2)
    assert thread == Thread(3, "/stores/3", "rebuild", sealing)


def test_all_four_layers_have_their_order(tmp_path: Path) -> None:
    text = MINIMAL.replace('"/stores/1"', '"/stores/1"\nsealing.max_retries = 2\nsealing.max_deals = 2')
    text += "[sealing]\nmax_retries = 1\nmax_deals = 1\nrequest_task_max_retries = 1\n"
    thread, _ = hot_thread(settings_of(tmp_path, text).threads[0], hot(tmp_path, "sealing.max_retries = 3\n"))
    policy = thread.sealing
    assert (policy.max_retries, policy.max_deals, policy.request_task_max_retries) == (3, 2, 1)
    assert policy.seal_interval == Sealing().seal_interval


def test_a_key_removed_from_the_hot_file_restores_the_main_configuration(tmp_path: Path) -> None:
    first, _ = hot_thread(STARTUP, hot(tmp_path, 'plan = "rebuild"\nsealing.max_retries = 1\n'))
    second, _ = hot_thread(STARTUP, hot(tmp_path, "sealing.max_retries = 1\n"), first)
    assert (second.plan, second.sealing.max_retries) == ("snapup", 1)


def test_the_location_is_ignored_with_a_warning(tmp_path: Path) -> None:
    thread, findings = hot_thread(STARTUP, hot(tmp_path, 'location = "/elsewhere"\nplan = "sealer"\n'))
    assert (thread.location, thread.plan) == ("/stores/3", "sealer")
    assert only(findings, "location").level == "warning"


def test_an_unknown_key_is_ignored_with_a_warning(tmp_path: Path) -> None:
    thread, findings = hot_thread(STARTUP, hot(tmp_path, 'plan = "sealer"\nsealing.max_retires = 1\n'))
    assert thread == structs.replace(STARTUP, plan="sealer")
    finding = only(findings, "sealing.max_retires")
    assert (finding.level, finding.line) == ("warning", 2)
    assert "max_retries" in finding.next_step


@pytest.mark.parametrize(
    "text",
    [
        'plan = "rebuild"\nsealing.max_retries = "1"\n',
        'plan = "nonsense"\n',
        'plan = "rebuild"\nsealing.allowed_sizes = ["3GiB"]\n',
        'plan = "rebuild"\nsealing = \n',
        'plan = "rebuild"\nplan = "sealer"\n',
        "\0",
    ],
)
def test_a_broken_hot_file_changes_nothing(tmp_path: Path, text: str) -> None:
    previous = structs.replace(STARTUP, plan="unseal")
    path = hot(tmp_path, text)
    thread, findings = hot_thread(STARTUP, path, previous)
    assert thread == previous
    assert [finding.level for finding in findings] == ["error"]
    assert hot_thread(STARTUP, path)[0] == STARTUP


def test_a_dangling_link_is_a_broken_hot_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to(tmp_path / "nothing")
    thread, findings = hot_thread(STARTUP, str(tmp_path / "config.toml"))
    assert thread == STARTUP
    assert "can't be read" in findings[0].message


# ---- what a policy in a hot file brings about --------------------------------------------------------


def test_turning_the_proof_check_off_in_a_hot_file_is_warned_of_and_followed(tmp_path: Path) -> None:
    thread, findings = hot_thread(STARTUP, hot(tmp_path, "\nsealing.ignore_proof_check = true\n"))
    assert thread.sealing.ignore_proof_check
    finding = only(findings, "sealing.ignore_proof_check")
    assert (finding.level, finding.line) == ("warning", 2)
    assert "a bad proof" in finding.message
    assert hot_thread(thread, hot(tmp_path, "sealing.max_deals = 1\n"))[1] == []


@pytest.mark.parametrize(
    ("startup", "text", "path"),
    [
        (Sealing(enable_deals=False), "sealing.disable_cc = true\n", "sealing.disable_cc"),
        (
            Sealing(enable_deals=True, disable_cc=True),
            "sealing.enable_deals = false\n",
            "sealing.enable_deals",
        ),
    ],
)
def test_a_hot_file_that_makes_a_thread_wait_for_ever_is_warned_of(
    tmp_path: Path, startup: Sealing, text: str, path: str
) -> None:
    thread = Thread(3, "/stores/3", "sealer", startup)
    assert "waits for ever" in only(hot_thread(thread, hot(tmp_path, text))[1], path).message


def test_a_warning_of_a_hot_file_is_shown_and_logged_once_for_each_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = hot(tmp_path, "sealing.max_retires = 1\nsealing.ignore_proof_check = true\n")
    startup = Thread(0, str(tmp_path), "sealer", Sealing())
    refresh = _hot_refresher()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            thread, trouble = refresh(startup)
        assert len(caplog.records) == 2
        os.utime(path, (1, 1))
        refresh(startup)
        assert len(caplog.records) == 4
    assert thread.sealing.ignore_proof_check
    assert trouble is not None
    assert "in force, with a warning" in trouble.text
    assert f"{path}:1: sealing.max_retires: " in trouble.text and "a bad proof" in trouble.text
    hot(tmp_path, "sealing.max_retries = 1\n")
    assert refresh(startup)[1] is None


def test_an_error_of_a_hot_file_is_shown_with_the_settings_that_stay(tmp_path: Path) -> None:
    hot(tmp_path, "plan = \n")
    thread, trouble = _hot_refresher()(Thread(0, str(tmp_path), "sealer", Sealing()))
    assert thread.plan == "sealer" and trouble is not None
    assert trouble.text.startswith("critical: the hot file is not used: ")
    assert "the values before it stay in force" in trouble.text
