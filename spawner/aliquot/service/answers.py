"""Answers: the domain's values as the models that REST sends.

Pure. Sentences are worded here, in the caller's language; GPU ids are left out wherever
somebody else than the lease's owner may read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from aliquot.domain.availability import Availability, GroupBalance
from aliquot.domain.books import Books
from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import Decision, Grant, Situation, Unreadable, reason_of
from aliquot.domain.leases import Lease, Piece, Placement
from aliquot.domain.placement import place
from aliquot.domain.receipts import enforcer, judge_receipt
from aliquot.domain.refusals import Ask, Refusal, Remedy
from aliquot.domain.shares import Share
from aliquot.domain.sizes import Run, Verdict, most_blocks, offered_shares
from aliquot.domain.uncertain import Uncertain
from aliquot.domain.wording import say_refusal, say_remedy
from aliquot.service.models import (
    AskModel,
    AvailabilityModel,
    EnforcedBy,
    FindingModel,
    FindingsModel,
    GpuStateModel,
    GroupModel,
    LeaseModel,
    PieceModel,
    PlacementModel,
    RefusalModel,
    RemedyModel,
    RunModel,
    SizeModel,
    SizesModel,
    VerdictModel,
)

# The driver's own words may hold paths and addresses of the machine; they go to the log.
_FOR_THE_LOG = "detail"


def refusal_model(refusal: Refusal, language: str) -> RefusalModel:
    said = say_refusal(refusal, language)
    return RefusalModel(
        reason=refusal.reason,
        message=said.sentence,
        what=said.what,
        why=said.why,
        numbers={k: v for k, v in refusal.numbers.items() if k != _FOR_THE_LOG},
        remedies=[_remedy_model(remedy, language) for remedy in refusal.remedies],
    )


def _remedy_model(remedy: Remedy, language: str) -> RemedyModel:
    return RemedyModel(
        kind=remedy.kind,
        message=say_remedy(remedy, language),
        numbers=dict(remedy.numbers),
        options=None if remedy.ask is None else remedy.ask.to_options(),
    )


def status_of(refusal: Refusal) -> int:
    """The HTTP status that carries a refusal."""
    if refusal.reason.is_fault:
        return 503
    return 400 if refusal.reason.is_users_mistake else 409


def gpu_state_model(inventory: Inventory | Unreadable, now: datetime) -> GpuStateModel:
    if isinstance(inventory, Unreadable):
        return GpuStateModel(
            readable=False,
            message="GPU state cannot be read; the service's log says why.",
            source=None,
            simulated=False,
            read_at=None,
            age_seconds=None,
        )
    age = max(0.0, (now - inventory.read_at).total_seconds())
    return GpuStateModel(
        readable=True,
        message=None,
        source=inventory.source,
        simulated=inventory.simulated,
        read_at=inventory.read_at,
        age_seconds=round(age, 3),
    )


def placement_model(
    placement: Placement, inventory: Inventory | Unreadable, *, with_uuids: bool = False
) -> PlacementModel:
    return PlacementModel(
        name=placement.words if placement.pieces else "cpu",
        blocks=placement.cost.blocks,
        memory_mib=placement.memory_mib,
        kinds=sorted(placement.kinds),
        enforced_by=[*dict.fromkeys(_enforcer(p, inventory) for p in placement.pieces)],
        pieces=[_piece_model(piece, with_uuids) for piece in placement.pieces],
    )


def _enforcer(piece: Piece, inventory: Inventory | Unreadable) -> EnforcedBy:
    return cast(EnforcedBy, enforcer(piece, inventory))


def _piece_model(piece: Piece, with_uuids: bool) -> PieceModel:
    return PieceModel(
        gpu_model=piece.gpu_model,
        gpu_uuid=piece.gpu_uuid if with_uuids else None,
        mig_uuid=piece.mig_uuid if with_uuids else None,
        profile=piece.profile,
        kind=piece.kind,
        blocks=piece.blocks,
        memory_mib=piece.memory_mib,
    )


def sizes_model(situation: Situation, presets: tuple[Share, ...], now: datetime) -> SizesModel:
    """What the machine offers to anybody, whatever is taken now."""
    inventory = situation.inventory
    sizes: list[SizeModel] = []
    if isinstance(inventory, Inventory):
        nobody = Books((), situation.tree)
        for share in offered_shares(presets, inventory):
            found = place(share, inventory, nobody, model=None, isolated=False)
            if isinstance(found, Placement):
                placement = placement_model(found, inventory)
                sizes.append(SizeModel(share=str(share), placement=placement))
    readable = isinstance(inventory, Inventory)
    return SizesModel(
        simulated=readable and inventory.simulated,
        gpu_state=gpu_state_model(inventory, now),
        sizes=sizes,
        models=list(inventory.models) if readable else [],
        max_blocks=most_blocks(inventory) if readable else 0,
    )


def availability_model(
    found: Availability, answer: Verdict | None, language: str, now: datetime
) -> AvailabilityModel:
    return AvailabilityModel(
        at=now,
        person=found.person.name,
        simulated=found.simulated,
        gpu_state=gpu_state_model(found.inventory, now),
        asked=_ask_model(found.asked),
        answer=None if answer is None else _verdict_model(answer, found.inventory, language),
        groups=[_group_model(balance) for balance in found.groups],
        sizes=[_verdict_model(v, found.inventory, language) for v in found.verdicts],
        runs=[_run_model(run, language) for run in found.runs],
        memory_runs=[_run_model(run, language) for run in found.memory_runs],
    )


def _ask_model(ask: Ask) -> AskModel:
    return AskModel(
        share=str(ask.share),
        group=ask.group,
        model=ask.model,
        isolation="mig" if ask.isolated else "any",
    )


def _group_model(balance: GroupBalance) -> GroupModel:
    return GroupModel(
        name=balance.name,
        held_blocks=balance.held_blocks,
        nominal_blocks=balance.nominal_blocks,
        free_blocks=balance.free_blocks,
        mine_blocks=balance.mine_blocks,
        cap_blocks=balance.cap_blocks,
    )


def _verdict_model(
    verdict: Verdict, inventory: Inventory | Unreadable, language: str
) -> VerdictModel:
    decision = verdict.decision
    piece = verdict.piece
    return VerdictModel(
        share=str(verdict.ask.share),
        options=verdict.ask.to_options(),
        state=verdict.state,
        group=decision.group if isinstance(decision, Grant) else None,
        placement=None if piece is None else placement_model(piece, inventory),
        refusal=_refusal_of(decision, language),
    )


def _run_model(run: Run, language: str) -> RunModel:
    refusal = _refusal_of(run.decision, language)
    return RunModel(first=run.first, last=run.last, state=run.state, refusal=refusal)


def _refusal_of(decision: Decision, language: str) -> RefusalModel | None:
    if isinstance(decision, Grant):
        return None
    return refusal_model(reason_of(decision), language)


def findings_model(
    found: Iterable[Uncertain], checked_at: datetime | None, language: str
) -> FindingsModel:
    return FindingsModel(
        checked_at=checked_at,
        items=[
            FindingModel(
                kind=one.kind,
                lease_id=one.about,
                message=one.sentence(language),
                numbers=dict(one.numbers),
            )
            for one in found
        ],
    )


def lease_model(
    lease: Lease,
    inventory: Inventory | Unreadable,
    receipt: Mapping[str, Any] | None,
    language: str,
) -> LeaseModel:
    """For the lease's owner: with the ids of its GPUs."""
    judged = None if receipt is None else judge_receipt(lease, inventory, receipt)
    return LeaseModel.model_validate(
        {
            "lease_id": lease.id,
            "user": lease.user_name,
            "server": lease.server.name,
            "group": lease.group,
            "state": lease.state.value,
            "charged_blocks": lease.charge.blocks,
            "placement": placement_model(lease.placement, inventory, with_uuids=True),
            "reserved_at": lease.reserved_at,
            "active_at": lease.active_at,
            "until": lease.until,
            "verdict": judged and judged.verdict,
            "verdict_reason": judged and judged.why(language),
        }
    )
