"""Small machines, groups and leases for the domain's tests, and hypothesis strategies of them.

Values only, made by the domain's own constructors. A random situation is grown by granting
random asks, so that its leases are ones that could exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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


# --- strategies -----------------------------------------------------------------------------

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


@st.composite
def gpus(draw: st.DrawFn, number: int) -> Gpu:
    node = draw(st.sampled_from(("", "", "gpu-2")))
    if draw(st.integers(0, 3)) == 0:
        return mig_gpu(number, *draw(st.sampled_from(_LAYOUTS)), node=node)
    model, memory = draw(st.sampled_from((("H100-80GB", 81559), ("L40S", 46068))))
    return blocks_gpu(
        number,
        model=model,
        memory_mib=memory,
        node=node,
        blocks_by=draw(st.sampled_from((BlocksBy.MPS, BlocksBy.MPS, None))),
        max_sharers=draw(st.sampled_from((None, 1, 2))),
    )


@st.composite
def inventories(draw: st.DrawFn, most: int = 4) -> Inventory:
    count = draw(st.integers(1, most))
    return machine(*(draw(gpus(number)) for number in range(count)))


shares = st.one_of(
    st.builds(Blocks, st.integers(1, 420)),
    st.builds(Blocks, st.sampled_from((1, 10, 30, 50, 99, 100, 101, 150, 200, 310))),
    st.builds(Memory, st.integers(1, 300_000)),
    st.builds(
        Slice, st.sampled_from(("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "7g.80gb", "1g.5gb"))
    ),
)

asks = st.builds(
    Ask,
    shares,
    group=st.sampled_from((None, None, "vision", "nlp")),
    model=st.sampled_from((None, None, None, "H100-80GB", "L40S", "A100-80GB", "V100")),
    isolated=st.sampled_from((False, False, True)),
)

_limits = st.none() | st.integers(1, 300)
_kinds = st.sampled_from(
    (
        ALL_KINDS,
        ALL_KINDS,
        ALL_KINDS,
        frozenset({Kind.SLICE}),
        frozenset({Kind.BLOCKS}),
        frozenset({Kind.BLOCKS, Kind.SLICE}),
        frozenset({Kind.WHOLE}),
    )
)


@st.composite
def trees(draw: st.DrawFn) -> GroupTree:
    """``vision`` and ``nlp`` under ``lab``, and ``away`` beside it."""

    def one(name: str, parent: str | None) -> ResourceGroup:
        return group(
            name,
            draw(st.integers(0, 500)),
            parent=parent,
            person=draw(_limits),
            notebook=draw(_limits),
            approval=draw(_limits),
            kinds=draw(_kinds),
        )

    return GroupTree.of(
        [one("lab", None), one("vision", "lab"), one("nlp", "lab"), group("away", 1000)]
    )


@st.composite
def situations(draw: st.DrawFn, most_leases: int = 6) -> Situation:
    tree = draw(trees())
    now = Situation(
        tree,
        Books((), tree),
        draw(inventories()),
        draw(st.sampled_from(({}, {"H100-80GB": 2}, {"L40S": 3, "A100-80GB": 2}))),
    )
    # The first leases are made with no limits: quotas are often lowered under running servers.
    free = GroupTree.of(group(name, parent=g.parent) for name, g in tree.groups.items())
    for number in range(draw(st.integers(0, most_leases))):
        person = draw(st.sampled_from(PEOPLE))
        decision = judge(draw(asks), person, replace(now, tree=free))
        if not isinstance(decision, Grant) or decision.group is None:
            continue
        until = draw(st.none() | st.integers(1, 600).map(lambda m: NOON + timedelta(minutes=m)))
        lease = lease_of(
            decision.placement,
            person,
            decision.group,
            number,
            charge=decision.charge,
            until=until,
            server=draw(st.sampled_from(("", "train"))),
        )
        now = now.with_books(now.books.with_lease(lease))
    return now
