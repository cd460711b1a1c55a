"""Sizes: what the picker offers, and the verdict on each.

Pure. A verdict is the decision on an ask, with the piece that it would be: what was granted,
or what an empty machine would give. *Runs* are the verdicts on all block counts, and on all
whole GB, joined where neighbours share one: a page can answer any number without asking again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

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
from aliquot.domain.shares import Blocks, Memory, Share, Slice

_MB_PER_GB = 1000
_BYTES_PER_MIB = 1 << 20


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
    """Amounts ``first`` to ``last`` share a state and a reason: blocks, or whole GB."""

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
    ideal = place(ask.share, inventory.emptied, nobody, model=ask.model, isolated=ask.isolated)
    return Verdict(ask, decision, ideal if isinstance(ideal, Placement) else None)


def offered_shares(presets: Sequence[Share], inventory: Inventory) -> tuple[Share, ...]:
    """The presets, then each MIG profile that exists, smallest first; none twice."""
    return tuple(dict.fromkeys([*presets, *map(Slice, inventory.profiles)]))


def most_blocks(inventory: Inventory) -> int:
    """The largest share in blocks that the machine could ever hold."""
    return max(map(len, inventory.pools), default=0) * BLOCKS_PER_GPU


def block_runs(ask: Ask, person: Person, situation: Situation) -> tuple[Run, ...]:
    """The verdicts on 1 to ``most_blocks`` blocks, with the ask's group, model and isolation."""
    inventory = situation.inventory
    if isinstance(inventory, Unreadable):
        return ()
    # Across a hundred a larger share can be easier: a whole GPU where no blocks are offered.
    hundreds = range(BLOCKS_PER_GPU, most_blocks(inventory) + 1, BLOCKS_PER_GPU)
    ends = [end for hundred in hundreds for end in (hundred - 1, hundred)]
    return _runs(ends, Blocks, ask, person, situation)


def memory_runs(ask: Ask, person: Person, situation: Situation) -> tuple[Run, ...]:
    """The verdicts on whole GB of memory, from 1 to the most that the machine could ever hold."""
    inventory = situation.inventory
    if isinstance(inventory, Unreadable):
        return ()
    # As with blocks: the memory of one GPU, of two …, and that of one block less.
    ends = {
        _gigabytes_within(pool[0].memory_mib * (BLOCKS_PER_GPU * count - less) // BLOCKS_PER_GPU)
        for pool in inventory.pools
        for count in range(1, len(pool) + 1)
        for less in (0, 1)
    }
    ends |= {_gigabytes_within(d.memory_mib) for gpu in inventory.gpus for d in gpu.mig_devices}
    return _runs(
        sorted(ends - {0}), lambda amount: Memory(amount * _MB_PER_GB), ask, person, situation
    )


def _gigabytes_within(mib: int) -> int:
    """Whole GB of 10^9 bytes that so many MiB carry."""
    return mib * _BYTES_PER_MIB // (_MB_PER_GB * 1_000_000)


def _runs(
    ends: Sequence[int],
    share_of: Callable[[int], Share],
    ask: Ask,
    person: Person,
    situation: Situation,
) -> tuple[Run, ...]:
    """The verdicts on every amount up to the last of ``ends``, between which one group never
    finds a larger share easier, so that its stretches are found by halving.

    Over several groups an answer can come back (the group that came closest changes), so each
    group's stretches are found alone. Where models have different weights a larger share can
    be cheaper, and every amount is judged.
    """
    mine = situation.tree.of_person(person.groups)
    asks = [ask] if ask.group is not None or not mine else [replace(ask, group=g) for g in mine]
    inventory = situation.inventory
    assert not isinstance(inventory, Unreadable)
    even = len({situation.weights.get(model, 1) for model in inventory.models}) <= 1

    def judged(of: Ask, amount: int) -> Decision:
        return judge(of.with_share(share_of(amount)), person, situation)

    found: list[Run] = []
    first = 1
    for end in ends:
        lasts: Iterable[int] = range(first, end + 1)
        if even:
            lasts = {last for of in asks for last in _lasts(first, end, partial(judged, of))}
        for last in sorted(lasts):
            found.append(Run(first, last, judged(ask, first)))
            first = last + 1
    return tuple(_joined(found))


def _lasts(first: int, end: int, at: Callable[[int], Decision]) -> Iterator[int]:
    """The last amount of each stretch from ``first`` to ``end``."""
    at_end = _key(at(end))
    while first <= end:
        key = _key(at(first))
        low, high = first, end
        if key == at_end:
            low = end
        while low < high:
            middle = (low + high + 1) // 2
            if _key(at(middle)) == key:
                low = middle
            else:
                high = middle - 1
        yield low
        first = low + 1


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
