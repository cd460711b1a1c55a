"""Receipts: does what is seen inside a notebook match what its lease promises?

Pure. The notebook's extension asks it for its user, the service for the books; the report that
both judge is written inside the notebook, so by its user: it finds accidents, not cheats, and
nothing else depends on it.

A lease is *verified* when the devices that CUDA shows are the lease's and every memory cap was
seen, *mismatch* when something seen contradicts it, and *not verifiable* when neither: what
could not be looked at is never taken for right.

Some engines tell no device's identity (NVIDIA's device plugin, KAI, instances cut on demand).
The ledger's names for such devices mean nothing inside; those are compared by their number,
model, profile and memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import Unreadable
from aliquot.domain.leases import Lease, Piece
from aliquot.domain.model_names import short_model
from aliquot.domain.receipt_report import Report, Seen, bare_uuid, read_report
from aliquot.domain.shares import Kind
from aliquot.domain.wording import say

# Who holds a notebook to its memory; all others only count.
HOLDING = frozenset({"mig", "driver", "mps", "hami"})

Result = Literal["pass", "fail", "unknown"]

# CUDA keeps a part of a card for itself, and engines round limits up to their pages.
_SMALLEST_PART = 0.9
_LARGEST_PART = 1.02
_LARGEST_EXTRA_MIB = 64


class Verdict(StrEnum):
    VERIFIED = "verified"
    MISMATCH = "mismatch"
    NOT_VERIFIABLE = "not_verifiable"


@dataclass(frozen=True, slots=True)
class Words:
    """Something to say, in no language yet: a key of ``receipt.*`` in the wording."""

    key: str
    values: tuple[tuple[str, str | int], ...] = ()

    def text(self, language: str = "en") -> str:
        return say(f"receipt.{self.key}", language, **dict(self.values))


def words(key: str, **values: str | int) -> Words:
    return Words(key, tuple(sorted(values.items())))


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, with both sides."""

    what: Words
    expected: Words
    seen: Words
    result: Result
    enforced_by: str
    reason: Words | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """``reason`` explains that there are no checks."""

    verdict: Verdict
    checks: tuple[Check, ...] = ()
    reason: Words | None = None

    def why(self, language: str = "en") -> str | None:
        """What is wrong or unknown, with both sides, in one line; None when verified."""
        if self.reason is not None:
            return self.reason.text(language) or None
        worst: Result = "fail" if self.verdict is Verdict.MISMATCH else "unknown"
        return next(
            (
                say(
                    "receipt.both_sides",
                    language,
                    what=check.what.text(language),
                    expected=check.expected.text(language),
                    seen=check.seen.text(language),
                    why=check.reason.text(language) if check.reason else "",
                ).strip()
                for check in self.checks
                if check.result == worst
            ),
            None,
        )


@dataclass(frozen=True, slots=True)
class Promised:
    """A piece as its notebook should see it. ``uuid`` is the one by which CUDA shows it, or a
    name of ours; ``enforced_by`` who holds the notebook to it."""

    uuid: str
    gpu_uuid: str
    gpu_model: str
    profile: str | None
    memory_mib: int
    enforced_by: str
    is_share: bool

    @property
    def hex(self) -> str:
        return bare_uuid(self.uuid)

    @property
    def name(self) -> str:
        return f"{self.gpu_model} MIG {self.profile}" if self.profile else self.gpu_model


def promised(lease: Lease, enforced_by: Sequence[str]) -> tuple[Promised, ...]:
    """What the books promise; ``enforced_by`` names who enforces each piece, in its order."""
    return tuple(
        Promised(
            piece.mig_uuid or piece.gpu_uuid,
            piece.gpu_uuid,
            piece.gpu_model,
            piece.profile,
            piece.memory_mib,
            by,
            is_share=piece.kind is Kind.BLOCKS,
        )
        for piece, by in zip(lease.placement.pieces, enforced_by, strict=True)
    )


def enforcer(piece: Piece, inventory: Inventory | Unreadable) -> str:
    """Who holds the notebook to its piece. Blocks on a GPU that is not seen any more are
    held by nobody that we know of."""
    if isinstance(inventory, Inventory) and inventory.simulated:
        return "simulated"
    match piece.kind:
        case Kind.SLICE:
            return "mig"
        case Kind.WHOLE:
            return "driver"
    gpu = inventory.by_uuid.get(piece.gpu_uuid) if isinstance(inventory, Inventory) else None
    return "none" if gpu is None or gpu.blocks_by is None else gpu.blocks_by.value


def judge_receipt(
    lease: Lease, inventory: Inventory | Unreadable, receipt: Mapping[str, Any]
) -> Judgement:
    """What the books make of a receipt. One without its report, as simulated machines send
    it, stands as its notebook has judged it."""
    seen = receipt.get("seen")
    if seen is None:
        said = words("verbatim", text=str(receipt.get("reason") or ""))
        return Judgement(Verdict(receipt["verdict"]), reason=said)
    by = [enforcer(piece, inventory) for piece in lease.placement.pieces]
    return judge(promised(lease, by), read_report(seen))


def judge(
    pieces: Sequence[Promised], report: Report, *, thread_percentage: int | None = None
) -> Judgement:
    """``thread_percentage`` is the compute limit of MPS that was set; None for none."""
    if report.error and report.error != "CUDA_ERROR_NO_DEVICE":
        missing = report.error == "LIBRARY_NOT_FOUND"
        reason = words("cuda_missing") if missing else words("cuda_error", code=report.error)
        return Judgement(Verdict.NOT_VERIFIABLE, reason=reason)
    if all(piece.hex for piece in pieces):
        devices, matched = _by_uuid(pieces, report)
    else:
        devices, matched = _by_kind(pieces, report)
    required = [devices]
    for piece, seen in matched:
        required.append(_memory(piece, seen, report.card_free_mib.get(piece.gpu_uuid)))
    checks = [*required]
    if any(piece.enforced_by == "hami" for piece in pieces):
        checks += _hami(pieces, report)
    if thread_percentage is not None:
        checks.append(_threads(thread_percentage, report.thread_percentage))
    if any(check.result == "fail" for check in checks):
        verdict = Verdict.MISMATCH
    elif all(check.result == "pass" for check in required):
        verdict = Verdict.VERIFIED
    else:
        verdict = Verdict.NOT_VERIFIABLE
    return Judgement(verdict, tuple(checks))


_Matched = list[tuple[Promised, Seen]]


def _by_uuid(pieces: Sequence[Promised], report: Report) -> tuple[Check, _Matched]:
    devices = {device.hex: device for device in report.devices}
    expected = {piece.hex: piece.uuid for piece in pieces}
    result: Result = "pass"
    reason = None
    if "" in devices:
        result, reason = "unknown", words("no_uuid")
    elif devices.keys() - expected.keys():
        result, reason = "fail", words("devices_extra")
    elif expected.keys() - devices.keys():
        result, reason = _too_few(pieces, report)
    seen = [expected.get(name, name or "?") for name in devices]
    check = Check(
        words("check_devices"),
        words("verbatim", text=", ".join(expected.values())),
        words("verbatim", text=", ".join(seen)) if seen else words("nothing_seen"),
        result,
        pieces[0].enforced_by,
        reason,
    )
    return check, [(piece, devices[piece.hex]) for piece in pieces if piece.hex in devices]


def _by_kind(pieces: Sequence[Promised], report: Report) -> tuple[Check, _Matched]:
    """Devices of the pieces' models and profiles, whichever they are."""
    left = list(report.devices)
    matched: _Matched = []
    for piece in pieces:
        alike = [device for device in left if _is_alike(piece, device)]
        if alike:
            # The nearest in memory: two sizes of one model may share a node.
            nearest = min(alike, key=lambda device: _distance(piece, device))
            left.remove(nearest)
            matched.append((piece, nearest))
    result: Result = "pass"
    reason = None
    if left:
        several = len(report.devices) > len(pieces)
        result, reason = "fail", words("devices_extra" if several else "devices_other")
    elif len(matched) < len(pieces):
        result, reason = _too_few(pieces, report)
    names = [device.name or device.uuid or "?" for device in report.devices]
    check = Check(
        words("check_devices"),
        words("verbatim", text=", ".join(piece.name for piece in pieces)),
        words("verbatim", text=", ".join(names)) if names else words("nothing_seen"),
        result,
        pieces[0].enforced_by,
        reason,
    )
    return check, matched


def _too_few(pieces: Sequence[Promised], report: Report) -> tuple[Result, Words]:
    # Before CUDA 13 a process sees one slice, however many are listed for it.
    if report.devices and all(piece.profile for piece in pieces):
        return "unknown", words("one_slice_a_process")
    return "fail", words("devices_missing")


def _is_alike(piece: Promised, device: Seen) -> bool:
    """By the driver's name, such as "NVIDIA A100-SXM4-80GB MIG 1g.10gb". One that is not told
    says nothing against the device; its memory is still compared."""
    if device.name is None:
        return True
    card, _, profile = device.name.partition(" MIG ")
    if profile != (piece.profile or ""):
        return False
    given = set(re.split(r"[\s-]+", card.upper()))
    wanted = re.split(r"[\s-]+", piece.gpu_model.upper())
    return all(word in given for word in wanted if not re.fullmatch(r"\d+GB", word))


def _distance(piece: Promised, device: Seen) -> int:
    return abs((device.total_mib or 0) - piece.memory_mib)


def _most(cap_mib: int) -> int:
    return int(cap_mib * _LARGEST_PART) + _LARGEST_EXTRA_MIB


def _memory(piece: Promised, seen: Seen, card_free_mib: int | None) -> Check:
    """Compare the memory that CUDA offers with the piece's.

    Under MPS the limit, less the asking process's context, shows as the free memory while the
    total stays the card's; so a card that others have nearly filled looks capped without
    being so. HAMi shows the limit as the total.
    """
    cap_mib = piece.memory_mib
    most_mib = _most(cap_mib)
    result: Result = "pass"
    reason = None
    seen_mib: int | None = None
    if seen.error or seen.free_mib is None or seen.total_mib is None:
        result, reason = "unknown", words("cap_unread", code=seen.error or "?")
    else:
        by_free = piece.is_share and piece.enforced_by == "mps" and seen.total_mib > most_mib
        seen_mib = seen.free_mib if by_free else seen.total_mib
        if piece.enforced_by not in HOLDING:
            result, reason = "unknown", words("not_enforced")
        elif seen_mib > most_mib:
            result, reason = "fail", words("cap_larger")
        elif by_free:
            if card_free_mib is None or card_free_mib <= most_mib:
                result, reason = "unknown", words("cap_hidden")
        elif seen_mib < cap_mib * _SMALLEST_PART:
            result, reason = "fail", words("cap_smaller")
    return Check(
        words("check_memory", device=f"{short_model(piece.gpu_model)} ({piece.uuid})"),
        words("at_most", amount=cap_mib),
        words("not_seen") if seen_mib is None else words("amount", amount=seen_mib),
        result,
        piece.enforced_by,
        reason,
    )


def _hami(pieces: Sequence[Promised], report: Report) -> list[Check]:
    """HAMi's limits are variables of the notebook's own environment."""
    checks = []
    if report.hami_is_off:
        checks.append(
            Check(
                words("check_hami"), words("hami_on"), words("hami_off"),
                "fail", "hami", words("hami_is_off"),
            )
        )  # fmt: skip
    for number, limit_mib in sorted((report.hami_limits_mib or {}).items()):
        caps = [piece.memory_mib for piece in pieces]
        nearest = min(caps, key=lambda cap: abs(cap - limit_mib))
        if not nearest * _SMALLEST_PART <= limit_mib <= _most(nearest):
            checks.append(
                Check(
                    words("check_hami_limit", number=number), words("at_most", amount=nearest),
                    words("amount", amount=limit_mib), "fail", "hami", words("hami_differs"),
                )
            )  # fmt: skip
    return checks


def _threads(expected: int, seen: str | None) -> Check:
    matches = seen == str(expected)
    return Check(
        words("check_threads"),
        words("percent_threads", percent=expected),
        words("percent_threads", percent=seen) if seen else words("not_seen"),
        "pass" if matches else "fail",
        "mps",
        words("threads_not_measured" if matches else "threads_differ"),
    )
