"""Receipts: one decision for the notebook and for the books, over every engine."""

from __future__ import annotations

from typing import Any

import pytest

from aliquot.domain.currency import cost_of_blocks, cost_of_slice
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.domain.judging import Unreadable
from aliquot.domain.leases import Lease, Piece, Placement
from aliquot.domain.receipts import Judgement, Verdict, judge_receipt
from aliquot.domain.wording import LANGUAGES
from tests.domain.machines import NOON, blocks_gpu, lease_of, someone

A100 = "NVIDIA A100-SXM4-80GB"
H100 = "NVIDIA H100 80GB HBM3"
CARD_UUID = "b1000000-0000-4000-8000-000000000000"
HAMI_CARD = f"GPU-{CARD_UUID}"


def lease(*pieces: Piece) -> Lease:
    return lease_of(Placement(pieces), someone("ada"), "vision", 1)


def slice_piece(name: str = "gpu-1/1g.10gb/0", profile: str = "1g.10gb", mib: int = 9856) -> Piece:
    cost = cost_of_slice(1, 7, 1, 8)
    return Piece("gpu-1/gpu/0", "A100-80GB", 15, mib, cost, mig_uuid=name, profile=profile)


def share(gpu: str, blocks: int = 30) -> Piece:
    return Piece(gpu, "H100-80GB", blocks, 81559 * blocks // 100, cost_of_blocks(blocks))


def whole(number: int) -> Piece:
    return share(f"gpu-1/gpu/{number}", 100)


def device(name: str | None, total_mib: int, uuid: str = "c" * 8, **more: Any) -> dict[str, Any]:
    known = {"uuid": uuid, "name": name, "error": None}
    return {**known, "free_mib": total_mib - 500, "total_mib": total_mib, **more}


def seen(*devices: dict[str, Any], hami: dict[str, Any] | None = None) -> dict[str, Any]:
    cuda = {"error": None, "devices": list(devices)}
    report = {"cuda": cuda, "card_free_mib": {}, "thread_percentage": None, "hami": hami}
    return {"version": 1, "verdict": "verified", "seen": report}


def judged(held: Lease, receipt: dict[str, Any], by: BlocksBy | None = None) -> Judgement:
    gpu = blocks_gpu(0, blocks_by=by)
    uuid = held.placement.pieces[0].gpu_uuid
    gpus = (gpu.__class__(uuid, 0, H100, "H100-80GB", 81559, node="gpu-1", blocks_by=by),)
    return judge_receipt(held, Inventory(gpus, "kubernetes", NOON), receipt)


def test_a_slice_whose_name_only_the_ledger_knows_is_compared_by_profile_and_memory():
    found = judged(lease(slice_piece()), seen(device(f"{A100} MIG 1g.10gb", 9856)))

    assert found.verdict is Verdict.VERIFIED
    assert found.checks[0].expected.text() == "A100-80GB MIG 1g.10gb"
    assert found.why() is None


@pytest.mark.parametrize(
    "shown, result",
    [
        (device(f"{A100} MIG 2g.20gb", 19968), "fail"),
        (device(A100, 81920), "fail"),
        (device("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9856), "fail"),
    ],
    ids=["larger profile", "whole card", "another model"],
)
def test_a_device_of_another_kind_is_a_mismatch_with_both_sides(shown, result):
    found = judged(lease(slice_piece()), seen(shown))

    assert found.verdict is Verdict.MISMATCH
    assert found.checks[0].result == result
    assert "A100-80GB MIG 1g.10gb" in found.why()
    assert shown["name"] in found.why()


def test_a_slice_of_the_right_name_and_too_much_memory_is_a_mismatch():
    found = judged(lease(slice_piece()), seen(device(f"{A100} MIG 1g.10gb", 19968)))

    assert found.verdict is Verdict.MISMATCH
    assert "expected at most 9856 MiB, seen 19968 MiB" in found.why()


@pytest.mark.parametrize("given, verdict", [(1, "mismatch"), (2, "verified"), (3, "mismatch")])
def test_whole_gpus_without_names_are_counted(given, verdict):
    devices = [device(H100, 81079, uuid=str(number)) for number in range(given)]

    assert judged(lease(whole(0), whole(1)), seen(*devices)).verdict == verdict


def test_no_device_where_one_was_promised_is_a_mismatch():
    found = judged(lease(slice_piece()), seen())

    assert found.verdict is Verdict.MISMATCH
    assert "seen none" in found.why()


@pytest.mark.parametrize("blocks", range(1, 100))
def test_hamis_cap_shows_as_the_total_for_every_count_of_blocks(blocks):
    piece = share(HAMI_CARD, blocks)
    cap = piece.memory_mib
    shown = device(H100, cap, uuid=CARD_UUID)
    limits = {"is_off": False, "limits_mib": {"0": cap}}

    assert judged(lease(piece), seen(shown, hami=limits), BlocksBy.HAMI).verdict == "verified"
    if blocks < 95:  # the card's memory is then more than the cap and its tolerance
        found = judged(lease(piece), seen(device(H100, 81559, uuid=CARD_UUID)), BlocksBy.HAMI)
        assert found.verdict is Verdict.MISMATCH


def test_a_card_that_hami_does_not_cap_is_a_mismatch_also_when_others_have_filled_it():
    """Free memory says nothing of HAMi: under it the total is the cap."""
    shown = device(H100, 81559, uuid=CARD_UUID, free_mib=2000)

    assert judged(lease(share(HAMI_CARD)), seen(shown), BlocksBy.HAMI).verdict == "mismatch"


@pytest.mark.parametrize(
    "hami, told",
    [
        ({"is_off": True, "limits_mib": {"0": 24467}}, "CUDA_DISABLE_CONTROL"),
        ({"is_off": False, "limits_mib": {"0": 60000}}, "seen 60000 MiB"),
    ],
    ids=["switched off", "another limit"],
)
def test_hami_limits_that_were_changed_are_a_mismatch(hami, told):
    shown = device(H100, 24467, uuid=CARD_UUID)

    found = judged(lease(share(HAMI_CARD)), seen(shown, hami=hami), BlocksBy.HAMI)

    assert found.verdict is Verdict.MISMATCH
    assert told in found.why()


@pytest.mark.parametrize("by", [BlocksBy.KAI, BlocksBy.SHARES, BlocksBy.TIME_SLICING])
def test_engines_that_only_count_are_never_verified_and_no_mismatch(by):
    found = judged(lease(share("gpu-1/gpu/0")), seen(device(H100, 81559)), by)

    assert found.verdict is Verdict.NOT_VERIFIABLE
    assert "only counted" in found.why()


def test_what_the_notebook_says_of_itself_counts_for_nothing_beside_what_it_saw():
    lying = seen(device(A100, 81920)) | {"verdict": "verified", "checks": []}

    assert judged(lease(slice_piece()), lying).verdict is Verdict.MISMATCH


def test_a_receipt_without_a_report_stands_as_the_notebook_judged_it():
    receipt = {"verdict": "not_verifiable", "reason": "Simulated GPUs.", "seen": None}

    found = judged(lease(slice_piece()), receipt)

    assert (found.verdict, found.why()) == (Verdict.NOT_VERIFIABLE, "Simulated GPUs.")


def test_while_the_gpus_cannot_be_read_a_share_is_not_verifiable():
    receipt = seen(device(H100, 24467, uuid=CARD_UUID))

    found = judge_receipt(lease(share(HAMI_CARD)), Unreadable("no API server"), receipt)

    assert found.verdict is Verdict.NOT_VERIFIABLE


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("error", ["LIBRARY_NOT_FOUND", "CUDA_ERROR_UNKNOWN"])
def test_without_cuda_the_reason_is_said(error, language):
    receipt = seen()
    receipt["seen"]["cuda"]["error"] = error

    found = judged(lease(slice_piece()), receipt)

    assert found.verdict is Verdict.NOT_VERIFIABLE
    assert found.why(language)
