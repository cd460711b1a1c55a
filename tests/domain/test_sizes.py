"""Sizes and availability: the runs say of each count what a decision on it would say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.domain.availability import availability
from aliquot.domain.judging import Grant, Unreadable, judge, reason_of
from aliquot.domain.refusals import Ask, Reason
from aliquot.domain.shares import Blocks, CpuOnly, Memory, Slice
from aliquot.domain.sizes import (
    State,
    block_runs,
    memory_runs,
    most_blocks,
    offered_shares,
    state_of,
    verdict,
)
from tests.domain.machines import (
    MIXED_SLICES,
    NOON,
    blocks_gpu,
    group,
    machine,
    mig_gpu,
    people,
    situation,
    situations,
    someone,
    start,
)

PRESETS = (Blocks(10), Blocks(25), Blocks(50), Blocks(100))
ADA, LIN = someone("ada", "vision"), someone("lin", "vision")


def demo():
    """The demo's machine: two A100 in MIG mode, two H100 for blocks."""
    return machine(
        mig_gpu(0, *MIXED_SLICES), mig_gpu(1, *MIXED_SLICES), blocks_gpu(2), blocks_gpu(3)
    )


def test_the_presets_are_offered_and_then_each_profile_smallest_first_none_twice():
    presets = (*PRESETS, Slice("2g.20gb"), Blocks(10))

    assert [str(share) for share in offered_shares(presets, demo())] == [
        "10 blocks",
        "25 blocks",
        "50 blocks",
        "100 blocks",
        "2g.20gb",
        "1g.10gb",
        "3g.40gb",
    ]


def test_the_largest_size_is_what_one_node_s_gpus_of_one_model_could_hold():
    assert most_blocks(demo()) == 200
    assert most_blocks(machine(*demo().gpus, blocks_gpu(4, node="gpu-2"))) == 200
    assert most_blocks(machine(mig_gpu(0))) == 0
    assert most_blocks(machine()) == 0


def test_the_runs_of_a_half_full_machine_read_like_a_scale():
    now = start(Blocks(40), LIN, situation(demo(), group("vision", 150)))

    runs = block_runs(Ask(), ADA, now)
    assert [(run.first, run.last, run.state) for run in runs] == [
        (1, 110, State.NOW),
        (111, 150, State.NO),
        (151, 200, State.NO),
    ]
    assert [reason_of(run.decision).reason for run in runs[1:]] == [  # type: ignore[arg-type]
        Reason.OVER_GROUP_QUOTA,
        Reason.OVER_GROUP_TOTAL,
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Ask,
        st.just(CpuOnly()),
        group=st.sampled_from((None, None, "vision", "nlp")),
        model=st.sampled_from((None, None, "H100-80GB", "V100")),
        isolated=st.booleans(),
    ),
    people,
    situations,
)
def test_the_runs_say_of_every_count_what_a_decision_on_it_says(ask, person, now):
    told = {}
    last = 0
    for run in block_runs(ask, person, now):
        assert run.first == last + 1
        last = run.last
        for count in range(run.first, run.last + 1):
            told[count] = run
    assert last == most_blocks(now.inventory)
    for count, run in told.items():
        decision = judge(ask.with_share(Blocks(count)), person, now)
        assert run.state is state_of(decision), count
        if not isinstance(decision, Grant):
            assert reason_of(run.decision).reason is reason_of(decision).reason, count


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Ask,
        st.just(CpuOnly()),
        group=st.sampled_from((None, None, "vision", "nlp")),
        model=st.sampled_from((None, None, "H100-80GB", "V100")),
        isolated=st.booleans(),
    ),
    people,
    situations,
)
def test_the_runs_say_of_every_amount_of_memory_what_a_decision_on_it_says(ask, person, now):
    last = 0
    for run in memory_runs(ask, person, now):
        assert run.first == last + 1
        last = run.last
        for gigabytes in range(run.first, run.last + 1):
            decision = judge(ask.with_share(Memory(gigabytes * 1000)), person, now)
            assert run.state is state_of(decision), gigabytes
            if not isinstance(decision, Grant):
                assert reason_of(run.decision).reason is reason_of(decision).reason, gigabytes
    beyond = judge(ask.with_share(Memory((last + 1) * 1000)), person, now)
    assert not isinstance(beyond, Grant)


def test_a_verdict_shows_the_piece_also_when_it_cannot_start_now():
    now = start(Blocks(200), LIN, situation(demo(), group("vision")))

    shown = verdict(Ask(Blocks(30)), ADA, now)
    assert shown.state is State.LATER
    assert shown.piece is not None
    assert shown.piece.memory_mib == 81559 * 30 // 100
    never = verdict(Ask(Blocks(300)), ADA, now)
    assert (never.state, never.piece) == (State.NO, None)


def test_a_page_for_one_person_has_a_verdict_on_each_size_and_the_balance_of_each_group():
    groups = [group("lab", 200), group("vision", 150, parent="lab", person=60), group("nlp", 100)]
    kim = someone("kim", "vision", "nlp", "tea-round")
    now = start(Ask(Blocks(40), group="vision"), kim, situation(demo(), *groups))
    now = start(Blocks(30), LIN, now)

    page = availability(Ask(), kim, now, PRESETS)

    assert [
        (b.name, b.held_blocks, b.free_blocks, b.mine_blocks, b.cap_blocks) for b in page.groups
    ] == [
        ("nlp", 0, 100, 0, None),
        ("vision", 70, 80, 40, 60),
    ]
    assert [str(v.ask.share) for v in page.verdicts] == [
        "10 blocks",
        "25 blocks",
        "50 blocks",
        "100 blocks",
        "1g.10gb",
        "2g.20gb",
        "3g.40gb",
    ]
    assert {v.state for v in page.verdicts} == {State.NOW}


def test_a_page_asked_about_a_foreign_group_shows_what_one_s_own_would_pay():
    now = situation(demo(), group("vision"), group("nlp"))

    page = availability(Ask(group="nlp"), ADA, now, PRESETS)
    assert page.asked.group is None
    assert {v.state for v in page.verdicts} == {State.NOW}


def test_a_page_without_gpu_state_offers_no_size_and_still_shows_balances():
    now = replace(situation(demo(), group("vision", 100)), inventory=Unreadable("No driver."))

    page = availability(Ask(), ADA, now, PRESETS)
    assert (page.verdicts, page.runs, page.simulated) == ((), (), False)
    assert page.groups[0].free_blocks == 100


def test_a_simulated_machine_is_called_so():
    simulated = replace(demo(), simulated=True, read_at=NOON)

    assert availability(Ask(), ADA, situation(simulated, group("vision")), ()).simulated
