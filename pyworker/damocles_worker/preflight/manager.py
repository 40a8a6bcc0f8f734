"""The manager: does it answer, does it know the stores, do the clocks agree?"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.preflight.lines import Level, Line

_AREA = "manager"
#: An epoch of the chain: tickets and seeds are counted in these.
_EPOCH = 30.0
#: Seconds of difference that a clock held by NTP doesn't show, the answer's travelling time included.
_TOLERATED = 5.0


class ManagerView(Struct, frozen=True):
    """What the manager said. ``error`` is why it said nothing; ``clock_ahead`` None: no ``Date`` came."""

    origin: str
    version: str = ""
    error: str = ""
    next_step: str = ""
    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    clock_ahead: float | None = None

    @property
    def is_devnet(self) -> bool:
        """Whether it is this program's embedded manager."""
        return self.version == "devnet"


async def ask(manager: ManagerClient, stores: Iterable[str]) -> ManagerView:
    """Ask for the version, and for every attached store by its name; never raises."""
    origin = manager.address.origin
    known: list[str] = []
    unknown: list[str] = []
    try:
        version = await _version(manager)
        for name in stores:
            (unknown if await manager.store_basic_info(name) is None else known).append(name)
    except RpcError as error:
        return ManagerView(origin, error=error.cause, next_step=error.next_step)
    return ManagerView(
        origin, version, known=tuple(known), unknown=tuple(unknown), clock_ahead=manager.clock_ahead
    )


async def _version(manager: ManagerClient) -> str:
    """What it calls itself; a manager that answers without telling is no reason not to go on."""
    try:
        return await manager.version()
    except RpcError as error:
        if error.waits_for is not None:
            raise
        return "unknown"


def look(view: ManagerView) -> list[Line]:
    """A line for the manager, one per attached store, one for the clocks."""
    if view.error:
        return [Line("problem", _AREA, view.origin, view.error, "an answer", view.next_step)]
    lines = [Line("ok", _AREA, view.origin, f"answers, version {view.version}")]
    lines += [Line("ok", "stores", name, "known to the manager") for name in view.known]
    lines += [
        Line(
            "problem",
            "stores",
            name,
            "the manager does not know this store",
            "its name or path in the manager's Common.PersistStores",
            'write name = "..." in its [[attached]], or add it there and restart the manager',
        )
        for name in view.unknown
    ]
    return [*lines, _clock(view.clock_ahead)]


def _clock(ahead: float | None) -> Line:
    needed = f"at most {_TOLERATED:.0f} s"
    if ahead is None:
        return Line(
            "warning",
            "clock",
            "this host",
            "the manager sends no Date to compare with",
            needed,
            "timedatectl",
        )
    amount, which = f"{abs(ahead):.0f} s", "behind" if ahead > 0 else "ahead of"
    if abs(ahead) <= _TOLERATED:
        return Line("ok", "clock", "this host", f"agrees with the manager's, {amount} apart", needed)
    level: Level = "problem" if abs(ahead) >= _EPOCH else "warning"
    found = f"{amount} {which} the manager's"
    return Line(
        level, "clock", "this host", found, needed, "timedatectl set-ntp true (on the host that is wrong)"
    )
