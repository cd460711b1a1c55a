"""Pending: what every engine says of a waiting pod is told in the words of a closed list."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import KUBERNETES, BlocksBy, Gpu, HeldPiece, Inventory, MigDevice
from aliquot.domain.leases import Lease, LeaseState, Piece, Placement, Server
from aliquot.domain.pending import (
    IMAGE_PULL_TRIES,
    MOST_SHOWN,
    PendingReason,
    PodStep,
    Told,
    dead_end,
    read_event,
    read_pod,
    shortened,
    tell,
    waiting_for,
)
from aliquot.domain.pending_room import room_around
from aliquot.domain.wording import LANGUAGES, say_told

AT = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
ENDS_AT = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
ROOM = {"asked": "1g.10gb", "node": "gpu-1", "used_count": 7, "all_count": 7, "ends_at": ENDS_AT}

R = PendingReason

SAID = [
    tuple(line.split(" | ", 3))
    for line in (Path(__file__).with_name("what_engines_say.txt")).read_text().splitlines()
    if not line.startswith("#")
]


def event(reason: str, message: str, **more: object) -> dict[str, object]:
    return {"reason": reason, "message": message, "type": "Warning", "count": 1} | more


@pytest.mark.parametrize(("engine", "reason", "expected", "message"), SAID)
def test_what_an_engine_says_becomes_a_reason_of_the_list(engine, reason, expected, message):
    told = read_event(event(reason, message))

    assert told is not None
    assert told.what is PendingReason(expected)
    for language in LANGUAGES:
        sentence = say_told(told, {}, language)
        assert "{" not in sentence
        assert "nodes are available" not in sentence


def test_every_reason_and_every_step_has_its_sentence_in_both_languages():
    for language in LANGUAGES:
        for reason in PendingReason:
            numbers = {"lacking": "cpu", "message": "odd"}
            sentence = say_told(Told(reason, numbers), ROOM, language)
            assert sentence.endswith(".")
        for step in PodStep:
            assert say_told(Told(step, {"node": "gpu-1"}), {}, language).endswith(".")


def test_what_is_lacking_is_named():
    told = read_event(event("FailedScheduling", "0/1 nodes are available: 1 Insufficient memory."))

    assert told is not None
    assert told.numbers == {"lacking": "memory"}


def test_an_unknown_word_of_kubernetes_is_shortened_and_sends_to_the_admin():
    message = (
        'webhook "x" said {"kind":"Status","details":{"uid":"8f14e45f-ceea-467f-a9f2-1c"}} for'
        " pod 0b0e1f2a-1111-2222-3333-444455556666: try later\nTraceback: line 2"
    )
    told = read_event(event("WebhookSaidNo", message))

    assert told is not None
    sentence = say_told(told, {})
    assert sentence == (
        "Kubernetes says: webhook x said for pod: try later Traceback: line 2. "
        "If this stays, ask the administrator of this Hub."
    )


def test_a_normal_event_that_is_not_known_is_not_told():
    assert read_event(event("SandboxChanged", "Pod sandbox changed", type="Normal")) is None


@given(st.text(max_size=400))
def test_a_shortened_text_is_one_short_line_without_braces(text):
    line = shortened(text)

    assert len(line) <= MOST_SHOWN
    assert not set(line) & set("{}[]\n\r<>")
    assert line.isprintable()


@given(
    st.dictionaries(
        st.sampled_from(["reason", "message", "type", "count", "series", "status"]),
        st.none() | st.integers() | st.text(max_size=30) | st.lists(st.none(), max_size=2),
    )
)
def test_an_event_of_any_shape_is_read_without_a_fault(row):
    read_event(row)
    read_pod(row)
    read_pod({"status": row})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Failed", "reason": "Evicted"}, R.EVICTED),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, R.DEVICE_REFUSED),
        ({"phase": "Failed", "reason": "OutOfcpu"}, R.DEVICE_REFUSED),
        ({"phase": "Failed"}, R.ENDED),
        ({"phase": "Succeeded"}, R.ENDED),
        ({"phase": "Running", "reason": "NodeLost"}, R.NODE_LOST),
        (
            {
                "phase": "Pending",
                "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}],
            },
            R.IMAGE_PULL,
        ),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "SchedulingGated",
                        "message": "Scheduling is blocked due to non-empty scheduling gates",
                    }
                ],
            },
            R.IN_QUEUE,
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            R.NO_FREE_GPU,
        ),
    ],
)
def test_the_pod_itself_says_why_it_waits(status, expected):
    told = read_pod({"status": status})

    assert told is not None
    assert told.what is expected


def test_the_cards_beside_a_full_one_are_not_told_as_unfit():
    """What HAMi and kube-scheduler wrote of one pod that names its card on a node of two."""
    said = "0/1 nodes are available: 1 1/2 CardInsufficientMemory, 1/2 CardUuidMismatch."
    story = [
        event("FilteringFailed", "1 nodes CardInsufficientMemory(gpu-1)"),
        event("FilteringFailed", "1 nodes CardUuidMismatch(gpu-1)"),
        event("FilteringFailed", "no available node, 1 nodes do not meet"),
        event("FailedScheduling", said),
    ]

    assert [told.what for told in tell(None, story)] == [R.NO_FREE_GPU]


def test_a_running_pod_says_nothing():
    assert read_pod({"status": {"phase": "Running", "conditions": []}}) is None


def test_the_story_of_a_start_is_told_once_and_ends_with_what_holds_now():
    pulling = event("Pulling", 'Pulling image "nb"', type="Normal")
    story = [
        event("FailedScheduling", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        event("Scheduled", "Successfully assigned ns/jupyter-ada to gpu-1", type="Normal"),
        pulling,
        event("Failed", "Error: ErrImagePull"),
        pulling,
    ]

    told = tell({"status": {"phase": "Pending"}}, story)

    assert [one.what for one in told] == [
        R.NO_FREE_GPU, PodStep.PLACED, R.IMAGE_PULL, PodStep.IMAGE_PULLING,
    ]  # fmt: skip
    assert told[1].numbers == {"node": "gpu-1"}
    assert waiting_for(told) is None
    assert waiting_for(tell(None, story[:1])) == told[0]


@pytest.mark.parametrize(
    ("reason", "message", "count", "ends"),
    [
        ("Failed", "Error: InvalidImageName", 1, True),
        ("ErrImageNeverPull", "not present with pull policy of Never", 1, True),
        ("Failed", "Error: ErrImagePull", IMAGE_PULL_TRIES - 1, False),
        ("Failed", "Error: ErrImagePull", IMAGE_PULL_TRIES, True),
        ("UnexpectedAdmissionError", "no healthy devices", 1, True),
        ("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.", 900, False),
        ("FailedMount", "timeout", 50, False),
    ],
)
def test_a_start_ends_early_only_where_waiting_does_not_help(reason, message, count, ends):
    told = tell(None, [event(reason, message, count=count)])

    assert (dead_end(told) is not None) is ends


def test_an_event_in_the_newer_form_counts_by_its_series():
    told = read_event(
        event("Failed", "Error: ErrImagePull", count=None, series={"count": IMAGE_PULL_TRIES})
    )

    assert told is not None
    assert told.is_dead_end


# -- the numbers -------------------------------------------------------------------------------


def slices(node: str = "gpu-1", count: int = 7) -> Gpu:
    devices = tuple(
        MigDevice(f"{node}/1g.10gb/{n}", "1g.10gb", 1, 1, 9856, offered_as="nvidia.com/mig-1g.10gb")
        for n in range(count)
    )
    return Gpu(
        f"{node}/gpu/0", 0, "NVIDIA A100-SXM4-80GB", "A100-80GB", 81920, node, True, devices,
        engine=Engine.NVIDIA_PLUGIN, offered_as="nvidia.com/gpu",
    )  # fmt: skip


def lease_of(lease_id: str, piece: Piece, until: datetime | None = None) -> Lease:
    return Lease(
        lease_id, 1, "ada", Server(1), "vision", piece.cost, Placement((piece,)),
        LeaseState.ACTIVE, AT, until=until,
    )  # fmt: skip


def slice_piece(gpu: Gpu, number: int) -> Piece:
    device = gpu.mig_devices[number]
    cost = gpu.cost_of(device)
    return Piece(gpu.uuid, gpu.model, 15, 9856, cost, device.uuid, device.profile)


def test_a_slice_that_is_waited_for_is_told_with_who_is_there_and_when_one_ends():
    gpu = slices()
    mine = lease_of("mine", slice_piece(gpu, 6))
    others = [lease_of(f"l{n}", slice_piece(gpu, n), ENDS_AT if n == 2 else None) for n in range(5)]
    held = (
        HeldPiece(gpu.uuid, "pod other/train", mig_uuid=gpu.mig_devices[5].uuid),
        HeldPiece(gpu.uuid, "pod other/more", mig_uuid=gpu.mig_devices[6].uuid),
    )
    inventory = Inventory((gpu,), KUBERNETES, AT, held=held)

    room = room_around(mine, inventory, [mine, *others])

    assert say_told(Told(R.NO_FREE_GPU), room) == (
        "Waiting for a free 1g.10gb slice: 7 of 7 on gpu-1 are used, one ends about 14:05 UTC."
    )


def test_the_slice_that_was_booked_counts_as_used_when_all_others_are():
    gpu = slices(count=3)
    held = tuple(
        HeldPiece(gpu.uuid, f"pod other/{n}", mig_uuid=gpu.mig_devices[n].uuid) for n in (0, 1)
    )
    mine = lease_of("mine", slice_piece(gpu, 2))

    room = room_around(mine, Inventory((gpu,), KUBERNETES, AT, held=held), [mine])

    assert (room["used_count"], room["all_count"]) == (3, 3)


def test_blocks_that_are_waited_for_are_told_with_what_others_hold():
    gpu = Gpu(
        "GPU-1", 0, "NVIDIA H100", "H100-80GB", 81559, "gpu-2",
        engine=Engine.HAMI, blocks_by=BlocksBy.HAMI,
    )  # fmt: skip
    piece = Piece("GPU-1", "H100-80GB", 30, 24467, cost_of_blocks(30))
    other = Piece("GPU-1", "H100-80GB", 50, 40779, cost_of_blocks(50))
    held = (HeldPiece("GPU-1", "pod other/train", blocks=40),)
    inventory = Inventory((gpu,), KUBERNETES, AT, held=held)

    room = room_around(lease_of("mine", piece), inventory, [lease_of("other", other)])

    assert say_told(Told(R.NO_FREE_GPU), room) == (
        "Waiting for 30 blocks on gpu-2: others hold 90 blocks of that GPU."
    )


def test_where_nothing_is_known_nothing_is_claimed():
    mine = lease_of("mine", slice_piece(slices(), 0))

    assert say_told(Told(R.NO_FREE_GPU), room_around(mine, None, [])) == (
        "Waiting for a free GPU: none is free now."
    )
    assert say_told(
        Told(R.NO_FREE_GPU), room_around(mine, Inventory((slices(),), KUBERNETES, AT), [mine])
    ) == ("Waiting for 1g.10gb: not free on gpu-1 now.")
