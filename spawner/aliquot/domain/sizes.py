"""Sizes: what the picker offers, and the verdict on each.

Pure. A verdict is the decision on an ask, with the piece that it would be: what was granted,
or what an empty machine would give. *Runs* are the verdicts on all block counts, joined where
neighbours share one, so that a page can answer any number without asking again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from aliquot.domain.admission import decide
from aliquot.domain.books import Books
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import (
    Decision,
    Grant,
    NeedsApproval,
    Situation,
    Unreadable,
    Wait,
    judge,
    reason_of,
)
from aliquot.domain.leases import Person, Placement
from aliquot.domain.placement import place
from aliquot.domain.refusals import Ask, Reason
from aliquot.domain.shares import Blocks, Share, Slice

DEFAULT_PRESETS: tuple[Share, ...] = (Blocks(10), Blocks(25), Blocks(50), Blocks(100))


class State(StrEnum):
    """A verdict in one word."""

    NOW = "now"
    LATER = "later"
    APPROVAL = "approval"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``piece`` is None when no machine state would give one."""

    ask: Ask
    decision: Decision
    piece: Placement | None

    @property
    def state(self) -> State:
        return state_of(self.decision)


@dataclass(frozen=True, slots=True)
class Run:
    """Block counts ``first`` to ``last`` share a state and a reason."""

    first: int
    last: int
    decision: Decision

    @property
    def state(self) -> State:
        return state_of(self.decision)


def state_of(decision: Decision) -> State:
    match decision:
        case Grant():
            return State.NOW
        case Wait():
            return State.LATER
        case NeedsApproval():
            return State.APPROVAL
        case _:
            return State.NO


def verdict(ask: Ask, person: Person, situation: Situation) -> Verdict:
    decision = decide(ask, person, situation)
    if isinstance(decision, Grant):
        return Verdict(ask, decision, decision.placement)
    inventory = situation.inventory
    if isinstance(inventory, Unreadable):
        return Verdict(ask, decision, None)
    nobody = Books((), situation.tree)
    ideal = place(ask.share, inventory, nobody, model=ask.model, isolated=ask.isolated)
    return Verdict(ask, decision, ideal if isinstance(ideal, Placement) else None)


def offered_shares(presets: Sequence[Share], inventory: Inventory) -> tuple[Share, ...]:
    """The presets, then each MIG profile that exists, smallest first; none twice."""
    return tuple(dict.fromkeys([*presets, *map(Slice, inventory.profiles)]))


def most_blocks(inventory: Inventory) -> int:
    """The largest share in blocks that the machine could ever hold."""
    return max(map(len, inventory.pools), default=0) * BLOCKS_PER_GPU


def block_runs(ask: Ask, person: Person, situation: Situation) -> tuple[Run, ...]:
    """The verdicts on 1 to ``most_blocks`` blocks, with the ask's group, model and isolation.

    Within a hundred a larger share is never easier, so the ends of a stretch are found by
    halving; across a hundred it can be (a whole GPU where no blocks are offered).
    """
    inventory = situation.inventory
    if isinstance(inventory, Unreadable):
        return ()

    def at(count: int) -> Decision:
        return judge(ask.with_share(Blocks(count)), person, situation)

    stretches: list[Run] = []
    for base in range(0, most_blocks(inventory), BLOCKS_PER_GPU):
        stretches.extend(_stretches(base + 1, base + BLOCKS_PER_GPU - 1, at))
        stretches.append(Run(base + BLOCKS_PER_GPU, base + BLOCKS_PER_GPU, at(base + 100)))
    return tuple(_joined(stretches))


def _stretches(first: int, last: int, at: Callable[[int], Decision]) -> Iterator[Run]:
    decision = at(first)
    while first <= last:
        low, high = first, last
        while low < high:
            middle = (low + high + 1) // 2
            if _key(at(middle)) == _key(decision):
                low = middle
            else:
                high = middle - 1
        yield Run(first, low, decision)
        first = low + 1
        if first <= last:
            decision = at(first)


def _joined(runs: Sequence[Run]) -> Iterator[Run]:
    current: Run | None = None
    for run in runs:
        if current is not None and _key(current.decision) == _key(run.decision):
            current = Run(current.first, run.last, current.decision)
            continue
        if current is not None:
            yield current
        current = run
    if current is not None:
        yield current


def _key(decision: Decision) -> tuple[State, Reason | None]:
    state = state_of(decision)
    return state, None if isinstance(decision, Grant) else reason_of(decision).reason
