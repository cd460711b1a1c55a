"""Picker fields: what the spawn page's form sends, and how options fill it in again.

Pure. Nothing is judged here: ``read_ask`` alone says what options mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from aliquot.domain.asks import KEYS
from aliquot.domain.shares import Blocks, CpuOnly, Share, read_share

CUSTOM = "custom"
# The name of the buttons that start with a remedy instead of the fields' values.
INSTEAD = "instead"
# What the page has said "starts now" of.
SEEN = "seen"
_MOST_SEEN = 2048


def presets_with(
    presets: Sequence[Share], last_used: Mapping[str, object] | None
) -> tuple[Share, ...]:
    """The presets to ask availability about: an admin's, and what this person last used."""
    share = share_of(last_used or {})
    extra = () if share is None or isinstance(share, CpuOnly) else (share,)
    return tuple(dict.fromkeys([*presets, *extra]))


def form_options(form: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """The user options in a submitted form; ``read_ask`` has the word on what they mean.

    A field that repeats or that this page does not have is passed on as it is, to be
    refused by name. A press of a remedy's button replaces the fields by the remedy's.
    """
    instead = form.get(INSTEAD)
    if instead and isinstance(instead[-1], str):
        return dict(parse_qsl(instead[-1][:_MOST_SEEN], max_num_fields=len(KEYS) + 1))
    options: dict[str, object] = {}
    for key, values in form.items():
        if key in (INSTEAD, SEEN):
            continue
        options[key] = values[0] if len(values) == 1 else list(values)
    if options.get("share") != CUSTOM:
        options.pop("amount", None)
        options.pop("unit", None)
    return {key: value for key, value in options.items() if value != "" or key == "amount"}


def was_offered(form: Mapping[str, Sequence[object]], share: Share) -> bool:
    """Whether the page that sent this form had said "starts now" of the share when opened."""
    seen = form.get(SEEN)
    if not seen or not isinstance(seen[0], str):
        return False
    shown = seen[0][:_MOST_SEEN].split(",")
    if isinstance(share, Blocks):
        for entry in shown:
            first, dash, last = entry.partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                continue
            if int(first) <= share.count <= int(last or first):
                return True
    return str(share) in shown


def text_of(options: Mapping[str, object], key: str) -> str:
    """An option as text; empty for what is no text."""
    value = options.get(key)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def share_of(options: Mapping[str, object]) -> Share | None:
    """The size among raw options; None where none can be read."""
    text = text_of(options, "share")
    if text in ("", CUSTOM) and "amount" in options:
        text = f"{text_of(options, 'amount')} {text_of(options, 'unit') or 'blocks'}"
    return read_share(text) if text else None
