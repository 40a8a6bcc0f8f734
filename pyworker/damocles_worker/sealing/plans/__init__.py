"""The plans a sealing thread can run, by the name used in ``[[sealing_thread]] plan``.

``niporep`` is not among them: the manager hands out no sector for it.
"""

from damocles_worker.errors import Level, WorkerError
from damocles_worker.sealing.machine.plan import Plan
from damocles_worker.sealing.plans.rebuild import REBUILD
from damocles_worker.sealing.plans.sealer import SEALER
from damocles_worker.sealing.plans.snapup import SNAPUP
from damocles_worker.sealing.plans.unseal import UNSEAL
from damocles_worker.sealing.plans.wdpost import WDPOST

PLANS: dict[str, Plan] = {plan.name: plan for plan in (SEALER, SNAPUP, REBUILD, UNSEAL, WDPOST)}


def plan_named(name: str) -> Plan:
    """The plan of that name; :class:`WorkerError` (critical) that lists the known ones otherwise."""
    plan = PLANS.get(name)
    if plan is None:
        raise WorkerError(
            f"this program has no plan {name} (known: {', '.join(sorted(PLANS))})",
            level=Level.CRITICAL,
            next_step="Set [[sealing_thread]] plan to one of these and restart",
        )
    return plan
