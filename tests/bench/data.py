"""What moving data costs: pieces in, finished files out, a piece decoded. Prints figures, judges nothing.

``python -m tests.bench.data``. Ratios are of medians of runs that take turns.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from damocles_worker import _native, sectors
from damocles_worker.processors.tasks import AddPiecesTask, PieceSource, UnsealTask
from damocles_worker.stores.pieces import PieceStore, WantedPiece
from damocles_worker.stores.transfer import copy_durable
from tests.e2e.sealed import MINER, seal

ROUNDS = 5
MIB = 1 << 20
PIECE = 256 * MIB
REPLICA = 512 * MIB
#: V1_1 of the two sizes.
PROOF_8_MIB, PROOF_512_MIB = 6, 7
#: A well-formed one; nothing here compares it.
CID = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"


def cpu_seconds(process: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def beside(
    name: str,
    plain_name: str,
    size: int,
    ours: Callable[[], None],
    plain: Callable[[], None],
    before: Callable[[], object] = lambda: None,
) -> float:
    """Time both in turn, ``before`` left out, and print them in MiB/s, with our share of the plain one.

    Answers the plain one's seconds.
    """
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS):
        for key, work in (("ours", ours), ("plain", plain)):
            before()
            started = time.perf_counter()
            work()
            times[key].append(time.perf_counter() - started)
    mine, theirs = (size / MIB / statistics.median(times[key]) for key in ("ours", "plain"))
    print(f"{name}: {mine:.0f} MiB/s, {plain_name} {theirs:.0f} MiB/s: {100 * mine / theirs:.0f} %")
    return size / MIB / theirs


def random_file(path: Path, size: int) -> None:
    """A file of random bytes, in the page cache."""
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))


@contextlib.contextmanager
def file_server(root: Path) -> Iterator[tuple[str, int]]:
    """Python's own file server in a process of its own; answers its URL and process id."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        try:
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()


def staging(root: Path) -> None:
    """A piece from HTTP into the staged file: download, padding, commitment, fsync."""
    payload = sectors.unpadded(PIECE)
    (root / "piecestore").mkdir()
    random_file(root / "piecestore" / CID, payload)
    staged, plain = root / "staged", root / "plain"
    with file_server(root) as (url, server):

        def ours() -> None:
            with PieceStore([], url).open([WantedPiece(CID, payload)]) as files:
                source = PieceSource(files[0], payload, payload)
                task = AddPiecesTask(sectors.proof_name(PROOF_512_MIB), [source], str(staged))
                _native.add_pieces(msgspec.json.encode(task))

        def fetched_only() -> None:
            with PieceStore([], url).open([WantedPiece(CID, payload)]) as files:
                source = files[0]
                assert isinstance(source, dict) and isinstance(source["fd"], int)
                left = payload
                while left:
                    left -= len(os.read(source["fd"], MIB))

        def download() -> None:
            _download(url, plain)

        def fresh() -> None:
            # Freeing an older file is no part of either.
            for path in (staged, plain):
                path.unlink(missing_ok=True)

        took = beside("Piece into the staged file", "plain download", payload, ours, download, fresh)
        fresh()
        before = cpu_seconds(os.getpid()) + cpu_seconds(server)
        for _ in range(ROUNDS):
            ours()
        cpu = (cpu_seconds(os.getpid()) + cpu_seconds(server) - before) / ROUNDS
        cores = len(os.sched_getaffinity(0))
        print(
            f"  it and its server take {cpu:.2f} CPU s, {cpu / cores:.2f} s of {cores} cores, where the plain"
            f" download took {took:.2f} s: {min(100, 100 * took * cores / cpu):.0f} % at the most"
        )
        beside(
            "  its download alone",
            "plain download",
            payload,
            fetched_only,
            download,
            fresh,
        )
        local: dict[str, str | int] = {"local": str(root / "piecestore" / CID)}
        task = AddPiecesTask(
            sectors.proof_name(PROOF_512_MIB), [PieceSource(local, payload, payload)], str(staged)
        )
        cpu = time.process_time()
        _native.add_pieces(msgspec.json.encode(task))
        cpu = time.process_time() - cpu
        print(f"  padding and commitment alone: {cpu:.2f} CPU s, {payload / MIB / cpu:.0f} MiB/s per core")


def _download(url: str, target: Path) -> None:
    """What any client would do: bytes from the socket into a file, made durable."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
        connection.request("GET", f"/piecestore/{CID}")
        with connection.getresponse() as response, target.open("wb", buffering=0) as file:
            buffer = bytearray(MIB)
            while count := response.readinto(buffer):
                file.write(memoryview(buffer)[:count])
            os.fsync(file.fileno())


def transfer(root: Path) -> None:
    """A replica into a store beside ``cp`` and fsync; the source is cached for both."""
    source, ours, plain = root / "replica", root / "ours", root / "plain"
    random_file(source, REPLICA)

    def cp() -> None:
        subprocess.run(["cp", str(source), str(plain)], check=True)
        with plain.open("rb+") as file:
            os.fsync(file.fileno())

    def copy() -> None:
        copy_durable(source, ours)

    def prepared() -> None:
        source.read_bytes()
        for path in (ours, plain):
            path.unlink(missing_ok=True)

    beside("Persisting, checksum included", "cp and fsync", REPLICA, copy, cp, prepared)


def unsealing(root: Path) -> None:
    """Memory of unsealing a whole 8 MiB sector, in a process of its own."""
    sector = seal(root, 1, proof_type=PROOF_8_MIB)
    size = sectors.sector_size(PROOF_8_MIB)
    task = UnsealTask(
        registered_proof=sectors.proof_name(PROOF_8_MIB),
        prover_id=list(sectors.prover_id(MINER)),
        sector_id=1,
        comm_d=sector.comm_d,
        ticket=list(sector.ticket),
        cache_dir=str(root / "persist/cache" / sector.text),
        sealed_file=str(root / "persist/sealed" / sector.text),
        unsealed_output=str(root / "out"),
        offset=0,
        num_bytes=sectors.unpadded(size),
    )
    (root / "task.json").write_bytes(msgspec.json.encode(task))
    program = (
        "import re, pathlib, sys\nfrom damocles_worker import _native\n"
        "status = pathlib.Path('/proc/self/status')\n"
        "before = status.read_text()\n"
        "_native.unseal(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(before + status.read_text())\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, str(root / "task.json")], check=True, capture_output=True, text=True
    ).stdout
    before, peak = (int(kib) / 1024 for kib in re.findall(r"VmHWM:\s+(\d+)", output))
    print(
        f"Unsealing 8 MiB: at most {peak - before:.0f} MiB of memory, {2 * size // MIB} MiB are two sectors"
    )


def main() -> None:
    """Run every measurement in a directory of its own."""
    for measure in (staging, transfer, unsealing):
        with tempfile.TemporaryDirectory(prefix="damocles-bench-") as name:
            measure(Path(name))


if __name__ == "__main__":
    main()
