"""The reference of all metrics, ``docs/metrics.md``, written from the catalogue.

``python -m damocles_worker.metrics.reference > docs/metrics.md`` renews it; a test holds it up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector

from damocles_worker.metrics.catalogue import COMMON_LABELS, COUNTED, READ, UPSTREAM, Series

_HEAD = f"""# Metrics

With `[metrics] enable = true` the worker answers any HTTP request to `http_listen` (default `0.0.0.0:9000`)
with these series, in Prometheus' text format. All of them carry the labels {
    " and ".join(f"`{label}`" for label in COMMON_LABELS)
}. This page is written by `make docs` from the code.

`packaging/grafana.json` is a dashboard over them, `packaging/alerts.yml` are alert rules.
"""


def reference() -> str:
    """The page as Markdown."""
    parts = [
        _HEAD,
        _section(
            "The Rust worker's",
            "Names, labels and meaning as ever, so that dashboards go on working. Pings are not counted.",
            UPSTREAM,
        ),
        _section(
            "Counted as it happens",
            "Since the start of the daemon; `stage` names the work (`pc1`, `persist`).",
            COUNTED,
        ),
        _section("Read at every scrape", "`stage` is that of `worker list` (`PC1`, `PersistFiles`).", READ),
        _section("Of the process", "From the Prometheus library.", process_series()),
    ]
    return "\n".join(parts)


def process_series() -> list[Series]:
    """What the Prometheus library says about the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return [
        Series(sample.name, family.type, (), family.documentation)
        for family in registry.collect()
        for sample in family.samples
    ]


def _section(title: str, text: str, series: Iterable[Series]) -> str:
    rows = [
        f"| `{one.exposed}` | {one.kind} | {' '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in series
    ]
    table = ["| name | type | labels | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## {title}", "", *([text, ""] if text else []), *table, ""])


if __name__ == "__main__":
    sys.stdout.write(reference())
