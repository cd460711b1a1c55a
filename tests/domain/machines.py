"""Small machines, groups and leases for the domain's tests, and hypothesis strategies of them.

Values only, made by the domain's own constructors. A random situation is grown by granting
random asks, so that its leases are ones that could exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import strategies as st

from aliquot.domain.books import Books
from aliquot.domain.currency import Cost, cost_of_blocks
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory, MigDevice
from aliquot.domain.judging import Grant, Situation, judge
from aliquot.domain.leases import Lease, LeaseState, Person, Placement, Server
from aliquot.domain.mig_geometry import geometries
from aliquot.domain.quota import ALL_KINDS, GroupTree, Quota, ResourceGroup
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks, Kind, Memory, Share, Slice

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

PLENTY = cost_of_blocks(100_000)


def blocks_gpu(
    number: int,
    *,
    model: str = "H100-80GB",
    memory_mib: int = 81559,
    node: str = "",
    blocks_by: BlocksBy | None = BlocksBy.MPS,
    max_sharers: int | None = None,
) -> Gpu:
    """A GPU out of MIG mode; ``blocks_by`` None serves it as a whole only."""
    return Gpu(
        f"GPU-{number:04d}",
        number,
        f"NVIDIA {model}",
        model,
        memory_mib,
        node=node,
        blocks_by=blocks_by,
        max_sharers=max_sharers,
    )


def mig_gpu(number: int, *placed: tuple[str, int], model: str = "A100-80GB", node: str = "") -> Gpu:
    """A GPU in MIG mode with instances, each a profile and its first slot."""
    geometry = geometries()[model]
    devices = []
    for name, start in placed:
        profile = geometry.profiles[name]
        devices.append(
            MigDevice(
                f"MIG-{number:04d}-{start}",
                name,
                profile.compute_slices,
                profile.memory_slices,
                profile.memory_mib or 1000,
                start,
            )
        )
    return Gpu(
        f"GPU-{number:04d}",
        number,
        f"NVIDIA {model}",
        model,
        81920,
        node=node,
        mig_enabled=True,
        mig_devices=tuple(devices),
        compute_slots=geometry.compute_slots,
        memory_slots=geometry.memory_slots,
    )


MIXED_SLICES = (("3g.40gb", 0), ("2g.20gb", 4), ("1g.10gb", 6))
SEVEN_SMALL = tuple(("1g.10gb", start) for start in range(7))


def machine(*gpus: Gpu, simulated: bool = False) -> Inventory:
    return Inventory(gpus, "simulated" if simulated else "nvml", NOON, simulated)


def group(
    name: str,
    blocks: int | Cost = PLENTY,
    *,
    parent: str | None = None,
    person: int | None = None,
    notebook: int | None = None,
    approval: int | None = None,
    kinds: Iterable[Kind] = ALL_KINDS,
) -> ResourceGroup:
    """A resource group with limits in blocks."""

    def cost(limit: int | None) -> Cost | None:
        return None if limit is None else cost_of_blocks(limit)

    nominal = cost_of_blocks(blocks) if isinstance(blocks, int) else blocks
    return ResourceGroup(
        name,
        Quota(nominal, None, cost(person), cost(notebook), cost(approval), frozenset(kinds)),
        parent,
    )


def someone(name: str, *groups: str, user_id: int | None = None) -> Person:
    return Person(user_id or sum(name.encode()), name, frozenset(groups))


def situation(
    inventory: Inventory,
    *groups: ResourceGroup,
    leases: Iterable[Lease] = (),
    weights: Mapping[str, int] | None = None,
) -> Situation:
    tree = GroupTree.of(groups)
    return Situation(tree, Books(leases, tree), inventory, weights or {})


def lease_of(
    placement: Placement,
    person: Person,
    group_name: str,
    number: int,
    *,
    charge: Cost | None = None,
    until: datetime | None = None,
    server: str = "",
) -> Lease:
    return Lease(
        f"{number:032x}",
        person.user_id,
        person.name,
        Server(1000 + number, server),
        group_name,
        placement.cost if charge is None else charge,
        placement,
        LeaseState.ACTIVE,
        NOON + timedelta(minutes=number),
        until=until,
    )


def start(
    ask: Ask | Share, person: Person, before: Situation, *, until: datetime | None = None
) -> Situation:
    """The situation after a person has started a share, which must be granted."""
    asked = ask if isinstance(ask, Ask) else Ask(ask)
    decision = judge(asked, person, before)
    assert isinstance(decision, Grant), decision
    assert decision.group is not None
    lease = lease_of(
        decision.placement,
        person,
        decision.group,
        len(before.books.leases) + 1,
        charge=decision.charge,
        until=until,
    )
    return before.with_books(before.books.with_lease(lease))


# --- random situations ----------------------------------------------------------------------
#
# Drawn by a seed: hypothesis's own choices crowd at the simple end, where nobody holds
# anything and everything is refused for the first reason.

PEOPLE = (
    someone("ada", "vision", user_id=1),
    someone("lin", "vision", "nlp", user_id=2),
    someone("kim", "nlp", user_id=3),
    someone("eve", "away", user_id=4),
)

_LAYOUTS = (
    MIXED_SLICES,
    SEVEN_SMALL[:3],
    (("7g.80gb", 0),),
    (("4g.40gb", 0), ("1g.20gb", 4), ("1g.10gb", 6)),
    (),
)
_PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "7g.80gb", "1g.5gb")
_KINDS = (
    *[ALL_KINDS] * 10,
    frozenset({Kind.SLICE}),
    frozenset({Kind.BLOCKS}),
    frozenset({Kind.BLOCKS, Kind.SLICE}),
    frozenset({Kind.WHOLE}),
)
_LIMITS = (None, None, None, None, 20, 60, 100, 150, 300)
_NOMINALS = (0, 30, 100, 150, 250, 400, 1000, 1000)


def _random_gpu(r: Random, number: int) -> Gpu:
    node = r.choice(("", "", "", "gpu-2"))
    if r.random() < 0.3:
        return mig_gpu(number, *r.choice(_LAYOUTS), node=node)
    model, memory = r.choice((("H100-80GB", 81559), ("H100-80GB", 81559), ("L40S", 46068)))
    return blocks_gpu(
        number,
        model=model,
        memory_mib=memory,
        node=node,
        blocks_by=r.choice((BlocksBy.MPS, BlocksBy.MPS, BlocksBy.MPS, None)),
        max_sharers=r.choice((None, None, 1, 3)),
    )


def _random_inventory(r: Random) -> Inventory:
    return machine(*(_random_gpu(r, number) for number in range(r.randint(1, 5))))


def _random_share(r: Random) -> Share:
    return r.choice(
        (
            Blocks(r.randint(1, 420)),
            Blocks(r.randint(1, 100)),
            Blocks(r.choice((10, 30, 50, 99, 100, 101, 150, 200, 310))),
            Memory(r.randint(1, 120_000)),
            Slice(r.choice(_PROFILES)),
        )
    )


def _random_ask(r: Random) -> Ask:
    return Ask(
        _random_share(r),
        group=r.choice((*[None] * 6, "vision", "nlp")),
        model=r.choice((*[None] * 9, "H100-80GB", "L40S", "V100")),
        isolated=r.random() < 0.2,
    )


def _random_tree(r: Random) -> GroupTree:
    """``vision`` and ``nlp`` under ``lab``, and ``away`` beside it."""

    def one(name: str, parent: str | None) -> ResourceGroup:
        return group(
            name,
            r.choice(_NOMINALS),
            parent=parent,
            person=r.choice(_LIMITS),
            notebook=r.choice(_LIMITS),
            approval=r.choice(_LIMITS),
            kinds=r.choice(_KINDS),
        )

    lab = group("lab", r.choice((80, 150, 250, 1000)), person=r.choice(_LIMITS))
    return GroupTree.of([lab, one("vision", "lab"), one("nlp", "lab"), group("away", 1000)])


def _random_situation(r: Random) -> Situation:
    tree = _random_tree(r)
    weights = r.choice(({}, {}, {"H100-80GB": 2}, {"L40S": 3, "A100-80GB": 2}))
    now = Situation(tree, Books((), tree), _random_inventory(r), weights)
    # The leases are made with no limits: quotas are often lowered under running servers.
    free = GroupTree.of(group(name, parent=g.parent) for name, g in tree.groups.items())
    for number in range(r.randint(0, 12)):
        person = r.choice(PEOPLE)
        share = r.choice(
            (
                Blocks(r.choice((5, 20, 30, 45, 60, 100))),
                Slice(r.choice(_PROFILES)),
                Memory(r.choice((8_000, 20_000, 40_000))),
            )
        )
        decision = judge(Ask(share), person, replace(now, tree=free))
        if not isinstance(decision, Grant) or decision.group is None:
            continue
        ends = r.choice((None, None, None, *range(10, 60, 10)))
        lease = lease_of(
            decision.placement,
            person,
            decision.group,
            number,
            charge=decision.charge,
            until=None if ends is None else NOON + timedelta(minutes=ends),
            server=r.choice(("", "train")),
        )
        now = now.with_books(now.books.with_lease(lease))
    return now


_seeds = st.integers(0, 2**48).map(Random)
inventories = _seeds.map(_random_inventory)
shares = _seeds.map(_random_share)
asks = _seeds.map(_random_ask)
situations = _seeds.map(_random_situation)
people = _seeds.map(lambda r: r.choice(PEOPLE))
