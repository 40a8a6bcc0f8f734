"""``damocles-worker devnet`` as a process, and its refusals."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from damocles_worker.cli.devnet import devnet
from damocles_worker.errors import UsageError, WorkerError

ALLOCATE = b'{"jsonrpc":"2.0","method":"Venus.AllocateSector","params":[{}],"id":1}'
START = [sys.executable, "-c", "from damocles_worker.cli.devnet import devnet; devnet()"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_with_status_0(ending: signal.Signals, tmp_path: Path) -> None:
    options = ["--listen", "127.0.0.1:0", "--miner", "77", "--sector-size", "8mib"]
    start = [*START, *options, "--store", f"persist={tmp_path}"]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said, _at, url = process.stdout.readline().strip().rpartition(" ")
        assert said == "devnet listening on"
        with urllib.request.urlopen(f"{url}/rpc/v0", ALLOCATE) as response:
            answer = json.load(response)
        assert answer["result"] == {"ID": {"Miner": 77, "Number": 1}, "ProofType": 6}
        assert process.stdout.readline() == "s-t077-1 allocated (StackedDrg8MiBV1_1)\n"
        process.send_signal(ending)
        assert process.wait(30) == 0


def test_a_reader_that_stops_reading_does_not_stop_it() -> None:
    with subprocess.Popen([*START, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip().rpartition(" ")[2]
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        # More lines than a pipe takes: it holds 64 KiB, a line has 45 bytes.
        for number in range(1, 2001):
            connection.request("POST", "/rpc/v0", ALLOCATE)
            answer = json.load(connection.getresponse())
            assert answer["result"]["ID"]["Number"] == number
        connection.close()
        process.terminate()
        assert process.wait(30) == 0


def refusal(*options: str) -> str:
    outcome = CliRunner().invoke(devnet, options)
    assert isinstance(outcome.exception, (UsageError, WorkerError)), outcome.output
    return str(outcome.exception)


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = refusal("--listen", f"127.0.0.1:{port}")
    assert f"can't listen on 127.0.0.1:{port}" in text
    assert "in use" in text
    assert "--listen" in text


@pytest.mark.parametrize("listen", ["1789", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_bad_listen_address_is_refused(listen: str) -> None:
    assert "expected HOST:PORT" in refusal("--listen", listen)


@pytest.mark.parametrize("store", ["", "=x", "name="])
def test_a_bad_store_is_refused(store: str) -> None:
    assert "expected NAME or NAME=DIR" in refusal("--store", store)


def test_a_store_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    assert "is not a directory" in refusal("--store", f"a={tmp_path / 'missing'}")


def test_a_bad_fault_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('[{"method": "X", "action": "explode"}]')
    text = refusal("--faults", str(file))
    assert str(file) in text
    assert "explode" in text
