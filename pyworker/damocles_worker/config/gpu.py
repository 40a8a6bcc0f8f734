"""Configurations that count on a GPU: where this build has no code for one, or would not use it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from damocles_worker.config.corehours import ENGINE_OF, STAGES, core_hours, gains_by_ifma
from damocles_worker.config.crosscheck import exclude_each_other, processors_of
from damocles_worker.config.findings import Report
from damocles_worker.config.settings import Processor, Settings
from damocles_worker.hardware.cpulist import parse_cpu_list
from damocles_worker.sectors import SECTOR_SIZES, size_name
from damocles_worker.version import has_gpu_code

_TRUE = ("1", "true", "on", "yes")
_BIN = 'bin = "/path/to/program"'
_DEVICES = "CUDA_VISIBLE_DEVICES"
#: Names the model of a GPU that the proofs library does not know.
_MODEL = "BELLMAN_CUSTOM_GPU"
_32GIB = SECTOR_SIZES["32GiB"]
#: What gives a stage to the proofs library's code.
LIBRARY = "crate"
#: The devices of who asks for a GPU and names none.
_EVERY = frozenset(["every"])


def check(settings: Settings, report: Report) -> None:
    """Warn of built-in stages that ask for a GPU, and of processors that can meet on one."""
    size = _largest_size(settings)
    for path, stage, processor in processors_of(settings):
        asking = asks_for_gpu(processor.envs)
        if stage in STAGES and processor.bin is None and asking and not has_gpu_code():
            cpus = len(parse_cpu_list(processor.cpuset)) if processor.cpuset else None
            on = "" if cpus is None else f"the {cpus} cpus of its cpuset"
            hours = expected_hours(stage, size, cpus, on, library=_is_the_librarys(stage, processor.envs))
            report.warning(
                f"{path}.envs",
                settings.positions.get(f"{path}.envs", (1, 1)),
                f"{request(asking)} for a GPU, but this build has no GPU code: {stage} runs on the cpu, "
                + hours,
                f"the way out is a processor with GPU code ({_BIN}); to accept the cpu remove "
                + enumeration(asking),
            )
    for second, first, shared in _shared_devices(settings, {}):
        _warn_of_shared(settings, second, first, shared, report)


def check_host(settings: Settings, environ: Mapping[str, str], cpus: int, report: Report) -> None:
    """What of the same depends on the daemon's environment, on its build and on its number of cpus."""
    _check_environment(settings, environ, cpus, report)
    size = _largest_size(settings)
    for path, stage, processor in processors_of(settings):
        if processor.bin is not None or stage not in STAGES:
            continue
        if has_gpu_code():
            _check_engine(settings, path, stage, processor, environ, report)
        elif asks_for_gpu(processor.envs) and not processor.cpuset and size >= _32GIB:
            library = _is_the_librarys(stage, processor.envs)
            report.warning(
                path,
                settings.positions.get(path, (1, 1)),
                f"{stage}, which asks for a GPU, has no cpuset: "
                + expected_hours(stage, size, cpus, f"the {cpus} cpus of this host", library=library),
                f"the way out is a processor with GPU code ({_BIN})",
            )
    known = {(second, first) for second, first, _ in _shared_devices(settings, {})}
    for second, first, shared in _shared_devices(settings, environ):
        if (second, first) not in known:
            _warn_of_shared(settings, second, first, shared, report)


def _check_environment(settings: Settings, environ: Mapping[str, str], cpus: int, report: Report) -> None:
    """Stages inside the worker, and children without variables of their own, have the daemon's."""
    asking = asks_for_gpu(environ)
    if not asking:
        return
    before = f"in the environment {request(asking)} for a GPU, but "
    if not has_gpu_code():
        on = f"the {cpus} cpus of this host"
        pc2, c2 = (
            expected_hours(stage, _32GIB, cpus, on, library=_is_the_librarys(stage, environ))
            for stage in ("pc2", "c2")
        )
        report.warning(
            "",
            (1, 1),
            f"{before}this build has no GPU code: stages inside the worker run on the cpu. PC2 takes {pc2};"
            f" C2 takes {c2}",
            f"unset {enumeration(asking)}, or give those stages processors with GPU code",
        )
        return
    inside = [stage for stage in ("pc2", "c2") if not settings.processors.stages.get(stage)]
    engines = [stage for stage in inside if not _is_the_librarys(stage, environ)]
    if engines:
        switches = enumeration([f"{ENGINE_OF[stage]}={LIBRARY}" for stage in engines])
        report.warning(
            "",
            (1, 1),
            f"{before}stages inside the worker ({enumeration(engines)}) run on this program's own engine, on"
            " the cpu: only the proofs library's code uses GPUs",
            f"set {switches}, or unset {enumeration(asking)}",
        )


def _check_engine(
    settings: Settings,
    path: str,
    stage: str,
    processor: Processor,
    environ: Mapping[str, str],
    report: Report,
) -> None:
    """A build with GPU code uses it only where the proofs library computes the stage."""
    asking, environment = asks_for_gpu(processor.envs), _environment(processor, environ)
    if not asking or _is_the_librarys(stage, environment):
        return
    place = f"{path}.envs"
    report.warning(
        place,
        settings.positions.get(place, (1, 1)),
        f"{request(asking)} for a GPU, but {stage} runs on this program's own engine, on the cpu: only the"
        " proofs library's code uses GPUs",
        f'add {ENGINE_OF[stage]} = "{LIBRARY}" to envs; to accept the cpu remove {enumeration(asking)}',
    )


def _is_the_librarys(stage: str, environment: Mapping[str, str]) -> bool:
    variable = ENGINE_OF.get(stage)
    return variable is None or environment.get(variable) == LIBRARY


def _environment(processor: Processor, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of a child of a daemon that has ``environ``."""
    return {**(environ if processor.inherit_envs else {}), **processor.envs}


def asks_for_gpu(envs: Mapping[str, str]) -> list[str]:
    """The variables that ask for a GPU."""
    if envs.get("BELLMAN_NO_GPU"):
        return []
    switches = [
        name
        for name, value in envs.items()
        if (name.startswith("FIL_PROOFS_USE_GPU_") and value.strip().lower() in _TRUE)
        or (name == _MODEL and value.strip())
    ]
    return [*switches, _DEVICES] if _devices(envs) else switches


def _devices(envs: Mapping[str, str]) -> frozenset[str]:
    """Devices made visible: numbers or UUIDs; the list ends at the first -1."""
    devices: list[str] = []
    for device in re.split(r"[,\s]+", envs.get(_DEVICES, "").strip()):
        if not device or device in ("-1", "none", "NoDevFiles"):
            break
        devices.append(device)
    return frozenset(devices)


def _largest_size(settings: Settings) -> int:
    """The largest sector size the file allows; 32 GiB, mainnet's usual size, if it allows any."""
    sizes = [size for thread in settings.threads for size in thread.sealing.allowed_sizes or (_32GIB,)]
    return max(sizes, default=_32GIB)


def expected_hours(stage: str, size: int, cpus: int | None, on: str, *, library: bool) -> str:
    """What a stage takes, in words; ``cpus`` None: on how many is not known, else ``on`` names them."""
    if size < _32GIB:
        return f"which for a {size_name(size)} sector is a matter of minutes"
    hours = [core_hours(stage, size, ifma=False, library=library)]
    if gains_by_ifma(stage) and not library:
        hours.append(core_hours(stage, size, ifma=True))
    what = "partition" if stage == "window_post" else f"{size_name(size)} sector"
    shown = _numbers(hours)
    text = f"about {shown[0]} core-hours for one {what}"
    text += f" ({shown[1]} with AVX-512 IFMA)" if len(shown) > 1 else ""
    if cpus is None:
        return text
    shown = _numbers(number / cpus for number in hours)
    with_ifma = f" ({shown[1]} with it)" if len(shown) > 1 else ""
    return f"{text}, so about {shown[0]} hours{with_ifma} on {on}"


def _numbers(hours: Iterable[float]) -> list[str]:
    return [_two_digits(number) for number in hours]


def _two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 0.1 else f"{number:.2f}"


def request(variables: list[str]) -> str:
    """``A asks``, ``A and B ask``."""
    return f"{enumeration(variables)} {'asks' if len(variables) == 1 else 'ask'}"


def enumeration(names: list[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _shared_devices(
    settings: Settings, environ: Mapping[str, str]
) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Pairs of processors (the later one first) that no lock keeps apart, with the devices they share."""
    users = [
        (path, processor, devices)
        for path, stage, processor in processors_of(settings)
        if (devices := _devices_of(stage, processor, environ))
    ]
    for (first, one, first_devices), (second, other, second_devices) in combinations(users, 2):
        shared = first_devices & second_devices
        if _EVERY in (first_devices, second_devices):
            shared = (first_devices | second_devices) - _EVERY or _EVERY
        if shared and not exclude_each_other(one, other, settings.processors.ext_locks):
            yield second, first, shared


def _devices_of(stage: str, processor: Processor, environ: Mapping[str, str]) -> frozenset[str]:
    """The devices a processor works on; those it is not told itself count where it can use them."""
    named = _devices(processor.envs)
    if named or (processor.bin is None and not has_gpu_code()) or stage not in STAGES:
        return named
    environment = _environment(processor, environ)
    if not asks_for_gpu(environment):
        return frozenset()
    return _devices(environment) if _DEVICES in environment else _EVERY


def _warn_of_shared(
    settings: Settings, second: str, first: str, shared: frozenset[str], report: Report
) -> None:
    place = f"{second}.envs"
    every = shared == _EVERY
    what = "every GPU, none being named," if every else f"GPU {', '.join(sorted(shared))}"
    report.warning(
        place,
        settings.positions.get(place, settings.positions.get(second, (1, 1))),
        f"{what} is also given to {first}, and no lock keeps them apart",
        "declare a lock with 1 below [processors.ext_locks] and name it in the locks of both"
        + f", or give each a device of its own ({_DEVICES})" * every,
    )
