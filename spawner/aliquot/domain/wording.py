"""Wording: the sentences for what the domain decides, in English and Korean.

One catalogue a language (``wording/en.json``, ``wording/ko.json``), the same keys in each; a
test holds them together. Templates name values by unit, and the unit words the value:
``{held_blocks}`` becomes "80 blocks", ``{memory_mib}`` "7.9 GiB", ``{since_at}`` "14:05 UTC";
``{held}`` is the bare number of ``held_blocks``.

A message is ``what``, ``why`` and remedies. Text is plain: who puts it on a page escapes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from aliquot.domain.pending import PendingReason, PodStep, Told
from aliquot.domain.refusals import Number, Refusal, Remedy

LANGUAGES = ("en", "ko")


@dataclass(frozen=True, slots=True)
class Said:
    """A refusal in words. ``remedies`` stand in the order of the refusal's."""

    what: str
    why: str
    remedies: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it on one line, the remedies as alternatives."""
        return " ".join([f"{self.what}: {self.why}", *self.remedies])


def language_for(accept_language: str) -> str:
    """The catalogue for an Accept-Language header: the first known tag by weight, else English."""

    def weight(part: str) -> float:
        try:
            found = float(part.partition(";q=")[2] or 1)
        except ValueError:
            return 0
        return found if 0 < found <= 1 else 0

    parts = accept_language.lower().replace(" ", "").split(",")
    for part in sorted(parts, key=weight, reverse=True):
        tag = part.partition(";")[0].partition("-")[0]
        if tag in LANGUAGES and weight(part):
            return tag
    return "en"


def say(key: str, language: str = "en", /, **numbers: Number) -> str:
    """The sentence of a key. Raises KeyError for a key or a number that is missing."""
    bare = {name.rpartition("_")[0]: str(value) for name, value in numbers.items()}
    worded = {name: word(name, value, language) for name, value in numbers.items()}
    return _catalogue(language)[key].format_map(bare | worded)


def say_refusal(refusal: Refusal, language: str = "en") -> Said:
    code = refusal.reason.value
    asked = refusal.numbers.get("asked", refusal.numbers.get("asked_blocks"))
    name = "asked_blocks" if isinstance(asked, int) else "asked"
    what_key = f"refusal.{code}.what"
    if what_key in _catalogue(language):
        what = say(what_key, language, **refusal.numbers)
    else:
        what = say("refusal.what", language, asked=word(name, asked or "GPU", language))
    why_key = f"refusal.{code}.why" + (".no_node" if "missing_engine" in refusal.numbers else "")
    return Said(
        what,
        say(why_key, language, **refusal.numbers),
        tuple(say_remedy(remedy, language) for remedy in refusal.remedies),
    )


def say_remedy(remedy: Remedy, language: str = "en") -> str:
    return say(f"remedy.{remedy.kind.value}", language, **remedy.numbers)


def say_told(told: Told, room: Mapping[str, Number], language: str = "en") -> str:
    """What Kubernetes says of a starting pod. ``room`` is that of ``pending_room``: the
    numbers about a GPU that is not free, as far as they are known."""
    if isinstance(told.what, PodStep):
        return say(f"step.{told.what.value}", language, **told.numbers)
    key = f"pending.{told.what.value}"
    if told.what is PendingReason.IMAGE_PULL and told.is_dead_end:
        return say(f"{key}.given_up", language, tries=told.times)
    if told.what is not PendingReason.NO_FREE_GPU:
        return say(key, language, **told.numbers)
    if "node" not in room:
        return say(f"{key}.unplaced", language)
    if "used_count" in room:
        key += ".slices"
    elif "held_blocks" in room:
        key += ".blocks"
    if key.endswith("s") and "ends_at" in room:
        key += ".ends"
    return say(key, language, **room)


def templates(prefix: str, language: str) -> Mapping[str, str]:
    """The sentences of a family with their places open, by the rest of their keys: for a
    script that fills them in itself."""
    return {
        key.removeprefix(prefix): text
        for key, text in _catalogue(language).items()
        if key.startswith(prefix)
    }


def word(name: str, value: Number, language: str) -> str:
    """One value in words, by the unit that ends its name."""
    unit = name.rpartition("_")[2]
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%H:%M UTC")
    if isinstance(value, str):
        count, blocks, rest = value.partition(" block")
        # Only a share's own text is translated: a group may be called "30 blocks".
        if name in ("share", "asked") and blocks and rest in ("", "s") and count.isdecimal():
            return word("blocks", int(count), language)
        return value
    if unit == "mib":
        return f"{value / 1024:.1f} GiB"
    if unit in ("blocks", "gpus", "minutes", "seconds"):
        form = "one" if value == 1 else "other"
        return _catalogue(language)[f"unit.{unit}.{form}"].format(n=value)
    return str(value)


@cache
def _catalogue(language: str) -> Mapping[str, str]:
    text = files("aliquot.domain").joinpath("wording", f"{language}.json").read_text("utf-8")
    return json.loads(text)
