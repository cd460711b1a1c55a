"""Judging: every reason can be reached, and the first that holds is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aliquot.domain.admission import decide
from aliquot.domain.asks import read_ask
from aliquot.domain.currency import Cost, cost_of_blocks
from aliquot.domain.engines import Engine
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
from aliquot.domain.refusals import Ask, Reason, Refusal
from aliquot.domain.shares import Blocks, CpuOnly, Kind, Memory, Slice
from aliquot.domain.wording import LANGUAGES, say_refusal
from tests.domain.machines import (
    MIXED_SLICES,
    SEVEN_SMALL,
    blocks_gpu,
    group,
    machine,
    mig_gpu,
    situation,
    someone,
    start,
)

ADA, LIN, EVE = someone("ada", "vision"), someone("lin", "vision"), someone("eve", "tea-round")
KIM = someone("kim", "nlp", "vision")
TWO = machine(blocks_gpu(0), blocks_gpu(1))
ONE = machine(blocks_gpu(0))
SLICES = machine(mig_gpu(0, *MIXED_SLICES))
WHOLE_ONLY = machine(blocks_gpu(0, blocks_by=None), blocks_gpu(1, blocks_by=None))
FREE = group("vision")


def unreadable() -> Situation:
    return replace(situation(ONE, FREE), inventory=Unreadable("NVML does not answer."))


def held(now: Situation, *starts: tuple[object, int]) -> Situation:
    for person, blocks in starts:
        now = start(Blocks(blocks), person, now)  # type: ignore[arg-type]
    return now


# Reason, ask, person, situation, and the sentence's "what" and "why" in English.
CASES: list[tuple[Reason, Ask, object, Situation, str]] = [
    (
        Reason.GPU_STATE_UNREADABLE,
        Ask(Blocks(10)),
        ADA,
        unreadable(),
        "GPU launches are paused: GPU availability cannot be read right now.",
    ),
    (
        Reason.NO_GPUS,
        Ask(Blocks(10)),
        ADA,
        situation(machine(), FREE),
        "No GPU to give: no GPUs are registered yet.",
    ),
    (
        Reason.NO_GROUP,
        Ask(Blocks(10)),
        EVE,
        situation(ONE, FREE),
        "No GPU for eve: you are not in a group with GPU quota.",
    ),
    (
        Reason.NOT_YOUR_GROUP,
        Ask(Blocks(10), group="nlp"),
        ADA,
        situation(ONE, FREE, group("nlp")),
        "Group 'nlp' refused: you are not in a group of that name with GPU quota; yours: vision.",
    ),
    (
        Reason.UNKNOWN_MODEL,
        Ask(Blocks(10), model="V100"),
        ADA,
        situation(ONE, FREE),
        "GPU model 'V100' refused: there is none here; the models are H100-80GB.",
    ),
    (
        Reason.UNKNOWN_PROFILE,
        Ask(Slice("7g.80gb")),
        ADA,
        situation(SLICES, FREE),
        "MIG slice 7g.80gb refused: none of the GPUs asked for has such a slice; "
        "the slices here are 1g.10gb, 2g.20gb, 3g.40gb.",
    ),
    (
        Reason.BLOCKS_NOT_OFFERED,
        Ask(Blocks(30)),
        ADA,
        situation(WHOLE_ONLY, FREE),
        "30 blocks refused: parts of a GPU in blocks need CUDA MPS on one machine, or HAMi, KAI or "
        "DRA shares on a cluster, and no GPU here has them.",
    ),
    (
        Reason.MIXED_NOT_OFFERED,
        Ask(Blocks(110)),
        ADA,
        situation(machine(*(replace(blocks_gpu(n), engine=Engine.HAMI) for n in range(2))), FREE),
        "110 blocks refused: parts of several GPUs cannot be mixed with whole ones here: "
        "whole GPUs come as 100 blocks or 200 blocks, a part as at most 99 blocks.",
    ),
    (
        Reason.NOTHING_ISOLATED,
        Ask(Blocks(60), isolated=True),
        ADA,
        situation(SLICES, FREE),
        "60 blocks refused: no MIG slice here is that large and hardware isolation was required.",
    ),
    (
        Reason.KIND_NOT_ALLOWED,
        Ask(Blocks(100)),
        ADA,
        situation(ONE, group("vision", kinds=[Kind.BLOCKS, Kind.SLICE])),
        "This kind of piece refused: group 'vision' may use blocks, slice only.",
    ),
    (
        Reason.TOO_LARGE,
        Ask(Blocks(210)),
        ADA,
        situation(TWO, FREE),
        "210 blocks refused: the largest piece of that kind that this machine can ever give is "
        "200 blocks.",
    ),
    (
        Reason.OVER_NOTEBOOK_CAP,
        Ask(Blocks(30)),
        ADA,
        situation(ONE, group("vision", notebook=25)),
        "30 blocks refused: group 'vision' allows 25 blocks for one notebook.",
    ),
    (
        Reason.OVER_GROUP_TOTAL,
        Ask(Blocks(30)),
        ADA,
        situation(ONE, group("vision", 20)),
        "30 blocks refused: group 'vision' has 20 blocks in all.",
    ),
    (
        Reason.NEEDS_APPROVAL,
        Ask(Blocks(30)),
        ADA,
        situation(ONE, group("vision", approval=29)),
        "30 blocks need approval: group 'vision' starts up to 29 blocks without asking, and "
        "requests cannot be filed here yet.",
    ),
    (
        Reason.OVER_PERSON_CAP,
        Ask(Blocks(30)),
        ADA,
        held(situation(TWO, group("vision", person=60)), (ADA, 40)),
        "30 blocks refused: group 'vision' allows one person 60 blocks, and you hold 40.",
    ),
    (
        Reason.OVER_GROUP_QUOTA,
        Ask(Blocks(30)),
        ADA,
        held(situation(TWO, group("vision", 100)), (LIN, 80)),
        "30 blocks refused: group 'vision' holds 80 of its 100 blocks.",
    ),
    (
        Reason.FRAGMENTED,
        Ask(Blocks(40)),
        ADA,
        held(situation(TWO, FREE), (LIN, 80), (LIN, 78)),
        "40 blocks not free in one piece: 42 blocks are free, but the largest single piece is "
        "22 blocks.",
    ),
    (
        Reason.NO_FREE_SLICE,
        Ask(Slice("1g.10gb")),
        ADA,
        start(Slice("1g.10gb"), LIN, situation(SLICES, FREE)),
        "No free 1g.10gb: 0 of 1 slices that would do are free.",
    ),
    (
        Reason.NO_ROOM,
        Ask(Blocks(30)),
        ADA,
        held(situation(ONE, FREE), (LIN, 80)),
        "30 blocks not free: 20 blocks are free on all GPUs together.",
    ),
]
# Said at the doors, before or instead of a decision.
AT_THE_DOOR = {
    Reason.UNKNOWN_OPTION: {"shape": "30 blocks"},
    Reason.BAD_OPTION_VALUE: {"share": 0.5},
    Reason.UNREADABLE_SHARE: {"share": "30 pounds"},
    Reason.MIG_NOT_COMBINABLE: {"share": "1g.10gb + 1 gpu"},
}
ELSEWHERE = {Reason.LEDGER_UNAVAILABLE, Reason.FOREIGN_GPU}


def refusal_of(decision: Decision) -> Refusal:
    assert not isinstance(decision, Grant), decision
    return reason_of(decision)


@pytest.mark.parametrize(
    ("reason", "ask", "person", "now", "sentence"), CASES, ids=[case[0].value for case in CASES]
)
def test_each_reason_is_told_with_its_numbers(reason, ask, person, now, sentence):
    decision = judge(ask, person, now)
    refusal = refusal_of(decision)

    assert refusal.reason is reason
    said = say_refusal(refusal)
    assert f"{said.what}: {said.why}" == sentence
    assert say_refusal(refusal_of(decide(ask, person, now)), "ko").remedies
    waits = reason in (Reason.FRAGMENTED, Reason.NO_FREE_SLICE, Reason.NO_ROOM)
    assert isinstance(decision, Wait) == waits
    assert isinstance(decision, NeedsApproval) == (reason is Reason.NEEDS_APPROVAL)


@pytest.mark.parametrize(("reason", "options"), AT_THE_DOOR.items())
def test_each_reason_of_the_options_is_told(reason, options):
    refusal = read_ask(options)

    assert isinstance(refusal, Refusal)
    assert refusal.reason is reason


def test_no_reason_of_the_closed_list_is_unreachable():
    reached = {case[0] for case in CASES} | AT_THE_DOOR.keys() | ELSEWHERE

    assert reached == set(Reason)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refusal_without_a_gpu_to_ask_for_still_has_a_way_out(reason, language):
    for case in CASES:
        if case[0] is reason:
            refusal = refusal_of(decide(case[1], case[2], case[3]))  # type: ignore[arg-type]
            said = say_refusal(refusal, language)
            assert said.remedies
            assert said.remedies[-1] in ("Start without a GPU.", "GPU 없이 시작합니다.")
            assert "{" not in said.sentence


def test_no_gpu_needs_no_group_no_driver_and_no_quota():
    for now in (unreadable(), situation(machine()), situation(ONE, FREE)):
        decision = judge(Ask(CpuOnly()), EVE, now)
        assert isinstance(decision, Grant)
        assert (decision.placement.pieces, decision.charge, decision.group) == (
            (),
            Cost(0, 0),
            None,
        )


def test_the_first_reason_that_holds_is_told_when_several_do():
    everything_wrong = held(
        situation(TWO, group("vision", 100, person=60, notebook=150, approval=140)), (LIN, 50)
    )
    told = [
        refusal_of(judge(Ask(Blocks(blocks)), LIN, everything_wrong)).reason
        for blocks in (250, 160, 145, 99, 55)
    ]

    assert told == [
        Reason.TOO_LARGE,
        Reason.OVER_NOTEBOOK_CAP,
        Reason.OVER_GROUP_TOTAL,
        Reason.OVER_PERSON_CAP,
        Reason.OVER_PERSON_CAP,
    ]
    assert refusal_of(judge(Ask(Blocks(55)), ADA, everything_wrong)).reason is (
        Reason.OVER_GROUP_QUOTA
    )


def test_the_reasons_stand_in_the_order_in_which_they_are_told():
    assert [case[0] for case in CASES] == sorted(
        (case[0] for case in CASES), key=lambda reason: reason.precedence
    )


def test_a_quota_above_binds_counts_all_groups_below_and_is_named():
    groups = [group("lab", 50), group("vision", 50, parent="lab"), group("nlp", parent="lab")]
    now = start(Ask(Blocks(40), group="nlp"), KIM, situation(TWO, *groups))

    refusal = refusal_of(judge(Ask(Blocks(20)), ADA, now))

    assert refusal.reason is Reason.OVER_GROUP_QUOTA
    assert (refusal.numbers["group"], refusal.numbers["held_blocks"]) == ("lab", 40)
    assert isinstance(judge(Ask(Blocks(10)), ADA, now), Grant)


def test_a_person_s_cap_above_counts_what_they_hold_in_all_groups_below():
    groups = [
        group("lab", person=50),
        group("vision", parent="lab"),
        group("nlp", parent="lab"),
    ]
    now = start(Ask(Blocks(40), group="nlp"), KIM, situation(TWO, *groups))

    refusal = refusal_of(judge(Ask(Blocks(20), group="vision"), KIM, now))
    assert (refusal.reason, refusal.numbers["held_blocks"]) == (Reason.OVER_PERSON_CAP, 40)


def test_a_kind_must_be_allowed_all_the_way_up():
    groups = [group("lab", kinds=[Kind.SLICE]), group("vision", parent="lab")]
    both = machine(blocks_gpu(0), mig_gpu(1, *SEVEN_SMALL))
    now = situation(both, *groups)

    assert refusal_of(judge(Ask(Blocks(5)), ADA, now)).reason is Reason.KIND_NOT_ALLOWED
    decision = judge(Ask(Memory(5000)), ADA, now)
    assert isinstance(decision, Grant)
    assert decision.placement.words == "1g.10gb"


def test_who_may_have_slices_only_waits_for_one_rather_than_being_refused_a_whole_gpu():
    both = machine(blocks_gpu(0), mig_gpu(1, ("1g.10gb", 0)))
    now = start(Slice("1g.10gb"), LIN, situation(both, group("vision", kinds=[Kind.SLICE])))

    decision = judge(Ask(Memory(5000), isolated=True), ADA, now)
    assert isinstance(decision, Wait)
    assert decision.because.reason is Reason.NO_FREE_SLICE


def test_limits_hold_for_each_component():
    """Two 1g slices are (400, 350) units; 28 blocks are (392, 392): too little compute."""
    slices = machine(mig_gpu(0, *SEVEN_SMALL))
    enough = group("vision", Cost(400, 350))
    for nominal, starts_second in ((cost_of_blocks(28), False), (Cost(400, 350), True)):
        now = start(Slice("1g.10gb"), LIN, situation(slices, group("vision", nominal)))
        decision = judge(Ask(Slice("1g.10gb")), ADA, now)
        assert isinstance(decision, Grant) == starts_second
    now = start(Slice("1g.10gb"), LIN, situation(slices, enough))
    now = start(Slice("1g.10gb"), ADA, now)
    assert refusal_of(judge(Ask(Slice("1g.10gb")), KIM, now)).reason is Reason.OVER_GROUP_QUOTA


def test_seven_small_slices_fill_a_quota_of_exactly_one_gpu():
    now = situation(machine(*(mig_gpu(n, *SEVEN_SMALL) for n in range(2))), group("vision", 100))
    for _ in range(7):
        now = start(Slice("1g.10gb"), LIN, now)

    refusal = refusal_of(judge(Ask(Slice("1g.10gb")), ADA, now))
    assert refusal.reason is Reason.OVER_GROUP_QUOTA
    assert refusal.numbers["held_blocks"] == 100


def test_a_weight_multiplies_the_charge_and_not_the_place():
    now = situation(ONE, group("vision", 100), weights={"H100-80GB": 2})

    decision = judge(Ask(Blocks(50)), ADA, now)
    assert isinstance(decision, Grant)
    assert (decision.charge.blocks, decision.placement.cost.blocks) == (100, 50)
    assert refusal_of(judge(Ask(Blocks(51)), ADA, now)).reason is Reason.OVER_GROUP_TOTAL


def test_a_lighter_model_is_taken_where_the_best_fit_weighs_more_than_the_quota():
    """Ten blocks fit best on the H100 that has ten left, where they are charged 20 of 15."""
    both = machine(blocks_gpu(0), blocks_gpu(1, model="L40S"))
    now = situation(both, group("vision", 15), group("nlp"), weights={"H100-80GB": 2})
    now = start(Ask(Blocks(90), model="H100-80GB", group="nlp"), KIM, now)

    decision = judge(Ask(Blocks(10)), ADA, now)
    assert isinstance(decision, Grant)
    assert (decision.placement.pieces[0].gpu_model, decision.charge.blocks) == ("L40S", 10)
    assert refusal_of(judge(Ask(Blocks(10), model="H100-80GB"), ADA, now)).reason is (
        Reason.OVER_GROUP_TOTAL
    )


def test_with_no_group_named_the_first_that_grants_pays():
    groups = [group("nlp", 10), group("vision", 100)]
    now = situation(TWO, *groups)

    paying = [judge(Ask(Blocks(blocks)), KIM, now) for blocks in (10, 11)]
    assert [d.group for d in paying if isinstance(d, Grant)] == ["nlp", "vision"]


def test_with_no_group_named_the_one_that_came_closest_gives_the_reason():
    now = held(situation(TWO, group("nlp", 10), group("vision", 100)), (LIN, 80))

    refusal = refusal_of(judge(Ask(Blocks(30)), KIM, now))
    assert (refusal.reason, refusal.numbers["group"]) == (Reason.OVER_GROUP_QUOTA, "vision")


def test_a_group_without_any_allowed_kind_gives_nothing():
    refusal = refusal_of(judge(Ask(Blocks(1)), ADA, situation(ONE, group("vision", kinds=[]))))

    assert refusal.reason is Reason.KIND_NOT_ALLOWED
    assert refusal.numbers["kinds"] == "–"


def test_a_quota_of_nothing_starts_nothing():
    now = situation(ONE, group("vision", 0))

    assert refusal_of(judge(Ask(Blocks(1)), ADA, now)).reason is Reason.OVER_GROUP_TOTAL
