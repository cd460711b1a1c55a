"""Availability: everything that one person can be told about what they may start.

Pure. The picker, REST and the command line show the same value, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import Situation, Unreadable
from aliquot.domain.leases import Person
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Share
from aliquot.domain.sizes import Run, Verdict, block_runs, memory_runs, offered_shares, verdict


@dataclass(frozen=True, slots=True)
class GroupBalance:
    """What a group and the person in it hold, in blocks. ``cap_blocks`` None: no own cap."""

    name: str
    held_blocks: int
    nominal_blocks: int
    mine_blocks: int
    cap_blocks: int | None

    @property
    def free_blocks(self) -> int:
        return max(0, self.nominal_blocks - self.held_blocks)


@dataclass(frozen=True, slots=True)
class Availability:
    """``asked`` holds the group, model and isolation that the verdicts are about; ``runs`` are
    over blocks, ``memory_runs`` over whole GB."""

    person: Person
    asked: Ask
    groups: tuple[GroupBalance, ...]
    verdicts: tuple[Verdict, ...]
    runs: tuple[Run, ...]
    memory_runs: tuple[Run, ...]
    inventory: Inventory | Unreadable

    @property
    def simulated(self) -> bool:
        return isinstance(self.inventory, Inventory) and self.inventory.simulated


def availability(
    asked: Ask, person: Person, situation: Situation, presets: Sequence[Share]
) -> Availability:
    """The verdicts on all offered sizes for one person.

    A group that the person is not in is dropped from ``asked``: the page then shows what
    would really happen, and a start with that group is refused with its reason.
    """
    tree = situation.tree
    mine = tree.of_person(person.groups)
    if asked.group not in mine:
        asked = replace(asked, group=None)
    inventory = situation.inventory
    shares = () if isinstance(inventory, Unreadable) else offered_shares(presets, inventory)
    return Availability(
        person=person,
        asked=asked,
        groups=tuple(_balance(name, person, situation) for name in mine),
        verdicts=tuple(verdict(asked.with_share(s), person, situation) for s in shares),
        runs=block_runs(asked, person, situation),
        memory_runs=memory_runs(asked, person, situation),
        inventory=inventory,
    )


def _balance(name: str, person: Person, situation: Situation) -> GroupBalance:
    quota = situation.tree.groups[name].quota
    cap = quota.per_person
    return GroupBalance(
        name,
        held_blocks=situation.books.held_by_group(name).blocks,
        nominal_blocks=quota.nominal.whole_blocks_within,
        mine_blocks=situation.books.held_by_person(name, person.user_id).blocks,
        cap_blocks=None if cap is None else cap.whole_blocks_within,
    )
