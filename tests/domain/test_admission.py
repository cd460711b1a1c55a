"""Admission: every remedy was really computed, and asking for it is a yes."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aliquot.domain.admission import decide
from aliquot.domain.judging import Decision, Grant, Situation, judge, reason_of
from aliquot.domain.leases import Person
from aliquot.domain.refusals import Ask, Reason, Refusal, Remedy, RemedyKind
from aliquot.domain.shares import Blocks, CpuOnly, Memory, Slice
from aliquot.domain.wording import LANGUAGES, say_refusal
from tests.domain.machines import (
    MIXED_SLICES,
    NOON,
    PEOPLE,
    asks,
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

ADA, LIN, KIM = someone("ada", "vision"), someone("lin", "vision"), someone("kim", "nlp")
ONE = machine(blocks_gpu(0))
TWO = machine(blocks_gpu(0), blocks_gpu(1))


def refusal_of(decision: Decision) -> Refusal:
    assert not isinstance(decision, Grant), decision
    return reason_of(decision)


def remedies(ask: Ask, person: Person, now: Situation) -> dict[RemedyKind, Remedy]:
    found = refusal_of(decide(ask, person, now)).remedies
    assert len({remedy.kind for remedy in found}) == len(found)
    return {remedy.kind: remedy for remedy in found}


# --- examples with numbers ------------------------------------------------------------------


def test_the_style_guide_s_refusal_offers_20_blocks_and_names_the_holder():
    now = start(Blocks(80), LIN, situation(TWO, group("vision", 100)))
    said = say_refusal(refusal_of(decide(Ask(Blocks(30)), ADA, now)))

    assert said.sentence == (
        "30 blocks refused: group 'vision' holds 80 of its 100 blocks. "
        "Start with 20 blocks (15.9 GiB) now. "
        "Ask lin, who holds 80 blocks since 12:01 UTC with no end time. "
        "Start without a GPU."
    )


def test_stopping_one_s_own_smallest_sufficient_notebook_is_offered():
    now = situation(TWO, group("vision", person=100))
    for blocks in (10, 20, 60):
        now = start(Blocks(blocks), ADA, now)

    found = remedies(Ask(Blocks(30)), ADA, now)[RemedyKind.STOP_OWN]
    assert found.numbers == {"servers": "default", "held_blocks": 20}
    found = remedies(Ask(Blocks(100)), ADA, now)[RemedyKind.STOP_OWN]
    assert found.numbers["held_blocks"] == 90


def test_the_time_is_told_at_which_enough_notebooks_have_ended():
    now = situation(ONE, group("vision"))
    for minutes, blocks in ((30, 20), (90, 30), (60, 50)):
        now = start(Blocks(blocks), LIN, now, until=NOON + timedelta(minutes=minutes))

    ends = {
        blocks: remedies(Ask(Blocks(blocks)), ADA, now)[RemedyKind.WHEN_ENDS].numbers["ends_at"]
        for blocks in (20, 21, 70, 71, 100)
    }
    assert [(end - NOON).seconds // 60 for end in ends.values()] == [30, 60, 60, 90, 90]


def test_a_full_slice_is_answered_with_a_smaller_one_and_with_blocks_of_the_same_memory():
    both = machine(mig_gpu(0, *MIXED_SLICES), blocks_gpu(1))
    now = start(Slice("2g.20gb"), LIN, situation(both, group("vision")))

    found = remedies(Ask(Slice("2g.20gb")), ADA, now)
    assert found[RemedyKind.SMALLER].ask == Ask(Slice("1g.10gb"))
    # 19,968 MiB are 24.5 % of an H100's 81,559 MiB.
    assert found[RemedyKind.OTHER_PIECE].numbers["share"] == "25 blocks"
    assert found[RemedyKind.OTHER_PIECE].numbers["memory_mib"] == 20389


def test_whole_gpus_are_offered_where_a_part_is_not():
    now = situation(machine(blocks_gpu(0, blocks_by=None)), group("vision"))
    for ask in (Ask(Blocks(30)), Ask(Memory(20_000))):
        found = remedies(ask, ADA, now)
        assert found[RemedyKind.OTHER_PIECE].ask == Ask(Blocks(100))
        assert RemedyKind.SMALLER not in found


def test_another_model_and_another_group_are_offered_when_they_grant():
    mixed = machine(blocks_gpu(0), blocks_gpu(1, model="L40S"))
    now = situation(mixed, group("vision", 10), group("nlp", 100))
    both = someone("both", "vision", "nlp")
    assert remedies(Ask(Blocks(30), group="vision"), both, now)[RemedyKind.OTHER_GROUP].ask == (
        Ask(Blocks(30), group="nlp")
    )
    full = start(Ask(Blocks(100), model="L40S"), KIM, now)
    found = remedies(Ask(Blocks(5), model="L40S"), ADA, full)[RemedyKind.ANY_MODEL]
    assert (found.ask, found.numbers["model"]) == (Ask(Blocks(5)), "H100-80GB")


def test_where_whole_gpus_and_parts_alternate_the_largest_smaller_size_is_found():
    """Free: GPU 0 whole but served whole only, GPU 1 60 blocks. 1-60, 100-160 can start."""
    gpus = machine(blocks_gpu(0, blocks_by=None), blocks_gpu(1))
    now = start(Blocks(40), LIN, situation(gpus, group("vision")))

    for asked, largest in ((181, 160), (200, 160), (161, 160), (99, 60), (61, 60)):
        ask = remedies(Ask(Blocks(asked)), ADA, now)[RemedyKind.SMALLER].ask
        assert ask == Ask(Blocks(largest)), asked


def test_a_reason_that_no_other_request_gets_around_sends_to_the_administrator():
    for now in (situation(machine(), group("vision")), situation(ONE)):
        assert list(remedies(Ask(Blocks(5)), ADA, now)) == [
            RemedyKind.ASK_ADMIN,
            RemedyKind.WITHOUT_GPU,
        ]


def test_the_holder_is_named_to_people_of_the_group_and_to_nobody_else():
    groups = [group("vision"), group("nlp")]
    now = start(Blocks(100), LIN, situation(ONE, *groups))

    assert remedies(Ask(Blocks(30)), ADA, now)[RemedyKind.ASK_HOLDER].numbers["holder"] == "lin"
    assert RemedyKind.ASK_HOLDER not in remedies(Ask(Blocks(30)), KIM, now)


# --- properties over random situations ------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(asks, people, situations)
def test_every_remedy_is_granted_when_it_is_asked_for(ask, person, now):
    decision = decide(ask, person, now)
    if isinstance(decision, Grant):
        assert decision == judge(ask, person, now)
        return
    refusal = reason_of(decision)
    assert type(decision) is type(judge(ask, person, now))
    assert refusal.remedies[-1].ask == Ask(CpuOnly())
    kinds = [list(RemedyKind).index(remedy.kind) for remedy in refusal.remedies]
    assert kinds == sorted(set(kinds))
    leases = now.books.leases
    for remedy in refusal.remedies:
        numbers = remedy.numbers
        match remedy.kind:
            case RemedyKind.ASK_ADMIN:
                assert remedy.ask is None
                continue
            case RemedyKind.STOP_OWN:
                own = [lease for lease in leases if lease.user_id == person.user_id]
                named = str(numbers["servers"]).split(", ")
                stopped = [
                    subset
                    for subset in ([[lease] for lease in own] + [own])
                    if sorted(lease.server.name or "default" for lease in subset) == sorted(named)
                    and sum(lease.charge.blocks for lease in subset) == numbers["held_blocks"]
                ]
                assert any(is_granted_without(remedy, person, now, gone) for gone in stopped)
            case RemedyKind.WHEN_ENDS:
                ends_at = numbers["ends_at"]
                others = [lease for lease in leases if lease.user_id != person.user_id]
                ended = [lease for lease in others if lease.until and lease.until <= ends_at]
                earlier = [lease for lease in ended if lease.until < ends_at]
                assert is_granted_without(remedy, person, now, ended)
                assert not is_granted_without(remedy, person, now, earlier)
            case RemedyKind.ASK_HOLDER:
                asked = [lease for lease in leases if lease.user_name == numbers["holder"]]
                assert any(is_granted_without(remedy, person, now, [lease]) for lease in asked)
            case _:
                assert remedy.ask is not None
                granted = judge(remedy.ask, person, now)
                assert isinstance(granted, Grant)
                if remedy.kind is not RemedyKind.WITHOUT_GPU:
                    assert granted.placement.words == numbers["share"]
                    assert granted.charge.blocks == numbers["blocks"]
                    assert granted.placement.memory_mib == numbers["memory_mib"]


def is_granted_without(remedy: Remedy, person: Person, now: Situation, leases) -> bool:
    assert remedy.ask is not None
    books = now.books.without({lease.id for lease in leases})
    return isinstance(judge(remedy.ask, person, now.with_books(books)), Grant)


@settings(max_examples=80, deadline=None)
@given(
    st.builds(
        Ask,
        st.builds(Blocks, st.integers(2, 420)),
        group=st.sampled_from((None, "vision", "nlp")),
        model=st.sampled_from((None, "H100-80GB")),
        isolated=st.booleans(),
    ),
    people,
    situations,
)
def test_the_smaller_size_is_the_largest_that_is_granted(ask, person, now):
    decision = decide(ask, person, now)
    assume(not isinstance(decision, Grant))
    refusal = refusal_of(decision)
    assert isinstance(ask.share, Blocks)
    granted = [
        count
        for count in range(1, min(ask.share.count, 401))
        if isinstance(judge(ask.with_share(Blocks(count)), person, now), Grant)
    ]

    smaller = [remedy.ask for remedy in refusal.remedies if remedy.kind is RemedyKind.SMALLER]
    assert smaller == ([ask.with_share(Blocks(max(granted)))] if granted else [])


@settings(max_examples=80, deadline=None)
@given(asks, people, situations)
def test_no_name_of_somebody_outside_one_s_groups_is_told(ask, person, now):
    decision = decide(ask, person, now)
    if isinstance(decision, Grant):
        return
    strangers = {p.name for p in PEOPLE if p != person and not p.groups & person.groups}
    colleagues = {lease.user_name for lease in now.books.leases if lease.group in person.groups}
    for language in LANGUAGES:
        words = set(say_refusal(refusal_of(decision), language).sentence.replace(",", "").split())
        assert not words & (strangers - colleagues)


@settings(max_examples=80, deadline=None)
@given(asks, people, situations)
def test_the_same_question_has_the_same_answer(ask, person, now):
    assert decide(ask, person, now) == decide(ask, person, now)


@settings(max_examples=120, deadline=None)
@given(asks, people, situations)
def test_a_grant_keeps_every_quota_from_the_group_to_the_root(ask, person, now):
    decision = judge(ask, person, now)
    if not isinstance(decision, Grant) or decision.group is None:
        return
    assert decision.group in person.groups
    assert decision.charge == now.charge_for(decision.placement)
    for name in now.tree.path(decision.group):
        quota = now.tree.groups[name].quota
        assert (now.books.held_by_group(name) + decision.charge).fits_in(quota.nominal)
        assert decision.placement.kinds <= quota.kinds
        if quota.per_person is not None:
            held = now.books.held_by_person(name, person.user_id)
            assert (held + decision.charge).fits_in(quota.per_person)
        for cap in (quota.per_notebook, quota.approval_above):
            assert cap is None or decision.charge.fits_in(cap)


def test_reasons_that_no_stop_can_undo_do_not_blame_anybody():
    now = start(Blocks(10), LIN, situation(ONE, group("vision", 50)))

    refusal = refusal_of(decide(Ask(Blocks(60)), ADA, now))
    assert refusal.reason is Reason.OVER_GROUP_TOTAL
    assert [remedy.kind for remedy in refusal.remedies] == [
        RemedyKind.SMALLER,
        RemedyKind.WITHOUT_GPU,
    ]
