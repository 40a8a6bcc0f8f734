"""No file, however broken, makes the check fail with anything but findings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damocles_worker.config.check import check_file
from damocles_worker.config.load import inspect
from tests.unit.config.support import VECTORS
from tests.unit.config.test_load import EVERYTHING

SAMPLES = [(VECTORS / "seed-sample.toml").read_text(), EVERYTHING]
#: Pieces that matter to TOML or to the readers of values.
TOKENS = ["[", "]", "[[", "]]", "{", "}", "=", ".", ",", '"', "'", '"""', "#", "\n", "\0", "\ufeff", "é"]
TOKENS += ["true", "0", "-1", "1e999", "9" * 30, '"30s"', '"2KiB"', "1979-05-27", "[]", "{}", '""', "nan"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "worker.toml"


def mutations(lines: list[str]) -> st.SearchStrategy[str]:
    """The lines with some dropped, doubled or moved, and some tokens put in or in the place of others."""

    def mutate(steps: list[tuple[int, int, str]]) -> str:
        text = list(lines)
        for where, how, token in steps:
            at = where % len(text)
            line = text[at]
            middle = (where // 7) % (len(line) + 1)
            before, _, _ = line.partition("=")
            text[at] = [
                "",
                f"{line}\n{line}",
                line[:middle] + token + line[middle:],
                f"{before}= {token}",
                line[:middle],
                line.replace("[", token, 1),
                line.upper(),
            ][how]
        return "\n".join(text)

    step = st.tuples(st.integers(0, 10**6), st.integers(0, 6), st.sampled_from(TOKENS))
    return st.lists(step, min_size=1, max_size=6).map(mutate)


@pytest.mark.parametrize("sample", SAMPLES, ids=["documented", "every key"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_gives_findings_with_lines_inside_the_file(
    path: Path, sample: str, data: st.DataObject
) -> None:
    lines = [line for line in sample.splitlines() if not line.startswith("#")]
    text = data.draw(mutations(lines))
    path.write_text(text)
    check = check_file(str(path), machine=True)
    inspection = inspect(str(path))
    last = text.count("\n") + 1
    for finding in inspection.findings:
        assert 1 <= finding.line <= last
        assert finding.column >= 1
        assert finding.message
    errors = [finding for finding in inspection.findings if finding.level == "error"]
    assert check.failed or not errors
    assert inspection.settings is not None or errors


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_give_findings(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert check_file(str(path), machine=True).failed
