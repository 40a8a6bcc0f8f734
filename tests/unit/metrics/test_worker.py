"""All series together, and the HTTP server in front of them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from damocles_worker.control import page
from damocles_worker.control.status import StatusReader
from damocles_worker.errors import WorkerError
from damocles_worker.metrics import catalogue
from damocles_worker.metrics.exporter import Exporter
from damocles_worker.metrics.reference import process_series
from damocles_worker.stores.attached import AttachedStore
from damocles_worker.stores.measure import Store, StoreSampler, attached_store, sealing_store
from damocles_worker.stores.sealing import SealingStore
from damocles_worker.stores.space import SpaceLedger
from tests.unit.metrics.daemon import COMMON, Manager, full_metrics
from tests.unit.mounts import vanishing

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: str) -> Samples:
    """Every sample by name and own labels; each has the common ones and occurs once."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert {name: labels.pop(name) for name in COMMON} == COMMON, sample
            # The parser gives every counter the suffix, also those of the Rust worker that have none.
            name = sample.name.removesuffix("_total") if sample.name.startswith("rpc_") else sample.name
            key = (name, frozenset(labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"damocles_worker_{name}", frozenset(labels.items())]


def test_values_of_a_daemon() -> None:
    samples = samples_of(asyncio.run(full_metrics().text()))
    assert value(samples, "threads", state="Running") == 1
    assert value(samples, "threads", state="Idle") == 0
    assert value(samples, "stage_threads", stage="PC1", state="Waiting") == 1
    assert value(samples, "stage_progress_ratio", thread="0", stage="PC1") == 0.25
    assert value(samples, "thread_state_seconds", thread="2", location="/mnt/s2", state="Paused") == 63.5
    assert value(samples, "thread_error", thread="2", location="/mnt/s2") == 1
    assert value(samples, "thread_error", thread="0", location="/mnt/s0") == 0
    assert value(samples, "manager_up") == 1
    assert value(samples, "manager_last_ok_timestamp_seconds") == 1700000000.5
    assert value(samples, "store_bytes", store="/mnt/s0", role="sealing", kind="reserved") == 20
    assert value(samples, "processor_up", processor="processors.pc1[0]", stage="pc1") == 1
    assert value(samples, "processor_restarts_total", processor="processors.pc1[0]", stage="pc1") == 2
    assert value(samples, "processor_silent_seconds", processor="processors.pc1[0]", stage="pc1") == 90
    assert value(samples, "processor_problems", processor="processors.pc1[0]", stage="pc1") == 1
    assert value(samples, "stage_duration_seconds_count", stage="pc1", processor="builtin PC1") == 1
    assert value(samples, "stage_duration_seconds_sum", stage="c2", processor="ext") == 1
    assert (
        value(samples, "stage_duration_seconds_bucket", stage="pc1", processor="builtin PC1", le="60.0") == 0
    )
    assert (
        value(samples, "stage_duration_seconds_bucket", stage="pc1", processor="builtin PC1", le="300.0") == 1
    )
    assert value(samples, "stage_failures_total", stage="c2", level="temporary") == 1
    assert value(samples, "sectors_total", plan="sealer", result="finished") == 1
    assert value(samples, "sectors_total", plan="wdpost", result="finished") == 0
    assert value(samples, "sectors_total", plan="sealer", result="aborted") == 0
    assert samples["task_threads_pause", frozenset()] == 1
    assert value(samples, "build_info", version="v0.1.0", profile="release", cpu_features="sha avx2") == 1
    jobs = [dict(labels)["job_id"] for name, labels in samples if name == "damocles_worker_job_info"]
    assert sorted(jobs) == ["s-t01000-1", "s-t01000-2"]


def test_the_first_failure_of_a_stage_is_an_increase_over_zero() -> None:
    samples = samples_of(asyncio.run(full_metrics().text()))
    for level in ("temporary", "permanent", "critical", "abort"):
        assert value(samples, "stage_failures_total", stage="pc2", level=level) == 0
        assert value(samples, "stage_failures_total", stage="persist", level=level) == 0


def test_what_is_exposed_is_what_the_catalogue_says_and_nothing_else() -> None:
    suffixes = {"summary": ("", "_sum", "_count"), "histogram": ("_bucket", "_sum", "_count")}
    said = {
        (one.exposed + suffix, frozenset({*one.labels, *(["le"] if suffix == "_bucket" else [])}))
        for one in (*catalogue.UPSTREAM, *catalogue.COUNTED, *catalogue.READ, *process_series())
        for suffix in suffixes.get(one.kind, ("",))
    }
    exposed = {
        (name, frozenset(label for label, _ in labels))
        for name, labels in samples_of(asyncio.run(full_metrics().text()))
    }
    without_quantile = {
        (name, labels - {"quantile"}) for name, labels in said if name.startswith("rpc_timing_")
    }
    assert exposed == {one for one in said if not one[0].startswith("rpc_timing_")} | without_quantile


def test_any_method_on_any_path_is_answered() -> None:
    async def scrape() -> None:
        exporter = Exporter(full_metrics().text)
        port = await exporter.start("127.0.0.1:0")
        async with aiohttp.ClientSession() as session:
            for method, path in (("GET", "/"), ("GET", "/metrics?x=1"), ("POST", "/any/thing")):
                async with session.request(method, f"http://127.0.0.1:{port}{path}") as answer:
                    assert answer.status == 200
                    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                    assert "rpc_call{" in await answer.text()
        with pytest.raises(WorkerError, match=rf"metrics port 127.0.0.1:{port} can't be opened.*http_listen"):
            await Exporter(full_metrics().text).start(f"127.0.0.1:{port}")
        await exporter.stop()

    asyncio.run(scrape())


def test_a_store_that_never_answers_holds_up_no_scrape_and_gathers_no_threads() -> None:
    release = threading.Event()

    def hang() -> dict[str, int]:
        release.wait()
        return {"size": 1, "free": 1}

    def fail() -> dict[str, int]:
        raise OSError("stale")

    good = Store("/good", "attached", lambda: {"size": 2, "free": 1})
    sampler = StoreSampler([Store("/dead", "attached", hang), Store("/bad", "attached", fail), good], 0.05)
    before = threading.active_count()
    for _ in range(3):
        assert [one.space for one in sampler.sample()] == [None, None, {"size": 2, "free": 1}]
    assert threading.active_count() == before + 1
    release.set()


def test_promised_space_of_a_sealing_store_is_reserved(tmp_path: Path) -> None:
    ledger = SpaceLedger()
    ledger.reserve(tmp_path, [1 << 20], "sector")
    attached = attached_store(AttachedStore.at(tmp_path, "p"))
    found = StoreSampler([sealing_store(str(tmp_path), ledger, lambda: None), attached]).sample()
    assert found[0].space is not None and found[1].space is not None
    # Other programs write to the disk between the two looks; the promise is what stands out.
    assert found[0].space["reserved"] > 0
    assert set(found[1].space) == {"size", "free"}
    assert found[1].space["size"] > found[1].space["free"] > 0


@pytest.mark.parametrize("mounted", [False, True], ids=["moved away", "unmounted"])
def test_a_store_that_is_unmounted_is_down(tmp_path: Path, mounted: bool) -> None:
    """Where it was mounted is a directory still, on a file system that answers."""
    with vanishing(tmp_path / "store", mounted=mounted) as there:
        opened = SealingStore.open(there.path / "sealing")
        (there.path / "attached").mkdir()
        attached = AttachedStore.at(there.path / "attached", "persist")
        stores = [sealing_store(str(opened.root), SpaceLedger(), opened.check), attached_store(attached)]

        def up() -> list[float]:
            samples = samples_of(asyncio.run(full_metrics(stores).text()))
            return [value(samples, "store_up", store=one.name, role=one.role) for one in stores]

        assert up() == [1, 1]
        there.go_away()
        assert up() == [0, 0]
        for empty in (opened.root, attached.root):
            empty.mkdir()
        assert up() == [0, 0]
        status = StatusReader("w", "v", "http://m", Manager(), list, stores)
        shown = page.render(asyncio.run(status.read()))
        assert "no longer there" in shown or "is not mounted" in shown
        assert "goes on by itself" in shown
        for empty in (opened.root, attached.root):
            empty.rmdir()
        there.come_back()
        assert up() == [1, 1]
        opened.close()
