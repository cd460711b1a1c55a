"""The sentences of the notebook's side."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import aliquot_lab
from aliquot_lab.wording import (
    catalogue,
    language_of,
    language_of_environment,
    say,
    words_of,
)

PACKAGE = Path(aliquot_lab.__file__).parent


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


def test_a_note_in_words_stays_as_it_is():
    assert words_of("The rack is being moved.", "ko") == "The rack is being moved."
