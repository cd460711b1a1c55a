"""Judging: may this person have this share, now?

Pure. ``judge`` takes an Ask, a Person and a Situation and returns a Grant, a Wait, a
NeedsApproval or a Refusal, without remedies: those are found by ``admission``, which asks
``judge`` about variants. Nothing else decides.

Quotas are checked per component, in the group that pays and in every group above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from aliquot.domain.books import Books
from aliquot.domain.currency import BLOCKS_PER_GPU, NOTHING, Cost
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Person, Placement
from aliquot.domain.placement import NoRoom, place
from aliquot.domain.quota import GroupTree
from aliquot.domain.refusals import Ask, Reason, Refusal
from aliquot.domain.shares import ALL_KINDS, Blocks, CpuOnly, Kind, Slice


@dataclass(frozen=True, slots=True)
class Unreadable:
    """GPU state cannot be read; ``why`` is a sentence for the admin."""

    why: str


@dataclass(frozen=True)
class Situation:
    """Everything that a decision depends on. ``weights`` defaults to 1 for each model."""

    tree: GroupTree
    books: Books
    inventory: Inventory | Unreadable
    weights: Mapping[str, int] = field(default_factory=dict)

    def charge_for(self, placement: Placement) -> Cost:
        """The placement's cost times its models' weights."""
        return placement.charge(self.weights)

    def with_books(self, books: Books) -> Situation:
        return replace(self, books=books)


@dataclass(frozen=True, slots=True)
class Grant:
    """Yes. ``group`` pays ``charge``; both are empty for a share without a GPU."""

    placement: Placement
    charge: Cost
    group: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Within quota, but there is no room now."""

    because: Refusal


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """More than starts without asking."""

    because: Refusal


No = Wait | NeedsApproval | Refusal
Decision = Grant | No


def reason_of(no: No) -> Refusal:
    return no if isinstance(no, Refusal) else no.because


def judge(ask: Ask, person: Person, situation: Situation) -> Decision:
    """The decision without remedies.

    With no group named, the person's groups are tried by name and the first grant wins; if
    none grants, the answer of lowest harm is told: a wait, an approval, then the refusal of
    the highest precedence number, since that group came closest. With no model named, one
    that weighs less is taken where the best fit weighs more than a quota allows.
    """
    if isinstance(ask.share, CpuOnly):
        return Grant(Placement(()), NOTHING, None)
    inventory = situation.inventory
    if isinstance(inventory, Unreadable):
        return Refusal(Reason.GPU_STATE_UNREADABLE, {"detail": inventory.why})
    if not inventory.gpus:
        return Refusal(Reason.NO_GPUS)
    mine = situation.tree.of_person(person.groups)
    if not mine:
        return Refusal(Reason.NO_GROUP, {"person": person.name})
    if ask.group is not None and ask.group not in mine:
        return Refusal(Reason.NOT_YOUR_GROUP, {"group": ask.group[:64], "groups": ", ".join(mine)})
    best: Decision | None = None
    for group in (ask.group,) if ask.group is not None else mine:
        decision = _judge_in(ask, person, group, situation, inventory)
        if isinstance(decision, Grant):
            return decision
        for lighter in _lighter_models(ask, situation, inventory):
            on_it = _judge_in(replace(ask, model=lighter), person, group, situation, inventory)
            if isinstance(on_it, Grant):
                return on_it
        if best is None or _closeness(decision) > _closeness(best):
            best = decision
    assert best is not None
    return best


def _lighter_models(ask: Ask, situation: Situation, inventory: Inventory) -> tuple[str, ...]:
    """The models to try where the best fit on any of them was refused, the lightest first."""
    if ask.model is not None:
        return ()
    weight = {model: situation.weights.get(model, 1) for model in inventory.models}
    if len(set(weight.values())) == 1:
        return ()
    return tuple(sorted(inventory.models, key=weight.__getitem__))


def _closeness(decision: Decision) -> tuple[int, int]:
    assert not isinstance(decision, Grant)
    order = (Refusal, NeedsApproval, Wait).index(type(decision))
    return order, reason_of(decision).reason.precedence


def _judge_in(
    ask: Ask, person: Person, group: str, situation: Situation, inventory: Inventory
) -> Decision:
    path = situation.tree.path(group)
    kinds = frozenset.intersection(
        ALL_KINDS, *(situation.tree.groups[name].quota.kinds for name in path)
    )
    place_on = partial(place, ask.share, model=ask.model, isolated=ask.isolated)
    found = place_on(inventory, situation.books, kinds=kinds)
    if isinstance(found, Placement):
        ideal = found
    else:
        nobody = Books((), situation.tree)
        ideal = place_on(inventory.emptied, nobody, kinds=kinds)
        if isinstance(ideal, NoRoom):
            may_else = isinstance(place_on(inventory.emptied, nobody), Placement)
            return _kind_refused(group, kinds) if may_else else _never(ask, inventory, ideal)
    charge = situation.charge_for(ideal)
    over = _over_a_limit(ideal, charge, person, path, situation)
    if over is not None:
        return over
    if isinstance(found, NoRoom):
        return Wait(_no_room(ask, ideal, found))
    return Grant(found, charge, group)


def _over_a_limit(
    piece: Placement, charge: Cost, person: Person, path: tuple[str, ...], situation: Situation
) -> Refusal | NeedsApproval | None:
    """The first limit on the way up that the charge breaks, by precedence of the reasons."""
    quotas = [(name, situation.tree.groups[name].quota) for name in path]

    def told(name: str) -> dict[str, int | str]:
        return {"asked": piece.words, "asked_blocks": charge.blocks, "group": name}

    for name, quota in quotas:
        if quota.per_notebook is not None and not charge.fits_in(quota.per_notebook):
            cap = quota.per_notebook.whole_blocks_within
            return Refusal(Reason.OVER_NOTEBOOK_CAP, {**told(name), "cap_blocks": cap})
    for name, quota in quotas:
        if not charge.fits_in(quota.nominal):
            nominal = quota.nominal.whole_blocks_within
            return Refusal(
                Reason.OVER_GROUP_TOTAL,
                {**told(name), "nominal_blocks": nominal},
            )
    for name, quota in quotas:
        if quota.approval_above is not None and not charge.fits_in(quota.approval_above):
            limit = quota.approval_above.whole_blocks_within
            return NeedsApproval(
                Refusal(
                    Reason.NEEDS_APPROVAL,
                    {**told(name), "limit_blocks": limit},
                )
            )
    for name, quota in quotas:
        if quota.per_person is None:
            continue
        held = situation.books.held_by_person(name, person.user_id)
        if not (held + charge).fits_in(quota.per_person):
            return Refusal(
                Reason.OVER_PERSON_CAP,
                {
                    **told(name),
                    "held_blocks": held.blocks,
                    "cap_blocks": quota.per_person.whole_blocks_within,
                    "free_blocks": held.left_of(quota.per_person).whole_blocks_within,
                },
            )
    for name, quota in quotas:
        held = situation.books.held_by_group(name)
        if not (held + charge).fits_in(quota.nominal):
            return Refusal(
                Reason.OVER_GROUP_QUOTA,
                {
                    **told(name),
                    "held_blocks": held.blocks,
                    "nominal_blocks": quota.nominal.whole_blocks_within,
                    "free_blocks": held.left_of(quota.nominal).whole_blocks_within,
                },
            )
    return None


def _never(ask: Ask, inventory: Inventory, ideal: NoRoom) -> Refusal:
    """Why a share has no place even on an empty machine, whatever the kind of piece."""
    share = ask.share
    if ask.model is not None and ask.model not in inventory.models:
        return Refusal(
            Reason.UNKNOWN_MODEL, {"model": ask.model[:64], "models": ", ".join(inventory.models)}
        )
    if isinstance(share, Slice):
        return Refusal(
            Reason.UNKNOWN_PROFILE,
            {"profile": share.profile, "profiles": ", ".join(inventory.profiles) or "–"},
        )
    if ask.isolated:
        return Refusal(Reason.NOTHING_ISOLATED, {"asked": str(share)})
    in_model = [gpu for gpu in inventory.gpus if ask.model in (None, gpu.model)]
    if all(gpu.blocks_by is None for gpu in in_model) and (
        not isinstance(share, Blocks) or share.rest
    ):
        return Refusal(Reason.BLOCKS_NOT_OFFERED, {"asked": str(share)})
    if isinstance(share, Blocks) and share.count < ideal.largest_blocks:
        wholes = share.whole_gpus * BLOCKS_PER_GPU
        return Refusal(
            Reason.MIXED_NOT_OFFERED,
            {"asked": str(share), "below_blocks": wholes, "above_blocks": wholes + BLOCKS_PER_GPU},
        )
    return Refusal(Reason.TOO_LARGE, {"asked": str(share), "largest_blocks": ideal.largest_blocks})


def _kind_refused(group: str, kinds: frozenset[Kind]) -> Refusal:
    return Refusal(
        Reason.KIND_NOT_ALLOWED, {"group": group, "kinds": ", ".join(sorted(kinds)) or "–"}
    )


def _no_room(ask: Ask, ideal: Placement, found: NoRoom) -> Refusal:
    if ideal.pieces[0].profile is not None:
        return Refusal(
            Reason.NO_FREE_SLICE,
            {
                "asked": str(ask.share),
                "free_count": found.free_slices,
                "all_count": found.all_slices,
            },
        )
    asked = sum(piece.blocks for piece in ideal.pieces)
    numbers = {
        "asked_blocks": asked,
        "free_blocks": found.free_blocks,
        "largest_blocks": found.largest_blocks,
    }
    if found.free_blocks >= asked:
        return Refusal(Reason.FRAGMENTED, numbers)
    return Refusal(Reason.NO_ROOM, numbers)
