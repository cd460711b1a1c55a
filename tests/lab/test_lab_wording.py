"""The sentences of the notebook's side."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import pytest

import aliquot_lab
from aliquot.service.models import EnforcedBy
from aliquot_lab.text_view import lines
from aliquot_lab.wording import (
    catalogue,
    language_of,
    language_of_environment,
    say,
    words_of,
)

PACKAGE = Path(aliquot_lab.__file__).parent


def usage_under(by: str, *, memory: str, compute: str) -> dict[str, Any]:
    """A usage message of a server with one piece."""
    return {
        "state": "live",
        "simulated": False,
        "state_reason": None,
        "devices": [
            {
                "name": "A100 80GB",
                "piece": "30 blocks",
                "memory_used_mib": 6144,
                "memory_limit_mib": 24576,
                "memory_scope": "share",
                "memory_reason": None,
                "busy_percent": 24,
                "busy_scope": "card",
                "busy_reason": None,
                "shared_with": 2,
                "power_watts": None,
                "temperature_celsius": None,
            }
        ],
        "lease": {"enforcement": {"memory": memory, "compute": compute, "by": by}},
    }


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def test_both_languages_say_the_same_sentences_with_the_same_numbers():
    english, korean = catalogue("en"), catalogue("ko")

    assert english.keys() == korean.keys()
    assert [key for key in english if places(english[key]) != places(korean[key])] == []


def test_every_sentence_that_a_module_says_is_in_the_catalogue():
    said = {
        key
        for path in PACKAGE.glob("*.py")
        for key in re.findall(r'"([a-z0-9_]+)"', path.read_text())
        if f'say("{key}"' in path.read_text()
    }

    assert len(said) > 30
    assert said - catalogue("en").keys() == set()


@pytest.mark.parametrize(
    ("tag", "language"),
    [("ko", "ko"), ("ko-KR", "ko"), ("ko_KR.UTF-8", "ko"), ("de", "en"), ("", "en"), (None, "en")],
)
def test_a_locale_finds_its_catalogue(tag, language):
    assert language_of(tag) == language


def test_the_environment_of_a_process_chooses_its_language():
    assert language_of_environment({"LANG": "ko_KR.UTF-8"}) == "ko"
    assert language_of_environment({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}) == "en"


def test_a_sentence_may_hold_a_sentence():
    nested = say("lease_line", memory=say("enforced_soft"), compute=say("enforced_none"), by="x")

    assert nested.text("en").startswith("Memory enforced: as a soft limit. Compute enforced: not")
    assert say("enforced_soft").text("ko") in nested.text("ko")


def test_every_note_that_a_binding_writes_has_words_in_both_languages():
    bindings = PACKAGE.parents[1] / "spawner" / "aliquot" / "bindings"
    written = {
        key
        for path in bindings.glob("*.py")
        for key in re.findall(r'"(note\.[a-z_]+)"', path.read_text())
    }

    assert len(written) >= 5
    assert {key for key in written if words_of(key, "en") == key} == set()
    assert {key for key in written if words_of(key, "ko") == words_of(key, "en")} == set()


@pytest.mark.parametrize(
    ("by", "strength", "english", "korean"),
    [
        ("hami", "soft", "capped by HAMi (soft)", "HAMi로 제한(소프트)"),
        ("kai", "none", "counted by KAI, not enforced", "KAI가 집계만 하고 강제하지 않음"),
        (
            "shares", "none", "counted by NVIDIA DRA, not enforced",
            "NVIDIA DRA가 집계만 하고 강제하지 않음",
        ),
        (
            "time_slicing", "none", "used in turns (time-slicing), not enforced",
            "번갈아 사용(타임 슬라이싱), 강제되지 않음",
        ),
    ],
)  # fmt: skip
def test_who_holds_a_share_is_said_in_plain_words(by, strength, english, korean):
    message = usage_under(by, memory=strength, compute=strength)

    assert lines(message, "en")[-1] == f"Memory and compute {english}."
    assert lines(message, "ko")[-1] == f"메모리와 연산: {korean}."


def test_a_limit_on_memory_alone_is_told_apart_from_compute():
    message = usage_under("mps", memory="soft", compute="none")

    assert lines(message, "en")[-1] == (
        "Memory enforced: as a soft limit. Compute enforced: not at all. By: CUDA MPS."
    )


def test_every_name_that_a_lease_may_have_for_who_holds_it_has_words():
    english, korean = catalogue("en"), catalogue("ko")

    assert {key.removeprefix("held_") for key in english if key.startswith("held_")} == {
        "line",
        *get_args(EnforcedBy),
    }
    for by in get_args(EnforcedBy):
        assert english[f"held_{by}"] != korean[f"held_{by}"]
        (said,) = {
            lines(usage_under(by, memory=s, compute=s), "en")[-1]
            for s in ("hardware", "soft", "none")
            if lines(usage_under(by, memory=s, compute=s), "en")[-1].startswith("Memory and")
        }
        assert said == f"Memory and compute {english[f'held_{by}']}."


def test_a_note_in_words_stays_as_it_is():
    assert words_of("The rack is being moved.", "ko") == "The rack is being moved."
