"""What a layout can be expected to seal, and what holds it back."""

from __future__ import annotations

import math

from msgspec import Struct

from damocles_worker.sealcalc import MINUTES_PER_DAY, Plan, simulate
from damocles_worker.suggest.durations import PROOF_STAGES, SEED_MINUTES, durations_of
from damocles_worker.suggest.host import Host
from damocles_worker.suggest.layout import Layout, hours_of
from damocles_worker.suggest.wishes import Wishes

#: Days until the pipeline is full, and days that are counted.
_FILLING, _COUNTED = 10, 20


class Forecast(Struct, frozen=True):
    """Sectors a day; ``parts`` are those that each part alone could do, the bottleneck first."""

    per_day: float
    parts: tuple[tuple[str, float], ...]
    #: What was simulated.
    plan: Plan


def forecast(host: Host, wishes: Wishes, layout: Layout) -> Forecast:
    """Simulate the pipeline with the assumed durations, in whole minutes."""
    plan = _plan(host, wishes, layout)
    rows = {row.minute: row.finished for row in simulate(plan)}
    done = rows[(_FILLING + _COUNTED - 1) * MINUTES_PER_DAY] - rows[(_FILLING - 1) * MINUTES_PER_DAY]
    parts = sorted(
        ((_name(part, host, wishes, layout), 24 * rate) for part, rate in layout.division.rates.items()),
        key=lambda part: part[1],
    )
    return Forecast(done / _COUNTED, tuple(parts), plan)


def _plan(host: Host, wishes: Wishes, layout: Layout) -> Plan:
    """The stages as ``sealcalc`` has them.

    It knows no turns: each of the two proof stages is given the time of both. An upgrade has neither PC1
    nor a seed: there the first proof stage stands in PC1's place and the others pass in a minute.
    """
    division = layout.division
    durations = durations_of(host, wishes)
    cores = division.proving_cores / division.provings
    proof = _minutes(sum(hours_of(host, wishes, stage, cores) for stage in PROOF_STAGES[wishes.plan]))
    upgrade = wishes.goal == "snapup"
    return Plan(
        tree_d_mins=_minutes(durations.tree_d_hours),
        tree_d_concurrent=1,
        pc1_mins=proof if upgrade else _minutes(durations.pc1_hours(division.lanes)),
        pc1_concurrent=division.provings if upgrade else sum(division.sectors),
        pc2_mins=1 if upgrade else proof,
        pc2_concurrent=division.threads if upgrade else division.provings,
        c2_mins=proof,
        c2_concurrent=division.provings,
        sealing_threads=division.threads,
        seed_mins=1 if upgrade else SEED_MINUTES,
        calculate_days=_FILLING + _COUNTED,
        output_step=MINUTES_PER_DAY,
    )


def _minutes(hours: float) -> int:
    return max(1, math.ceil(60 * hours))


def _name(part: str, host: Host, wishes: Wishes, layout: Layout) -> str:
    """A part in words, with what it would take to make it larger."""
    if part == "threads":
        return "space for sealing stores"
    if part == "proofs":
        stages = " and ".join(PROOF_STAGES[wishes.plan])
        count = layout.division.provings
        where = (
            f"{count} GPU{'s' * (count > 1)}"
            if wishes.on_gpus
            else f"{layout.division.proving_cores} core(s)"
        )
        return f"{stages} in turns on {where}"
    sectors = sum(layout.division.sectors)
    limit = "" if sectors < layout.most_sectors else ", as many as memory and cores allow"
    return f"PC1 of {sectors} sector{'s' * (sectors > 1)} at once{limit}"
