"""Wording: both languages say everything, with the numbers, and never a brace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain.refusals import Reason, Refusal, Remedy, RemedyKind
from aliquot.domain.wording import LANGUAGES, language_for, say, say_refusal, say_remedy, word

CATALOGUES = {
    language: json.loads(
        files("aliquot.domain").joinpath("wording", f"{language}.json").read_text("utf-8")
    )
    for language in LANGUAGES
}
UNITS = ("blocks", "gpus", "minutes", "seconds", "mib", "at", "count")


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def stem(place: str) -> str:
    """The number behind a place: ``held`` and ``held_blocks`` are the same one."""
    head, _, unit = place.rpartition("_")
    return head if unit in UNITS and head else place


def test_both_languages_have_the_same_sentences():
    assert CATALOGUES["en"].keys() == CATALOGUES["ko"].keys()


@pytest.mark.parametrize("key", CATALOGUES["en"])
def test_both_languages_give_the_same_numbers_in_each_sentence(key):
    english, korean = (CATALOGUES[language].get(key, "") for language in LANGUAGES)

    assert {stem(place) for place in places(english)} == {stem(place) for place in places(korean)}
    assert english.strip() == english != ""
    assert korean.strip() == korean != ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_written_twice_in_a_catalogue(language):
    text = files("aliquot.domain").joinpath("wording", f"{language}.json").read_text("utf-8")
    keys = [key for key, _ in json.loads(text, object_pairs_hook=list)]

    assert len(keys) == len(set(keys))


def test_every_reason_and_every_remedy_has_its_sentence():
    keys = CATALOGUES["en"].keys()

    assert {f"refusal.{reason.value}.why" for reason in Reason} <= keys
    assert {f"remedy.{kind.value}" for kind in RemedyKind} <= keys


def test_no_sentence_is_left_of_a_reason_or_a_remedy_that_is_gone():
    codes = {key.split(".")[1] for key in CATALOGUES["en"] if key.startswith("refusal.")}
    kinds = {key.split(".")[1] for key in CATALOGUES["en"] if key.startswith("remedy.")}

    assert codes == {reason.value for reason in Reason} | {"what"}
    assert kinds == {kind.value for kind in RemedyKind}


def test_every_sentence_of_a_refusal_ends_and_every_korean_one_has_korean():
    for language in LANGUAGES:
        for key, text in CATALOGUES[language].items():
            if key.endswith(".why") or key.startswith(("remedy.", "note.")):
                assert text.endswith("."), key
            if key.startswith(("refusal.", "remedy.", "note.")) and language == "ko":
                bare = "".join(part for part, *_ in Formatter().parse(text))
                assert any("가" <= c <= "힣" for c in bare) or bare in ("'' refused", ""), key


@pytest.mark.parametrize(
    ("name", "value", "english", "korean"),
    [
        ("free_blocks", 1, "1 block", "1블록"),
        ("free_blocks", 0, "0 blocks", "0블록"),
        ("free_blocks", 310, "310 blocks", "310블록"),
        ("whole_gpus", 1, "1 GPU", "GPU 1개"),
        ("whole_gpus", 3, "3 GPUs", "GPU 3개"),
        ("wait_minutes", 1, "1 minute", "1분"),
        ("wait_seconds", 20, "20 seconds", "20초"),
        ("memory_mib", 8192, "8.0 GiB", "8.0 GiB"),
        ("memory_mib", 24467, "23.9 GiB", "23.9 GiB"),
        ("free_count", 7, "7", "7"),
        ("share", "30 blocks", "30 blocks", "30블록"),
        ("asked", "1 block", "1 block", "1블록"),
        ("share", "1g.10gb", "1g.10gb", "1g.10gb"),
        ("asked", "20 GB", "20 GB", "20 GB"),
        ("group", "42", "42", "42"),
        ("group", "30 blocks", "30 blocks", "30 blocks"),
        ("given", "0", "0", "0"),
    ],
)
def test_a_value_is_worded_by_the_unit_in_its_name(name, value, english, korean):
    assert (word(name, value, "en"), word(name, value, "ko")) == (english, korean)


def test_a_time_is_told_in_utc_and_says_so():
    seoul = datetime(2026, 11, 23, 23, 5, tzinfo=timezone(timedelta(hours=9)))

    assert word("ends_at", seoul, "en") == "14:05 UTC"
    assert word("ends_at", seoul.astimezone(UTC), "ko") == "14:05 UTC"


def test_the_bare_number_stands_where_the_unit_was_said_already():
    numbers = {"group": "vision", "held_blocks": 80, "nominal_blocks": 100, "asked_blocks": 30}

    assert say("refusal.over_group_quota.why", **numbers) == (
        "group 'vision' holds 80 of its 100 blocks."
    )


def test_a_missing_number_or_key_is_a_fault_and_never_half_a_sentence():
    with pytest.raises(KeyError):
        say("refusal.over_group_quota.why", group="vision")
    with pytest.raises(KeyError):
        say("no.such.sentence")


@given(st.text(max_size=30), st.sampled_from(LANGUAGES))
def test_a_name_with_braces_or_percent_is_told_as_it_is(name, language):
    refusal = Refusal(Reason.NO_GROUP, {"person": name})

    assert name in say_refusal(refusal, language).what


def test_a_refusal_reads_as_one_line_in_the_order_of_its_remedies():
    refusal = Refusal(
        Reason.NO_ROOM,
        {"asked_blocks": 1, "free_blocks": 0, "largest_blocks": 0},
        (Remedy(RemedyKind.ASK_ADMIN), Remedy(RemedyKind.WITHOUT_GPU)),
    )

    assert say_refusal(refusal).sentence == (
        "1 block not free: 0 blocks are free on all GPUs together. "
        "Ask the administrator of this Hub. Start without a GPU."
    )
    assert say_refusal(refusal, "ko").sentence == (
        "1블록: 자리 없음: 모든 GPU를 합쳐 0블록이 비어 있습니다. "
        "이 Hub의 관리자에게 문의합니다. GPU 없이 시작합니다."
    )


def test_the_fault_of_the_ledger_is_worded_without_its_inner_detail():
    refusal = Refusal(Reason.LEDGER_UNAVAILABLE, {"detail": "disk I/O error at /var/lib"})

    for language in LANGUAGES:
        assert "/var/lib" not in say_refusal(refusal, language).sentence


def test_a_remedy_tells_what_one_would_get_and_pay():
    remedy = Remedy(
        RemedyKind.OTHER_PIECE,
        {
            "share": "1g.10gb",
            "blocks": 15,
            "memory_mib": 9856,
            "model": "A100-80GB",
            "group": "vision",
        },
    )

    assert say_remedy(remedy) == ("Take 1g.10gb on A100-80GB (9.6 GiB, charged 15 blocks) now.")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("de,ko;q=0.5,en;q=0.3", "ko"),
        ("de", "en"),
        ("en;q=0.1, ko;q=0.9", "ko"),
        ("en; q=0.1, ko; q=0.9", "ko"),
        ("ko;q=0, de", "en"),
        ("ko;q=abc", "en"),
        ("*", "en"),
        ("KO-kr", "ko"),
    ],
)
def test_a_browser_s_languages_find_their_catalogue(header, language):
    assert language_for(header) == language


@given(st.text(max_size=60) | st.from_regex(r"([a-z]{2}(;q=[0-9.naif]{1,4})?,){0,4}"))
def test_any_language_header_finds_a_catalogue(header):
    assert language_for(header) in LANGUAGES
