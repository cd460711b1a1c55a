"""Sizes and availability over REST: what would start, and a "no" with its remedies."""

from __future__ import annotations

import pytest


def test_sizes_are_the_presets_and_the_slices_of_the_machine_and_called_simulated(hub, ada):
    sizes = hub.service("GET", "api/sizes", token=ada).json()

    shares = [size["share"] for size in sizes["sizes"]]
    assert shares[:4] == ["10 blocks", "25 blocks", "50 blocks", "100 blocks"]
    assert "1g.10gb" in shares
    assert sizes["simulated"] is True
    assert sizes["max_blocks"] == 200
    # An H100 has 81,559 MiB; a tenth of it, rounded down.
    ten = sizes["sizes"][0]["placement"]
    assert (ten["blocks"], ten["memory_mib"], ten["enforced_by"]) == (10, 8155, ["simulated"])
    assert all(piece["gpu_uuid"] is None for piece in ten["pieces"])


def test_availability_judges_the_share_that_was_asked_for(hub, ada):
    found = hub.service("GET", "api/availability?share=30+blocks", token=ada).json()

    assert found["person"] == "ada"
    assert found["answer"]["state"] == "now"
    assert found["answer"]["group"] == "vision"
    assert found["answer"]["options"] == {"share": "30 blocks"}
    assert [group["name"] for group in found["groups"]] == ["vision"]
    assert found["groups"][0]["nominal_blocks"] == 100


def test_a_no_tells_numbers_and_remedies_with_the_options_that_would_be_granted(
    hub, ada, adas_notebook
):
    found = hub.service("GET", "api/availability?share=80+blocks", token=ada).json()

    assert found["groups"][0]["held_blocks"] == found["groups"][0]["mine_blocks"] == 30
    refusal = found["answer"]["refusal"]
    assert refusal["reason"] == "over_group_quota"
    assert refusal["numbers"]["held_blocks"] == 30
    smaller = next(r for r in refusal["remedies"] if r["kind"] == "smaller")
    # A remedy is a promise: asked for, it is granted.
    again = hub.service("GET", "api/availability", token=ada, params=smaller["options"]).json()
    assert again["answer"]["state"] == "now"


def test_verdicts_are_worded_in_korean_for_those_who_ask_so(hub):
    eve = hub.token_of("eve")
    by_header = hub.service(
        "GET",
        "api/availability?share=10",
        token=eve,
        headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"},
    ).json()
    english = hub.service("GET", "api/availability?share=10&lang=en", token=eve).json()

    assert by_header["answer"]["refusal"]["reason"] == "no_group"
    assert any("가" <= letter <= "힣" for letter in by_header["answer"]["refusal"]["message"])
    assert english["answer"]["refusal"]["message"].isascii()


@pytest.mark.parametrize(
    "query, reason",
    [
        ("share=30+bananas", "unreadable_share"),
        ("share=3x1g.10gb", "mig_not_combinable"),
        ("share=" + "9" * 65, "bad_request"),
        ("isolation=none", "bad_request"),
        ("share=10&share=20", "bad_request"),
        ("gpu=1", "bad_request"),
        ("group=%00", "bad_option_value"),
        ("model=" + "x" * 256, "bad_request"),
        ("share=%ff%fe", "bad_request"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_an_error_of_the_caller(hub, ada, query, reason):
    answer = hub.service("GET", f"api/availability?{query}", token=ada)

    assert answer.status_code == 400
    error = answer.json()
    assert (error["status"], error["reason"]) == (400, reason)
    assert error["message"]
    assert "Traceback" not in answer.text


def test_somebody_elses_group_is_not_shown_and_not_used(hub, ada):
    found = hub.service("GET", "api/availability?share=10&group=nlp", token=ada).json()

    assert found["asked"]["group"] is None
    assert [group["name"] for group in found["groups"]] == ["vision"]
    assert found["answer"]["refusal"]["reason"] == "not_your_group"
