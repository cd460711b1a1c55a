"""Wording: every sentence that this package says to a person, in English and Korean.

A module that has something to say keeps a `Sentence` (a key and its numbers), not text;
the text is made at the door, in the language of whoever asks. A key that one catalogue
lacks is a fault that the tests find; at run time English stands in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "ko")


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """The sentences of one language, by key."""
    folder = files("aliquot_lab").joinpath("wording")
    return json.loads(folder.joinpath(f"{language}.json").read_text("utf-8"))


def language_of(tag: str | None) -> str:
    """The catalogue for a locale such as "ko", "ko-KR" or "ko_KR.UTF-8"; English if none."""
    start = (tag or "").lower().replace("_", "-").split("-")[0].split(".")[0]
    return start if start in LANGUAGES else "en"


def language_of_environment(environ: Mapping[str, str]) -> str:
    """The language of a process's own output: LC_ALL, LC_MESSAGES, then LANG."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(name):
            return language_of(environ[name])
    return "en"


@dataclass(frozen=True, slots=True)
class Sentence:
    """Something to say, in no language yet. `values` fill the places of the catalogue's text."""

    key: str
    values: tuple[tuple[str, object], ...] = ()

    def text(self, language: str = "en") -> str:
        pattern = catalogue(language).get(self.key) or catalogue("en")[self.key]
        filled = {
            name: value.text(language) if isinstance(value, Sentence) else value
            for name, value in self.values
        }
        return pattern.format(**filled)


def say(key: str, **values: object) -> Sentence:
    """A sentence by its key; a value may itself be a sentence."""
    return Sentence(key, tuple(sorted(values.items())))


def words_of(note: str, language: str) -> str:
    """The sentence for a note's key; any other text is its own words."""
    return say(note).text(language) if note in catalogue("en") else note
