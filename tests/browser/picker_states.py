"""The states of the spawn page, each made by the real decision on a machine that is named here.

``STATES`` maps a state's name to a function from a language to a PickerPage. Tests, the
accessibility check and ``make screenshots`` walk the same list.

The machine: two H100 for blocks, one A100 cut into 1g.10gb, 1g.10gb, 2g.20gb and 3g.40gb. The
reader is ada, of the groups vision (300 blocks, 60 a person) and nlp (40 blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aliquot.domain.admission import decide
from aliquot.domain.asks import read_ask
from aliquot.domain.availability import Availability, availability
from aliquot.domain.books import Books
from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory, MigDevice
from aliquot.domain.judging import Grant, Situation, Unreadable, reason_of
from aliquot.domain.leases import Lease, LeaseState, Person, Server
from aliquot.domain.quota import GroupTree, Quota, ResourceGroup
from aliquot.domain.refusals import Ask, Reason, Refusal
from aliquot.domain.shares import Blocks, Share, Slice
from aliquot.spawners.picker import PickerPage, presets_with

NOW = datetime(2026, 11, 23, 14, 2, tzinfo=UTC)
PRESETS = (Blocks(10), Blocks(25), Blocks(50), Blocks(100))
ADA = Person(1, "ada", frozenset({"vision", "nlp"}))

Options = Mapping[str, object]


def gpu(number: int, *, blocks_by: BlocksBy = BlocksBy.MPS) -> Gpu:
    return Gpu(
        f"GPU-{number:08}",
        number,
        "NVIDIA H100 80GB HBM3",
        "H100-80GB",
        81559,
        blocks_by=blocks_by,
        max_sharers=48,
    )


def cut_gpu(number: int) -> Gpu:
    """An A100 in MIG mode, cut as in the module's header."""
    sizes = (("1g.10gb", 1, 1, 9728), ("1g.10gb", 1, 1, 9728), ("2g.20gb", 2, 2, 19968))
    devices = [
        MigDevice(f"MIG-{number}-{at}", name, compute, memory, mib)
        for at, (name, compute, memory, mib) in enumerate((*sizes, ("3g.40gb", 3, 4, 40192)))
    ]
    return Gpu(
        f"GPU-{number:08}",
        number,
        "NVIDIA A100-SXM4-80GB",
        "A100-80GB",
        81920,
        mig_enabled=True,
        mig_devices=tuple(devices),
    )


def machine(*, simulated: bool = False, read_at: datetime = NOW) -> Inventory:
    by = BlocksBy.SIMULATED if simulated else BlocksBy.MPS
    return Inventory(
        (cut_gpu(0), gpu(1, blocks_by=by), gpu(2, blocks_by=by)),
        "simulated" if simulated else "nvml",
        read_at,
        simulated=simulated,
    )


def tree() -> GroupTree:
    return GroupTree.of(
        [
            ResourceGroup("vision", Quota(cost_of_blocks(300), per_person=cost_of_blocks(60))),
            ResourceGroup("nlp", Quota(cost_of_blocks(40))),
        ]
    )


def held(
    situation: Situation, share: Share, group: str, user: str, until: datetime | None = None
) -> Situation:
    """The situation after somebody, who is in this group alone, has started a notebook."""
    user_id = 100 + sum(map(ord, user))
    person = Person(user_id, user, frozenset({group}))
    grant = decide(Ask(share, group=group), person, situation)
    assert isinstance(grant, Grant), (share, grant)
    number = len(situation.books.leases)
    lease = Lease(
        f"{number:032x}",
        user_id,
        user,
        Server(number + 1),
        group,
        grant.charge,
        grant.placement,
        LeaseState.ACTIVE,
        NOW - timedelta(hours=2),
        until=until,
    )
    return situation.with_books(situation.books.with_lease(lease))


def empty(inventory: Inventory | Unreadable | None = None) -> Situation:
    groups = tree()
    return Situation(groups, Books((), groups), machine() if inventory is None else inventory)


def busy() -> Situation:
    """Half of the blocks and two slices are held."""
    situation = empty()
    situation = held(situation, Blocks(60), "vision", "lin", NOW + timedelta(minutes=78))
    situation = held(situation, Blocks(50), "vision", "grace")
    situation = held(situation, Slice("1g.10gb"), "vision", "kim")
    return held(situation, Slice("3g.40gb"), "vision", "mary", NOW + timedelta(minutes=20))


def full() -> Situation:
    situation = busy()
    for user, share in (
        ("alan", Blocks(40)),
        ("edsger", Blocks(50)),
        ("barbara", Slice("2g.20gb")),
        ("ken", Slice("1g.10gb")),
    ):
        situation = held(situation, share, "vision" if share != Slice("1g.10gb") else "nlp", user)
    return situation


def shown(
    situation: Situation,
    options: Options | None = None,
    last_used: Options | None = None,
    person: Person = ADA,
) -> Availability:
    ask = read_ask(options or {})
    asked = ask if isinstance(ask, Ask) else Ask()
    return availability(asked, person, situation, presets_with(PRESETS, last_used))


def page(
    situation: Situation,
    language: str,
    chosen: Options | None = None,
    *,
    refused: bool = False,
    last_used: Options | None = None,
    person: Person = ADA,
) -> PickerPage:
    """The page for options that were chosen; ``refused``: Start was pressed, in vain."""
    refusal = None
    if refused:
        ask = read_ask(chosen)
        answer = ask if isinstance(ask, Refusal) else decide(ask, person, situation)
        assert not isinstance(answer, Grant)
        refusal = reason_of(answer)
    return PickerPage(
        shown(situation, chosen, last_used, person),
        NOW,
        chosen or {},
        refusal,
        last_used=last_used,
        language=language,
        home_url="/hub/home",
    )


def _race_lost(language: str) -> PickerPage:
    refused = page(full(), language, {"share": "25 blocks", "group": "vision"}, refused=True)
    return replace(refused, was_offered=True)


def _books_unreadable(language: str) -> PickerPage:
    refusal = Refusal(Reason.LEDGER_UNAVAILABLE)
    return PickerPage(refusal, NOW, {"share": "25 blocks"}, language=language)


STATES: dict[str, Callable[[str], PickerPage]] = {
    "free": lambda language: page(empty(), language),
    "busy": lambda language: page(busy(), language, {"share": "25 blocks"}),
    "full": lambda language: page(full(), language),
    "one-group": lambda language: page(
        busy(), language, person=Person(1, "ada", frozenset({"vision"}))
    ),
    "simulated": lambda language: page(empty(machine(simulated=True)), language),
    "last-used": lambda language: page(
        busy(), language, {"share": "30 blocks"}, last_used={"share": "30 blocks"}
    ),
    "custom": lambda language: page(
        busy(), language, {"share": "custom", "amount": "55", "unit": "blocks"}
    ),
    "isolation": lambda language: page(
        busy(), language, {"share": "2g.20gb", "isolation": "mig", "model": "A100-80GB"}
    ),
    "refused-quota": lambda language: page(
        busy(), language, {"share": "50 blocks", "group": "nlp"}, refused=True
    ),
    "refused-full": lambda language: page(
        full(), language, {"share": "25 blocks", "group": "vision"}, refused=True
    ),
    "refused-amount": lambda language: page(
        busy(), language, {"share": "custom", "amount": "lots", "unit": "blocks"}, refused=True
    ),
    "refused-group": lambda language: page(
        busy(), language, {"share": "25 blocks", "group": "others"}, refused=True
    ),
    "race-lost": _race_lost,
    "stale": lambda language: page(empty(machine(read_at=NOW - timedelta(minutes=3))), language),
    "gpus-unreadable": lambda language: page(
        empty(Unreadable("NVML answers 'driver not loaded'. Load it: modprobe nvidia.")), language
    ),
    "books-unreadable": _books_unreadable,
    "no-group": lambda language: page(empty(), language, person=Person(9, "newcomer", frozenset())),
    "no-gpus": lambda language: page(empty(Inventory((), "nvml", NOW)), language),
}
