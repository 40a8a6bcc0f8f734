"""The reference, the dashboard and the alert rules agree with the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from damocles_worker.metrics import catalogue
from damocles_worker.metrics.reference import process_series, reference

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "packaging/grafana.json"
ALERTS = ROOT / "packaging/alerts.yml"
PROMTOOL = shutil.which("promtool")


def documented() -> set[str]:
    """Every name a query may use."""
    names = set()
    for one in (*catalogue.UPSTREAM, *catalogue.COUNTED, *catalogue.READ, *process_series()):
        names.add(one.exposed)
        if one.kind in ("histogram", "summary"):
            names |= {f"{one.exposed}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return names


def queries() -> list[str]:
    """Every expression of the dashboard, its variable filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [expression.replace("$worker", ".*") for expression in expressions]


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:damocles_worker|rpc|process|task)_[a-z_]+", text))


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == reference(), (
        "run: python -m damocles_worker.metrics.reference > docs/metrics.md"
    )


def test_the_dashboard_queries_metrics_that_exist() -> None:
    used = set().union(*(metrics_in(query) for query in queries()))
    used |= metrics_in(json.dumps(json.loads(DASHBOARD.read_text())["templating"]))
    assert used - documented() == set()
    assert {one.exposed for one in catalogue.UPSTREAM} <= used


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    cells = [
        (column, row)
        for at in panels
        for column in range(at["x"], at["x"] + at["w"])
        for row in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24


def test_the_alert_rules_query_metrics_that_exist() -> None:
    used = metrics_in(ALERTS.read_text())
    assert used and used - documented() == set()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")
def test_promtool_accepts_the_rules_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    # JSON is YAML.
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert PROMTOOL is not None
    result = subprocess.run(
        [PROMTOOL, "check", "rules", str(ALERTS), str(tmp_path / "queries.yml")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def alerts_of(directory: Path, alert: str, at: str, series: dict[str, str], expected: int) -> str:
    """What promtool has against one alert at a moment, over series as promtool writes them."""
    labels = 'worker_name="w", worker_ip="1"'
    inputs = [
        {"series": name.replace("{", "{" + labels + ", ").replace(", }", "}"), "values": values}
        for name, values in series.items()
    ]
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "10m",
        "tests": [
            {
                "interval": "1m",
                "input_series": inputs,
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": at,
                        "exp_samples": [{"labels": "{}", "value": expected}],
                    }
                ],
            }
        ],
    }
    (directory / "test.yml").write_text(json.dumps(test))
    assert PROMTOOL is not None
    result = subprocess.run(
        [PROMTOOL, "test", "rules", str(directory / "test.yml")], capture_output=True, text=True
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")
@pytest.mark.parametrize(
    ("alert", "at", "series", "expected"),
    [
        # The first failure of a stage: the counter was there before, at zero.
        (
            "StageFails",
            "30m",
            {'damocles_worker_stage_failures_total{stage="c2", level="permanent"}': "0x10 1x20"},
            1,
        ),
        ("WorkerGone", "10m", {"damocles_worker_build_info{}": "1x60"}, 0),
        ("WorkerGone", "90m", {"damocles_worker_build_info{}": "1x60"}, 1),
        # Another version of the program is the same worker.
        (
            "WorkerGone",
            "90m",
            {
                'damocles_worker_build_info{version="1"}': "1x60",
                'damocles_worker_build_info{version="2"}': "_x60 1x60",
            },
            0,
        ),
        # Window proofs that end are no sectors.
        (
            "NothingFinished",
            "4d",
            {
                'damocles_worker_sectors_total{plan="sealer", result="finished"}': "0x6000",
                'damocles_worker_sectors_total{plan="wdpost", result="finished"}': "0+1x6000",
                'damocles_worker_job_info{plan="sealer", job_id="s"}': "1x6000",
            },
            1,
        ),
        (
            "NothingFinished",
            "4d",
            {
                'damocles_worker_sectors_total{plan="sealer", result="finished"}': "0x6000",
                'damocles_worker_sectors_total{plan="wdpost", result="finished"}': "0x6000",
                'damocles_worker_job_info{plan="wdpost", job_id="p"}': "1x6000",
            },
            0,
        ),
    ],
)
def test_alerts_fire_when_they_should(
    tmp_path: Path, alert: str, at: str, series: dict[str, str], expected: int
) -> None:
    assert alerts_of(tmp_path, alert, at, series, expected) == ""
