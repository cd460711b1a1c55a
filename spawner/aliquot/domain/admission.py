"""Admission: the decision, and for every "no" what would be a yes.

Pure. ``decide`` is what the picker, the reservation, REST and the command line ask. Remedies
are not guessed: each is a variant of the request or of the books that ``judge`` grants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aliquot.domain.books import Books
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import (
    Decision,
    Grant,
    NeedsApproval,
    No,
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
from aliquot.domain.shares import Blocks, Memory, Share, Slice

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
    return decision if isinstance(decision, Grant) else explain(decision, ask, person, situation)


def explain(no: No, ask: Ask, person: Person, situation: Situation) -> No:
    """The same "no" with its remedies. Takes milliseconds where ``judge`` takes a fraction of
    one, so whoever holds a lock judges under it and explains after it."""
    refusal = reason_of(no)
    refusal = replace(refusal, remedies=tuple(_Search(ask, person, situation).all(refusal)))
    match no:
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
            yield from self._smaller()
            yield from self._other_piece(refusal)
            yield from self._any_model()
            yield from self._other_group()
            if refusal.reason.depends_on_books:
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

    def _smaller(self) -> Iterator[Remedy]:
        asks = [self._slice_below(), self._blocks_below()]
        granted = [(ask, grant) for ask in asks if ask and (grant := self._granted(ask))]
        if granted:
            ask, grant = max(granted, key=lambda pair: pair[1].placement.memory_mib)
            yield _remedy(RemedyKind.SMALLER, ask, grant)

    def _slice_below(self) -> Ask | None:
        """The largest smaller slice that is granted, for who asked a slice or memory."""
        share, inventory = self.ask.share, self._inventory()
        profiles = inventory.profiles
        match share:
            case Slice(profile):
                if profile in profiles:
                    profiles = profiles[: profiles.index(profile)]
            case Memory():
                sizes = inventory.profile_memory_mib
                profiles = tuple(name for name in profiles if sizes[name] < share.mib)
            case _:
                return None
        asks = (self.ask.with_share(Slice(profile)) for profile in reversed(profiles))
        return next((ask for ask in asks if self._granted(ask)), None)

    def _blocks_below(self) -> Ask | None:
        """The largest smaller number of blocks that is granted, for who asked blocks or memory.

        Within a hundred a larger share is never easier, so the hundreds are gone through
        from above and the largest count in the first that grants any is found by halving.
        """
        share, pools = self.ask.share, self._inventory().pools
        match share:
            case Blocks():
                below = share.count
            case Memory():
                below = max((pool[0].blocks_for_memory(share.mib) for pool in pools), default=0)
            case _:
                return None
        most = min(below - 1, max(map(len, pools), default=1) * BLOCKS_PER_GPU)

        def grants(count: int) -> bool:
            return self._granted(self.ask.with_share(Blocks(count))) is not None

        for base in range(most // BLOCKS_PER_GPU * BLOCKS_PER_GPU, -1, -BLOCKS_PER_GPU):
            low, high = base, min(most, base + BLOCKS_PER_GPU - 1)
            if low < high and grants(low + 1):
                low += 1
                while low < high:
                    middle = (low + high + 1) // 2
                    if grants(middle):
                        low = middle
                    else:
                        high = middle - 1
                return self.ask.with_share(Blocks(low))
            if base and grants(base):
                return self.ask.with_share(Blocks(base))
        return None

    def _other_piece(self, refusal: Refusal) -> Iterator[Remedy]:
        share, inventory = self.ask.share, self._inventory()
        options: list[Ask] = []
        if isinstance(share, Slice):
            if (mib := inventory.profile_memory_mib.get(share.profile)) is not None:
                megabytes = mib * (1 << 20) // 1_000_000
                options.append(replace(self.ask, share=Memory(megabytes), model=None))
        elif self.ask.isolated:
            options.append(replace(self.ask, isolated=False))
        elif isinstance(share, Blocks):
            options.append(replace(self.ask, isolated=True, model=None))
        if refusal.reason in (Reason.BLOCKS_NOT_OFFERED, Reason.NOTHING_ISOLATED):
            options.append(self.ask.with_share(self._whole_gpus(share)))
        for ask in options:
            if (grant := self._granted(ask)) is not None:
                yield _remedy(RemedyKind.OTHER_PIECE, ask, grant)
                return

    def _whole_gpus(self, share: Share) -> Blocks:
        """The whole GPUs that carry a share of blocks or memory."""
        match share:
            case Blocks(count):
                blocks = count
            case Memory():
                gpus = self._inventory().gpus
                blocks = min(gpu.blocks_for_memory(share.mib) for gpu in gpus)
            case _:
                blocks = BLOCKS_PER_GPU
        return Blocks(-(-blocks // BLOCKS_PER_GPU) * BLOCKS_PER_GPU)

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
        stopping = next(
            ([lease] for lease in own[:_MOST_HOLDERS] if self._grants_without([lease])), None
        )
        if stopping is None and len(own) > 1 and self._grants_without(own):
            stopping = own
        if stopping is not None:
            servers = ", ".join(lease.server.name or "default" for lease in stopping)
            blocks = sum(lease.charge.blocks for lease in stopping)
            yield Remedy(RemedyKind.STOP_OWN, {"servers": servers, "held_blocks": blocks}, self.ask)
        others = [lease for lease in leases if lease.user_id != self.person.user_id]
        ending = sorted(
            (lease for lease in others if lease.until is not None),
            key=lambda lease: (lease.until, lease.id),
        )
        if (enough := self._fewest_first(ending)) is not None:
            last = ending[enough - 1]
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

    def _fewest_first(self, leases: list[Lease]) -> int | None:
        """How many of these, taken in order, must end for a grant; None if all are too few.

        Leaps that double, then halving, each from the books of the last "not yet": the answer
        is mostly near the start, and there may be a thousand leases.
        """
        books, low, leap = self.situation.books, 0, 1
        while low < len(leases):
            high = min(low + leap, len(leases))
            fewer = _without(books, leases[low:high])
            if self._grants_on(fewer):
                break
            books, low, leap = fewer, high, leap * 2
        else:
            return None
        while low + 1 < high:
            middle = (low + high) // 2
            fewer = _without(books, leases[low:middle])
            if self._grants_on(fewer):
                high = middle
            else:
                books, low = fewer, middle
        return high

    def _grants_without(self, leases: list[Lease]) -> bool:
        return self._grants_on(_without(self.situation.books, leases))

    def _grants_on(self, books: Books) -> bool:
        return isinstance(judge(self.ask, self.person, self.situation.with_books(books)), Grant)


def _without(books: Books, leases: list[Lease]) -> Books:
    return books.without([lease.id for lease in leases])


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
