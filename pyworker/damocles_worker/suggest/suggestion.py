"""From a root of ``/sys`` and ``/proc`` and the operator's wishes to the text of a configuration."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, structs

from damocles_worker.errors import WorkerError
from damocles_worker.hardware.hwinfo import read_hardware
from damocles_worker.suggest.forecast import forecast
from damocles_worker.suggest.host import Host, host_of
from damocles_worker.suggest.layout import arrange
from damocles_worker.suggest.text import configuration
from damocles_worker.suggest.wishes import Wishes
from damocles_worker.version import has_gpu_code


class Suggestion(Struct, frozen=True):
    """A configuration, and a line per thing of the machine that could not be read."""

    text: str
    not_read: tuple[str, ...]


def suggest(wishes: Wishes, root: Path = Path("/")) -> Suggestion:
    """A configuration for the machine below ``root``; :class:`WorkerError` if it can't seal such sectors."""
    hardware = read_hardware(root)
    on_gpus = wishes.gpu_program is not None or (has_gpu_code() and bool(hardware.gpus))
    wishes = structs.replace(wishes, on_gpus=on_gpus)
    host = host_of(hardware, wishes, live=root == Path("/"))
    layout = arrange(host, wishes)
    expected = forecast(host, wishes, layout)
    notes = [] if on_gpus else _idle_gpus(host, wishes)
    return Suggestion(configuration(host, wishes, layout, expected, notes), tuple(hardware.not_read))


def _idle_gpus(host: Host, wishes: Wishes) -> list[str]:
    """What the machine's GPUs would be worth to a program that has code for them."""
    if not host.gpus:
        return []
    with_gpus = structs.replace(wishes, on_gpus=True)
    try:
        per_day = forecast(host, with_gpus, arrange(host, with_gpus)).per_day
    except WorkerError:
        return []
    return [
        "This build has no GPU code: the proofs above are computed on the cpu, and the GPU stays idle. With a"
        f" program that has it (`--gpu-program PATH`) about {per_day:.0f} sectors a day can be expected.",
    ]
