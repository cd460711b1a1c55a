"""Admission: the decision, and for every "no" what would be a yes.

Pure. ``decide`` is what the picker, the reservation, REST and the command line ask. Remedies
are not guessed: each is a variant of the request or of the books that ``judge`` grants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
from aliquot.domain.leases import Lease, Person
from aliquot.domain.refusals import (
    WITHOUT_GPU,
    Ask,
    Reason,
    Refusal,
    Remedy,
    RemedyKind,
)
from aliquot.domain.shares import Blocks, Memory, Slice

# Reasons that no other request of this person could get around.
_FINAL = {
    Reason.LEDGER_UNAVAILABLE,
    Reason.GPU_STATE_UNREADABLE,
    Reason.NO_GPUS,
    Reason.NO_GROUP,
}

# Holders looked at one by one; a person can talk to a few.
_MOST_HOLDERS = 20


def decide(ask: Ask, person: Person, situation: Situation) -> Decision:
    """Judge, and give a "no" its remedies."""
    decision = judge(ask, person, situation)
    if isinstance(decision, Grant):
        return decision
    refusal = reason_of(decision)
    refusal = replace(refusal, remedies=tuple(_Search(ask, person, situation).all(refusal)))
    match decision:
        case Wait():
            return Wait(refusal)
        case NeedsApproval():
            return NeedsApproval(refusal)
        case _:
            return refusal


@dataclass(frozen=True, slots=True)
class _Search:
    """The variants of one request that would be granted."""

    ask: Ask
    person: Person
    situation: Situation

    def all(self, refusal: Refusal) -> Iterator[Remedy]:
        """Remedies in the order of their kinds, each at most once."""
        if refusal.reason not in _FINAL:
            yield from self._smaller(refusal)
            yield from self._other_piece()
            yield from self._any_model()
            yield from self._other_group()
            yield from self._books_of_later()
        else:
            yield Remedy(RemedyKind.ASK_ADMIN)
        yield WITHOUT_GPU

    def _granted(self, ask: Ask) -> Grant | None:
        decision = judge(ask, self.person, self.situation)
        return decision if isinstance(decision, Grant) else None

    def _inventory(self) -> Inventory:
        inventory = self.situation.inventory
        assert not isinstance(inventory, Unreadable)
        return inventory

    def _smaller(self, refusal: Refusal) -> Iterator[Remedy]:
        share = self.ask.share
        if isinstance(share, Slice):
            for profile in self._profiles_below(share.profile):
                ask = self.ask.with_share(Slice(profile))
                if (grant := self._granted(ask)) is not None:
                    yield _remedy(RemedyKind.SMALLER, ask, grant)
                    return
            return
        asked = share.count if isinstance(share, Blocks) else self._blocks_asked(refusal)
        ask = self.ask.with_share(Blocks(1))
        count = self._most_blocks(ask, refusal, asked - 1)
        if count:
            ask = self.ask.with_share(Blocks(count))
            grant = self._granted(ask)
            assert grant is not None
            yield _remedy(RemedyKind.SMALLER, ask, grant)

    def _blocks_asked(self, refusal: Refusal) -> int:
        """How many blocks a memory share was, at most a machine's worth."""
        asked = refusal.numbers.get("asked_blocks")
        return asked if isinstance(asked, int) else len(self._inventory().gpus) * BLOCKS_PER_GPU

    def _most_blocks(self, ask: Ask, refusal: Refusal, most: int) -> int:
        """The largest count up to ``most`` that is granted; 0 for none.

        The refusal's own numbers are tried first, since the answer is nearly always one of
        them; whole GPUs next, then by halving. Grants are not strictly monotonic in the
        count (a machine may offer whole GPUs only), so halving gives a granted count, and
        the largest where the grants below it are unbroken.
        """
        most = min(most, len(self._inventory().gpus) * BLOCKS_PER_GPU)
        hints = {n for n in refusal.numbers.values() if isinstance(n, int) and 0 < n <= most}
        wholes = range(BLOCKS_PER_GPU, most + 1, BLOCKS_PER_GPU)
        for count in sorted(hints, reverse=True):
            if self._granted(ask.with_share(Blocks(count))) is None:
                continue
            if count == most or self._granted(ask.with_share(Blocks(count + 1))) is None:
                return count
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._granted(ask.with_share(Blocks(middle))) is not None:
                low = middle
            else:
                high = middle - 1
        for count in reversed(wholes):
            if count <= low:
                break
            if self._granted(ask.with_share(Blocks(count))) is not None:
                return count
        return low

    def _profiles_below(self, profile: str) -> tuple[str, ...]:
        """The profiles smaller than one, largest first; all for one that does not exist."""
        profiles = self._inventory().profiles
        if profile in profiles:
            profiles = profiles[: profiles.index(profile)]
        return tuple(reversed(profiles))

    def _other_piece(self) -> Iterator[Remedy]:
        share, inventory = self.ask.share, self._inventory()
        options: list[Ask] = []
        if isinstance(share, Slice):
            memory = {
                device.profile: device.memory_mib
                for gpu in inventory.gpus
                for device in gpu.mig_devices
            }
            if share.profile in memory:
                megabytes = memory[share.profile] * (1 << 20) // 1_000_000
                options.append(replace(self.ask, share=Memory(megabytes), model=None))
        elif isinstance(share, Blocks) and not self.ask.isolated:
            options.append(replace(self.ask, isolated=True, model=None))
        elif self.ask.isolated:
            options.append(replace(self.ask, isolated=False))
        for ask in options:
            if (grant := self._granted(ask)) is not None:
                yield _remedy(RemedyKind.OTHER_PIECE, ask, grant)

    def _any_model(self) -> Iterator[Remedy]:
        if self.ask.model is None:
            return
        ask = replace(self.ask, model=None)
        if (grant := self._granted(ask)) is not None:
            yield _remedy(RemedyKind.ANY_MODEL, ask, grant)

    def _other_group(self) -> Iterator[Remedy]:
        if self.ask.group is None:
            return
        ask = replace(self.ask, group=None)
        if (grant := self._granted(ask)) is not None:
            ask = replace(ask, group=grant.group)
            yield _remedy(RemedyKind.OTHER_GROUP, ask, grant)

    def _books_of_later(self) -> Iterator[Remedy]:
        """Whose notebook must end: the person's own, the next ones by their time limits,
        or, of the person's groups, the largest without one."""
        leases = self.situation.books.leases
        own = [lease for lease in leases if lease.user_id == self.person.user_id]
        own.sort(key=lambda lease: (lease.charge.blocks, lease.reserved_at, lease.id))
        stopping = next(([lease] for lease in own[:_MOST_HOLDERS] if self._grants_without([lease])), None)
        if stopping is None and len(own) > 1 and self._grants_without(own):
            stopping = own
        if stopping is not None:
            servers = ", ".join(lease.server.name or "default" for lease in stopping)
            blocks = sum(lease.charge.blocks for lease in stopping)
            yield Remedy(
                RemedyKind.STOP_OWN, {"servers": servers, "held_blocks": blocks}, self.ask
            )
        others = [lease for lease in leases if lease.user_id != self.person.user_id]
        ending = sorted(
            (lease for lease in others if lease.until is not None),
            key=lambda lease: (lease.until, lease.id),
        )
        low, high = 0, len(ending)
        if ending and self._grants_without(ending):
            while low + 1 < high:
                middle = (low + high) // 2
                if self._grants_without(ending[:middle]):
                    high = middle
                else:
                    low = middle
            last = ending[high - 1]
            assert last.until is not None
            yield Remedy(RemedyKind.WHEN_ENDS, {"ends_at": last.until}, self.ask)
            return
        colleagues = [lease for lease in others if lease.group in self.person.groups]
        colleagues.sort(key=lambda lease: (-lease.charge.blocks, lease.reserved_at, lease.id))
        for lease in colleagues[:_MOST_HOLDERS]:
            if self._grants_without([lease]):
                yield Remedy(
                    RemedyKind.ASK_HOLDER,
                    {
                        "holder": lease.user_name,
                        "held_blocks": lease.charge.blocks,
                        "since_at": lease.reserved_at,
                    },
                    self.ask,
                )
                return

    def _grants_without(self, leases: list[Lease]) -> bool:
        books = self.situation.books.without({lease.id for lease in leases})
        return isinstance(
            judge(self.ask, self.person, self.situation.with_books(books)), Grant
        )


def _remedy(kind: RemedyKind, ask: Ask, grant: Grant) -> Remedy:
    return Remedy(
        kind,
        {
            "share": grant.placement.words,
            "blocks": grant.charge.blocks,
            "memory_mib": grant.placement.memory_mib,
            "model": grant.placement.pieces[0].gpu_model,
            "group": grant.group or "–",
        },
        ask,
    )
