"""Asks: reading what came as user options.

``read_ask`` is the only parser of options. They come by form, link, REST, saved options and
admin start, so every key and value is hostile until it is read here. The answer is an Ask or
a Refusal, never an exception and never a guess.

The options: ``share`` (``cpu``, ``30 blocks``, ``20 GB``, ``3.1 gpus``, ``1g.10gb``, or
``custom`` with ``amount`` and ``unit``), ``group``, ``model``, ``isolation`` (``any``, ``mig``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from aliquot.domain.refusals import WITHOUT_GPU, Ask, Reason, Refusal, Remedy, RemedyKind
from aliquot.domain.shares import MAX_TEXT, CpuOnly, Share, read_share

KEYS = ("share", "amount", "unit", "group", "model", "isolation")
UNITS = ("blocks", "gb", "gpus")
MAX_NAME = 255

# From here a number is not worth printing; Python itself refuses those of 4,300 digits.
_HUGE = 10**15
_MOST_SHOWN = 40

_PROFILE_INSIDE = re.compile(r"[0-9]g\.[0-9]+gb", re.ASCII)


def read_ask(options: object, *, also_known: Collection[str] = ()) -> Ask | Refusal:
    """Understand user options.

    ``also_known`` names options that belong to somebody else (an admin's own form) and are
    passed over. An empty mapping asks for no GPU.
    """
    if not isinstance(options, Mapping):
        return _bad_value("user_options", options, "an object with " + ", ".join(KEYS))
    unknown = [key for key in options if key not in KEYS and key not in also_known]
    if unknown:
        return Refusal(
            Reason.UNKNOWN_OPTION,
            {"option": shown(unknown[0]), "known": ", ".join(KEYS)},
            (Remedy(RemedyKind.FIX_OPTION),),
        )
    fields: dict[str, str] = {}
    for key in KEYS:
        value = options.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            return _bad_value(key, value, "text")
        if isinstance(value, int) and abs(value) >= _HUGE:
            return _bad_value(key, value, "text")
        text = str(value).strip()
        limit = MAX_NAME if key in ("group", "model") else MAX_TEXT
        if len(text) > limit or not text.isprintable():
            return _bad_value(key, value, f"text of at most {limit} characters")
        fields[key] = text
    isolation = fields.get("isolation", "") or "any"
    if isolation not in ("any", "mig"):
        return _bad_value("isolation", isolation, "any, mig")
    share = _read_share_fields(fields)
    if isinstance(share, Refusal):
        return share
    if isinstance(share, CpuOnly):
        return Ask(share)
    return Ask(
        share,
        group=fields.get("group") or None,
        model=_named_or_none(fields.get("model")),
        isolated=isolation == "mig",
    )


def _read_share_fields(fields: Mapping[str, str]) -> Share | Refusal:
    text = fields.get("share", "")
    if not text and not fields.get("amount"):
        return CpuOnly()
    if text in ("", "custom"):
        unit = fields.get("unit", "") or "blocks"
        if unit not in UNITS:
            return _bad_value("unit", unit, ", ".join(UNITS))
        if not fields.get("amount"):
            return _bad_value("amount", "", "a number of " + ", ".join(UNITS))
        text = f"{fields['amount']} {unit}"
    share = read_share(text)
    if share is not None:
        return share
    if _PROFILE_INSIDE.search(text.lower()):
        return Refusal(
            Reason.MIG_NOT_COMBINABLE, {"given": shown(text)}, (Remedy(RemedyKind.FIX_OPTION),)
        )
    return Refusal(
        Reason.UNREADABLE_SHARE,
        {"given": shown(text)},
        (Remedy(RemedyKind.FIX_OPTION), WITHOUT_GPU),
    )


def _named_or_none(text: str | None) -> str | None:
    return None if text in (None, "", "any") else text


def _bad_value(option: str, value: object, allowed: str) -> Refusal:
    return Refusal(
        Reason.BAD_OPTION_VALUE,
        {"option": option, "given": shown(value), "allowed": allowed},
        (Remedy(RemedyKind.FIX_OPTION),),
    )


def shown(value: object) -> str:
    """A foreign value, short and printable, for a sentence.

    What is inside a list or an object is not shown: it may be nested deeper than Python
    can print, or hold numbers longer than it will.
    """
    match value:
        case str():
            text = value[: _MOST_SHOWN + 1]
        case Mapping():
            text = "an object"
        case bool() | float() | None:
            text = repr(value)
        case int():
            text = str(value) if abs(value) < _HUGE else "a huge number"
        case _:
            text = f"a {type(value).__name__}"
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
