"""The undisturbed run that the crash tests compare with, and the count of long proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from damocles_worker.journal import HistoryRow
from tests.e2e import points
from tests.e2e.cluster import C2_STARTED, SECTOR_TIMEOUT, SNAP_STARTED, cluster, commitments

#: A full test run may compute this many C2 proofs, of which one is killed in its middle.
C2_ALLOWED = 7
#: And this many proofs of replica updates.
SNAP_ALLOWED = 4
LONG_PROOFS = (
    ("C2 proofs", C2_STARTED, C2_ALLOWED),
    ("update proofs", SNAP_STARTED, SNAP_ALLOWED),
)
_logs: list[Path] = []


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """A directory whose worker log is searched for long proofs at the end of the run."""
    _logs.append(tmp_path / "worker.log")
    yield tmp_path


@dataclass(frozen=True)
class Undisturbed:
    """What a sector leaves behind when nothing goes wrong."""

    commitments: tuple[str, str]
    rows: list[HistoryRow]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A 2 KiB sector without deals, sealed to its verified proof; its journal names the crash points."""
    root = tmp_path_factory.mktemp("undisturbed")
    _logs.append(root / "worker.log")
    with cluster(root, "--sectors", "1", "--deals", "none") as running:
        running.start_worker()
        running.wait(running.finalized, SECTOR_TIMEOUT, "the sector")
        running.wait(lambda: [row.event for row in running.history()][-2:] == ["Finish", "Finish"])
        assert running.terminate() == 0
        return Undisturbed(commitments(running), running.history())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test here may compute two proofs, each minutes of CPU time on a busy machine."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(1800))


def proofs_started(mark: str) -> int:
    """Long proofs started so far, by the workers' own logs."""
    return sum(log.read_text().count(mark) for log in _logs if log.exists())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in points.LINES:
        terminalreporter.write_line(line)
    if _logs:
        for name, mark, allowed in LONG_PROOFS:
            terminalreporter.write_line(f"{name} computed: {proofs_started(mark)} (at most {allowed})")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if any(proofs_started(mark) > allowed for _, mark, allowed in LONG_PROOFS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
