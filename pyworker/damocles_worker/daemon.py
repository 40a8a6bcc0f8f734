"""The daemon: puts the parts together, watches them, and stops them.

Order of a start: what can be wrong without the network comes first (ports, stores), then the manager is asked
for some seconds, children are started and the sealing threads begin; what else the host lacks is said in the
log beside their work. A manager that is down is said and waited for, never a reason to exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from damocles_worker import _native, instance, systemd
from damocles_worker.config import hot
from damocles_worker.config.schema import is_secret_name
from damocles_worker.config.settings import Settings, Thread
from damocles_worker.control.server import ControlServer
from damocles_worker.control.status import StatusReader
from damocles_worker.errors import Level
from damocles_worker.logs.secrets import hide
from damocles_worker.manager.address import parse_address
from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.manager.types import WorkerInfo, WorkerSummary
from damocles_worker.metrics.exporter import Exporter
from damocles_worker.metrics.worker import WorkerMetrics
from damocles_worker.preflight.manager import ManagerView, ask
from damocles_worker.preflight.start import say_in_background
from damocles_worker.preflight.work import pc1_at_once
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import PC1_CONCURRENT, TOKEN_VARIABLE
from damocles_worker.sealing import external
from damocles_worker.sealing.active import HOT_NEXT_STEP
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.stages import Services
from damocles_worker.sealing.thread import BlindDrainError, SealingThread
from damocles_worker.stores.attached import KnownStores, open_attached, unknown_stores
from damocles_worker.stores.measure import Store, attached_store, sealing_store
from damocles_worker.stores.pieces import PieceStore
from damocles_worker.stores.space import SpaceLedger
from damocles_worker.stores.upload import Uploader
from damocles_worker.version import version_text

log = logging.getLogger(__name__)

#: SIGTERM to exit, at most this long (seconds); what runs in a library call is abandoned.
STOP_TIMEOUT = 8.0
#: Seconds that the manager gets to answer about the stores before a start goes on without.
ANSWER_TIME = 10.0
#: Modules with this name prefix are sealing threads.
THREAD_MODULE = "thread-"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@dataclass
class Daemon:
    """A running worker. ``control_port`` is the port really bound (port 0 in tests)."""

    settings: Settings
    manager: ManagerClient
    threads: list[SealingThread]
    control: ControlServer
    exporter: Exporter
    processors: Pool
    known: KnownStores
    name: str
    control_port: int = 0


async def run(settings: Settings, on_ready: Callable[[Daemon], None] | None = None) -> int:
    """Run until a signal or a module's failure; answers the exit status.

    0 after SIGTERM, SIGINT or SIGQUIT, and when all threads are drained; 1 when a part could not start
    or failed, or a thread to be drained could not tell whether a sector is left.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _on_signal, stop, number)
    _hide_secrets(settings)
    _tell_engine(settings)
    address = parse_address(settings.manager.addr)
    manager = ManagerClient(address, headers=settings.manager.headers)
    try:
        daemon = await _built(settings, manager, address.origin, stop)
        if daemon is None:
            return 0
        if on_ready:
            on_ready(daemon)
        return await _watch(daemon, stop)
    finally:
        await manager.close()


async def _built(
    settings: Settings, manager: ManagerClient, origin: str, stop: asyncio.Event
) -> Daemon | None:
    """The daemon, or None when it is told to stop before all is there: a processor may take its time."""
    processors, limits = external.executor(settings.processors, _piece_token(settings))
    building = asyncio.create_task(_build(settings, manager, origin, processors, limits))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({building, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not building.done():
            building.cancel()
            await asyncio.wait({building}, timeout=STOP_TIMEOUT)
        if not building.done():
            return None
        if building.cancelled() or building.exception() is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(processors.stop(), STOP_TIMEOUT)
        return None if building.cancelled() else building.result()
    finally:
        stopping.cancel()


def _hide_secrets(settings: Settings) -> None:
    """Nothing that the configuration keeps secret appears in the log from now on."""
    hide([settings.manager.piece_token, os.environ.get(TOKEN_VARIABLE), *settings.manager.headers.values()])
    for processors in settings.processors.stages.values():
        for processor in processors:
            hide(value for name, value in processor.envs.items() if is_secret_name(name))


def _tell_engine(settings: Settings) -> None:
    """How many sectors PC1 in this process is given at once: its stage limit, where it has one.

    The engine shares its cores out by it, as a child's does by the child's ``concurrent``. What the
    environment says goes before.
    """
    at_once = pc1_at_once(settings)
    if at_once and "pc1" in settings.processors.concurrent and not settings.processors.stages.get("pc1"):
        os.environ.setdefault(PC1_CONCURRENT, str(at_once))


def _on_signal(stop: asyncio.Event, number: int) -> None:
    log.info("%s received: stopping", signal.Signals(number).name)
    systemd.notify("STOPPING=1")
    stop.set()


def _piece_token(settings: Settings) -> str | None:
    return settings.manager.piece_token or os.environ.get(TOKEN_VARIABLE)


async def _build(
    settings: Settings, manager: ManagerClient, origin: str, processors: Pool, limits: Scheduler
) -> Daemon:
    control_address = ControlServer.bind(settings.worker.rpc_host, settings.worker.rpc_port)
    metrics_address = Exporter.bind(settings.metrics.http_listen) if settings.metrics.enable else None
    # Only now: a network store that doesn't answer takes its time.
    found = await asyncio.to_thread(open_attached, settings.attached, settings.worker.scan_persist_stores)
    attached = {store.name: store for store in found}
    name, local_ip = await instance.identity(settings.worker.name, origin)
    known = KnownStores(lambda: _unknown_stores(manager, attached))
    await _first_look(settings, manager, attached, known)
    await processors.start()
    services = Services(
        processors=processors,
        limits=limits,
        space=SpaceLedger(),
        attached=attached,
        pieces=PieceStore(settings.worker.local_pieces_dirs, origin, _piece_token(settings)),
        uploads=Uploader(origin, attached),
        static_tree_d=settings.processors.static_tree_d,
        known=known,
    )
    refresh = _hot_refresher()
    threads: list[SealingThread] = []
    stores: list[Store] = []
    metrics = _metrics(manager, threads, processors, stores, {"worker_name": name, "worker_ip": local_ip})
    manager.observers.append(metrics.rpc.observe)
    threads += [
        SealingThread(config, services, manager, name, refresh, metrics.recorder)
        for config in settings.threads
    ]
    stores += [
        sealing_store(thread.config.location, services.space, thread.check_store)
        for thread in threads
        if thread.config.location is not None
    ]
    stores += [attached_store(store) for store in found]
    exporter = Exporter(metrics.text)
    if metrics_address is not None:
        await exporter.start(settings.metrics.http_listen, metrics_address)
    status = StatusReader(
        name,
        version_text(),
        origin,
        manager,
        lambda: [thread.info() for thread in threads],
        stores,
        processors.status,
        limits.usage,
    )
    control = ControlServer(threads, version_text(), status, processors)
    port = await control.start(settings.worker.rpc_host, settings.worker.rpc_port, control_address)
    log.info(
        "damocles-worker %s: %s, %d sealing threads, manager %s, control port %d",
        version_text(),
        name,
        len(threads),
        origin,
        port,
    )
    return Daemon(settings, manager, threads, control, exporter, processors, known, name, port)


async def _first_look(
    settings: Settings, manager: ManagerClient, attached: Iterable[str], known: KnownStores
) -> None:
    """A store unknown to the manager can't take a sector: said now, not after the seal.

    A manager that doesn't answer is asked again later.
    """
    view = await _view(manager, attached)
    if view.error:
        log.warning("the manager can't be asked about the attached stores yet, going on: %s", view.error)
    elif view.unknown:
        raise unknown_stores(view.unknown)
    else:
        known.told(())
    say_in_background(settings, view)


async def _unknown_stores(manager: ManagerClient, attached: Iterable[str]) -> tuple[str, ...] | None:
    view = await _view(manager, attached)
    return None if view.error else view.unknown


async def _view(manager: ManagerClient, attached: Iterable[str]) -> ManagerView:
    try:
        return await asyncio.wait_for(ask(manager, attached), ANSWER_TIME)
    except TimeoutError:
        return ManagerView(
            manager.address.origin,
            error=f"the manager at {manager.address.origin} has not answered for {ANSWER_TIME:g} s",
            next_step="See whether it is running and not overloaded",
        )


def _metrics(
    manager: ManagerClient,
    threads: list[SealingThread],
    processors: Pool,
    stores: list[Store],
    common: dict[str, str],
) -> WorkerMetrics:
    build = _native.version_info()
    return WorkerMetrics(
        common,
        {"version": version_text(), "profile": build["profile"], "cpu_features": build["cpu_features"]},
        manager,
        lambda: [thread.info() for thread in threads],
        stores,
        processors.status,
    )


def _hot_refresher() -> Callable[[Thread], tuple[Thread, Failure | None]]:
    """The settings of a thread with its hot file, and what the thread shows of the file.

    A broken file leaves the last good ones in force. Each warning is logged once for every change of the
    file, for it is read again and again.
    """
    in_force: dict[int, Thread] = {}
    logged: dict[str, tuple[int, set[str]]] = {}

    def log_new(path: str, warnings: list[str]) -> None:
        try:
            changed = Path(path).stat().st_mtime_ns
        except OSError:
            changed = 0
        at, known = logged.get(path, (changed, set()))
        known = known if at == changed else set()
        for warning in warnings:
            if warning not in known:
                log.warning("%s", warning)
        logged[path] = (changed, known | set(warnings))

    def refresh(thread: Thread) -> tuple[Thread, Failure | None]:
        if thread.location is None:
            return thread, None
        path = f"{thread.location}/{hot.HOT_FILE_NAME}"
        merged, findings = hot.hot_thread(thread, path, in_force.get(thread.index))
        in_force[thread.index] = merged
        said: dict[str, list[str]] = {"error": [], "warning": []}
        for found in findings:
            said[found.level].append(f"{path}:{found.line}: {found.path}: {found.message}")
        log_new(path, said["warning"])
        if said["error"]:
            cause = f"the hot file is not used: {'; '.join(said['error'])}"
            return merged, Failure(Level.CRITICAL, cause, HOT_NEXT_STEP)
        if said["warning"]:
            steps = dict.fromkeys(found.next_step for found in findings if found.next_step)
            cause = f"the hot file is in force, with a warning: {'; '.join(said['warning'])}"
            return merged, Failure(Level.TEMPORARY, cause, "; ".join(steps))
        return merged, None

    return refresh


# ---- modules ------------------------------------------------------------------------------------


async def _watch(daemon: Daemon, stop: asyncio.Event) -> int:
    """Run all modules until one of them fails, a stop is asked for, or all threads are drained."""
    modules: dict[str, Coroutine[Any, Any, None]] = {
        f"{THREAD_MODULE}{thread.config.index}": thread.run() for thread in daemon.threads
    }
    modules["ping"] = _ping(daemon)
    if systemd.watchdog_interval():
        modules["watchdog"] = systemd.feed_watchdog()
    tasks = {asyncio.create_task(module, name=name) for name, module in modules.items()}
    stopping = asyncio.create_task(stop.wait(), name="stop")
    systemd.notify("READY=1")
    failed = await _first_end(tasks, stopping)
    for task in failed:
        error = task.exception()
        said = isinstance(error, BlindDrainError)
        log.error("module %s ended: %s", task.get_name(), error, exc_info=None if said else error)
    stopping.cancel()
    for task in tasks:
        task.cancel()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_stopped(daemon, tasks), STOP_TIMEOUT)
    return 1 if failed else 0


async def _first_end(tasks: set[asyncio.Task[None]], stopping: asyncio.Task[Any]) -> list[asyncio.Task[None]]:
    """Wait for a reason to stop; answers the modules that failed.

    A drained thread ends without fault; one that can't tell whether it is lets the others finish first.
    """
    running = set(tasks)
    blind: list[asyncio.Task[None]] = []
    while True:
        done, _ = await asyncio.wait({*running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        ended = done & running
        running -= ended
        blind += [task for task in ended if isinstance(task.exception(), BlindDrainError)]
        failed = [
            task
            for task in ended
            if task not in blind and (task.exception() or not task.get_name().startswith(THREAD_MODULE))
        ]
        drained = not any(task.get_name().startswith(THREAD_MODULE) for task in running)
        if failed or stopping in done or drained:
            if drained and not failed and not blind:
                log.info("all threads are drained: stopping")
            return blind + failed


async def _stopped(daemon: Daemon, tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.gather(asyncio.wait(tasks), daemon.processors.stop())
    await daemon.control.stop()
    await daemon.exporter.stop()
    for thread in daemon.threads:
        if thread.store:
            await asyncio.to_thread(thread.store.close)


async def _ping(daemon: Daemon) -> None:
    while True:
        await asyncio.sleep(daemon.settings.worker.ping_interval)
        await daemon.known.look()
        # It may have changed, or have been unknown: a host with another lease, a network that came up late.
        dest = await instance.destination(daemon.manager.address.origin, daemon.control_port)
        infos = [thread.info() for thread in daemon.threads]
        summary = WorkerSummary(
            threads=len(infos),
            empty=sum(info.job_id is None for info in infos),
            paused=sum(info.state == "Paused" for info in infos),
            running=sum(info.state == "Running" for info in infos),
            waiting=sum(info.state == "Waiting" for info in infos),
            errors=sum(info.last_error is not None for info in infos),
        )
        try:
            await daemon.manager.worker_ping(WorkerInfo(daemon.name, dest, version_text(), summary))
        except RpcError as error:
            log.warning("ping failed: %s", error)
