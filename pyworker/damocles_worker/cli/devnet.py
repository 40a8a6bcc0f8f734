"""``damocles-worker devnet``: an embedded manager, for a first run and for tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import click

from damocles_worker.devnet.faults import Rule, parse_rules
from damocles_worker.devnet.options import Deals, Options
from damocles_worker.errors import UsageError
from damocles_worker.sectors import SECTOR_SIZES


@click.command()
@click.option(
    "--listen", default="127.0.0.1:1789", show_default=True, metavar="HOST:PORT", help="Port 0: a free one."
)
@click.option(
    "--miner", default=10000, show_default=True, type=click.IntRange(0), help="Actor id of the miner."
)
@click.option(
    "--sector-size",
    default="2KiB",
    show_default=True,
    type=click.Choice(list(SECTOR_SIZES), case_sensitive=False),
)
@click.option("--synthetic", is_flag=True, help="Hand out sectors of the synthetic proof type.")
@click.option("--sectors", type=click.IntRange(0), help="Hand out so many sectors, then none.")
@click.option(
    "--deals",
    default="alternate",
    show_default=True,
    type=click.Choice([choice.value for choice in Deals]),
    help="Which sectors get deals; alternate: those with an even number.",
)
@click.option(
    "--seed", default="devnet", show_default=True, help="Tickets, seeds and piece data follow from it."
)
@click.option("--epoch-seconds", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option(
    "--seed-delay", default=3, show_default=True, type=click.IntRange(0), help="Epochs until the seed."
)
@click.option(
    "--pending-polls",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="Polls before a message lands.",
)
@click.option(
    "--ticket-max-age",
    default=2880,
    show_default=True,
    type=click.IntRange(0),
    help="In epochs.",
)
@click.option(
    "--store",
    "stores",
    multiple=True,
    metavar="NAME[=DIR]",
    help="A persist store; with DIR, files said to be there are checked. Default: any name is a store.",
)
@click.option("--piece-token", help="Bearer token asked for where pieces are redirected to.")
@click.option("--piece-redirect", is_flag=True, help="Answer piece requests with a redirect to /resource.")
@click.option("--worker-prover", is_flag=True, help="Hand out WindowPoSt jobs, as a manager with this flag.")
@click.option(
    "--heartbeat-timeout",
    default=15.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds without a heartbeat until a WindowPoSt job is taken back.",
)
@click.option(
    "--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), help="Keep piece data here."
)
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rules (JSON) that make calls go wrong.",
)
def devnet(
    listen: str,
    miner: int,
    sector_size: str,
    synthetic: bool,
    sectors: int | None,
    deals: str,
    seed: str,
    epoch_seconds: float,
    seed_delay: int,
    pending_polls: int,
    ticket_max_age: int,
    stores: tuple[str, ...],
    piece_token: str | None,
    piece_redirect: bool,
    worker_prover: bool,
    heartbeat_timeout: float,
    data_dir: Path | None,
    faults_file: Path | None,
) -> None:
    """Serve a manager's interface from memory and verify what workers hand in.

    Runs until SIGINT or SIGTERM. The first line printed is "devnet listening on URL".
    """
    host, port = _split_listen(listen)
    options = Options(
        host=host,
        port=port,
        miner=miner,
        sector_size=SECTOR_SIZES[sector_size],
        synthetic=synthetic,
        sectors=sectors,
        deals=Deals(deals),
        seed=seed,
        epoch_seconds=epoch_seconds,
        seed_delay=seed_delay,
        pending_polls=pending_polls,
        ticket_max_age=ticket_max_age,
        stores=dict(_split_store(store) for store in stores),
        piece_token=piece_token,
        piece_redirect=piece_redirect,
        worker_prover=worker_prover,
        heartbeat_timeout=heartbeat_timeout,
        data_dir=data_dir,
    )
    asyncio.run(_serve(options, _read_faults(faults_file)))


async def _serve(options: Options, faults: list[Rule]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    from damocles_worker.devnet.server import Devnet  # loaded here: no other command needs it

    lines = _Lines()
    server = Devnet(options, faults=faults, say=lines.say)
    url = await server.start()
    lines.say(f"devnet listening on {url}")
    await stopped.wait()
    await server.stop()
    lines.close()


class _Lines:
    """Prints lines from a thread of its own: a reader that stops reading must not stop the server."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._thread = Thread(target=self._print, name="devnet-lines", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        self._waiting.put(line)

    def close(self) -> None:
        """Print what waits, if the reader takes it within a second."""
        self._waiting.put(None)
        self._thread.join(1.0)

    def _print(self) -> None:
        # Straight to the descriptor: a thread stuck in a buffered write would block the exit.
        while (line := self._waiting.get()) is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(1, f"{line}\n".encode())


def _split_listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {text!r}: expected HOST:PORT, for example 127.0.0.1:1789")
    return host.strip("[]"), int(port)


def _split_store(text: str) -> tuple[str, Path | None]:
    name, equals, directory = text.partition("=")
    if not name or (equals and not directory):
        raise UsageError(f"--store {text!r}: expected NAME or NAME=DIR")
    if equals and not Path(directory).is_dir():
        raise UsageError(f"--store {text!r}: {directory} is not a directory; create it first")
    return name, Path(directory) if equals else None


def _read_faults(path: Path | None) -> list[Rule]:
    if path is None:
        return []
    try:
        return parse_rules(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
