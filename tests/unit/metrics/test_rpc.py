"""The Rust worker's three series, to the letter."""

from __future__ import annotations

from damocles_worker.manager import methods
from damocles_worker.manager.methods import Method
from damocles_worker.metrics.rpc import LABELS, RpcSeries, quantile_of

COMMON = {"worker_name": "w1", "worker_ip": "10.0.0.2"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_exposition_is_that_of_the_rust_worker() -> None:
    series = RpcSeries(Clock())
    series.observe("AllocateSector", 0.0131, None)
    series.observe("AllocateSector", 2.0, RuntimeError("refused"))
    series.observe("WorkerPing", 1.0, None)
    labels = 'worker_name="w1",worker_ip="10.0.0.2",method="allocate_sector"'
    assert series.text(COMMON).splitlines() == [
        "# TYPE rpc_call counter",
        f"rpc_call{{{labels}}} 2",
        "# TYPE rpc_error counter",
        f"rpc_error{{{labels}}} 1",
        "# TYPE rpc_timing summary",
        f'rpc_timing{{{labels},quantile="0"}} 0.0131',
        f'rpc_timing{{{labels},quantile="0.5"}} 0.0131',
        f'rpc_timing{{{labels},quantile="0.9"}} 2',
        f'rpc_timing{{{labels},quantile="0.95"}} 2',
        f'rpc_timing{{{labels},quantile="0.99"}} 2',
        f'rpc_timing{{{labels},quantile="0.999"}} 2',
        f'rpc_timing{{{labels},quantile="1"}} 2',
        f"rpc_timing_sum{{{labels}}} 2.0131",
        f"rpc_timing_count{{{labels}}} 2",
    ]


def test_before_the_first_call_nothing_is_exposed() -> None:
    assert RpcSeries().text(COMMON) == ""


def test_quantiles_look_back_a_minute_and_sums_do_not() -> None:
    clock = Clock()
    series = RpcSeries(clock)
    series.observe("WaitSeed", 5.0, None)
    clock.now += 59
    series.observe("WaitSeed", 1.0, None)
    assert 'quantile="1"} 5\n' in series.text(COMMON)
    clock.now += 2
    assert 'quantile="1"} 1\n' in series.text(COMMON)
    clock.now += 60
    text = series.text(COMMON)
    assert 'quantile="1"} 0\n' in text
    assert 'method="wait_seed"} 6\n' in text
    assert "rpc_error" not in text


def test_large_numbers_keep_every_digit() -> None:
    series = RpcSeries(Clock())
    series.observe("WaitSeed", 1_234_567.0, None)
    assert "} 1234567\n" in series.text(COMMON)


def test_label_values_are_escaped() -> None:
    series = RpcSeries(Clock())
    series.observe("WaitSeed", 0.5, None)
    assert r'worker_name="a\"b\\c\nd"' in series.text({"worker_name": 'a"b\\c\nd'})


def test_quantiles_are_values_that_occurred() -> None:
    hundred = [float(value) for value in range(1, 101)]
    assert [quantile_of(hundred, q) for q in (0, 0.5, 0.99, 0.999, 1)] == [1, 50, 99, 100, 100]
    assert quantile_of([], 0.5) == 0


def test_every_method_of_a_sealing_thread_has_a_label() -> None:
    known = {value.name for value in vars(methods).values() if isinstance(value, Method)}
    assert known - set(LABELS) == {"WorkerPing", "FindSector", "Version"}
