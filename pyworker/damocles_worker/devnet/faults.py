"""Ordered misbehaviour: rules that say which calls go wrong and how."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec
from msgspec import Struct

from damocles_worker.manager.types import OnChainState

#: The methods whose answer is an on-chain state.
_POLLS = frozenset({"PollPreCommitState", "PollProofState"})


class Action(StrEnum):
    #: The connection is closed, the call not executed.
    REFUSE = "refuse"
    #: The call is executed, then the connection is closed.
    LOSE = "lose"
    #: The call is executed after ``seconds``.
    DELAY = "delay"
    #: A gateway's HTML page with status 502; not executed.
    HTTP502 = "http502"
    #: Bytes that are no JSON; not executed.
    GARBAGE = "garbage"
    #: The call is executed, the first half of its answer is sent.
    TRUNCATE = "truncate"
    #: The call is executed and answered with another id.
    WRONG_ID = "wrong-id"
    #: ``result`` is null; not executed.
    NULL = "null"
    #: A poll is answered with on-chain ``state``.
    NOT_LANDED = "not-landed"
    #: The sector is aborted on the manager's side, then the call is executed.
    ABORT = "abort"
    #: A JSON-RPC error of ``code`` and ``message``; not executed.
    ERROR = "error"


class Rule(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One rule. ``method`` is a glob over names without prefix.

    Piece requests are called ``piecestore``; they can be refused, delayed, truncated, and answered with
    garbage or a gateway's page.

    The rule fires from the ``nth`` matching call on (the first is 1, counted since the rule was given),
    ``count`` times, or for ever if that is null.
    """

    method: str
    action: Action
    nth: int = 1
    count: int | None = 1
    seconds: float = 1.0
    #: Name of an :class:`OnChainState`, as ``Failed``.
    state: str = "Failed"
    code: int = 1
    message: str = "ordered failure"

    def __post_init__(self) -> None:
        if self.state not in ON_CHAIN_STATES:
            raise ValueError(f"state {self.state!r}: expected one of {', '.join(ON_CHAIN_STATES)}")
        if self.nth < 1 or self.seconds < 0 or (self.count is not None and self.count < 1):
            raise ValueError("nth and count start at 1, and seconds are not negative")

    def applies_to(self, method: str) -> bool:
        if self.action is Action.NOT_LANDED and method not in _POLLS:
            return False
        return fnmatchcase(method, self.method)

    def fires_at(self, call: int) -> bool:
        return self.nth <= call and (self.count is None or call < self.nth + self.count)


ON_CHAIN_STATES: dict[str, int] = {
    "Pending": OnChainState.PENDING,
    "Packed": OnChainState.PACKED,
    "NotFound": OnChainState.NOT_FOUND,
    "Failed": OnChainState.FAILED,
    "PermFailed": OnChainState.PERM_FAILED,
    "ShouldAbort": OnChainState.SHOULD_ABORT,
}


def parse_rules(text: bytes) -> list[Rule]:
    """Rules from a JSON array; :class:`ValueError` with the path of what does not fit."""
    try:
        return msgspec.json.decode(text, type=list[Rule])
    except msgspec.DecodeError as error:
        raise ValueError(f"fault rules: {error}") from None


class Faults:
    """The rules in force, with their counts."""

    def __init__(self, rules: list[Rule] | None = None) -> None:
        self._rules: list[Rule] = []
        self._calls: list[int] = []
        self.add(rules or [])

    def add(self, rules: list[Rule]) -> None:
        self._rules += rules
        self._calls += [0] * len(rules)

    def clear(self) -> None:
        self._rules, self._calls = [], []

    def fire(self, method: str) -> Rule | None:
        """Count a call of ``method`` (without prefix) and give the first rule that fires for it."""
        fired = None
        for index, rule in enumerate(self._rules):
            if rule.applies_to(method):
                self._calls[index] += 1
                if fired is None and rule.fires_at(self._calls[index]):
                    fired = rule
        return fired
