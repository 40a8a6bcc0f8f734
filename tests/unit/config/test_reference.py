"""The reference of all configuration keys."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.reference import reference

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


def test_the_page_is_that_of_the_schema() -> None:
    assert PAGE.read_text() == reference(), "run: make docs"


def test_units_defaults_and_new_keys_are_told() -> None:
    text = reference()
    for row in (
        '| `ping_interval` | duration | `"30s"` |',
        "| `rpc_client.addr` | string | **required** |",
        '| `ticket_max_age` | duration | `"1day"` | **new**: ',
        "| `max_deals` | integer from 0 | no limit |",
        "| `sealing.…` | as in `[sealing]` |",
        "| `worker.ScanPersistStores` | the same as `worker.scan_persist_stores` |",
    ):
        assert row in text, row
