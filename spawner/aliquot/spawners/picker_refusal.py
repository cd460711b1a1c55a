"""A refusal on the spawn page: what caused it, and each way out as something to press.

Pure. A remedy that is a request becomes a button inside the Hub's form, which sends that
request in place of the fields. One that needs somebody else, or another time, is words: what
it asks for is what was refused a moment ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from aliquot.domain.refusals import Reason, Refusal, Remedy, RemedyKind
from aliquot.domain.wording import say_refusal, say_remedy

SIZE_FIELD = "aliquot-size"
AMOUNT_FIELD = "aliquot-amount"
UNIT_FIELD = "aliquot-unit"
GROUP_FIELD = "aliquot-group"
MODEL_FIELD = "aliquot-model"
ISOLATION_FIELD = "aliquot-isolation"

_FIELD_OF_OPTION = {
    "share": SIZE_FIELD,
    "amount": AMOUNT_FIELD,
    "unit": UNIT_FIELD,
    "group": GROUP_FIELD,
    "model": MODEL_FIELD,
    "isolation": ISOLATION_FIELD,
}
_FIELD_OF_REASON = {
    Reason.UNREADABLE_SHARE: AMOUNT_FIELD,
    Reason.MIG_NOT_COMBINABLE: AMOUNT_FIELD,
    Reason.NOT_YOUR_GROUP: GROUP_FIELD,
    Reason.UNKNOWN_MODEL: MODEL_FIELD,
    Reason.NOTHING_ISOLATED: ISOLATION_FIELD,
}
_NOT_NOW = {RemedyKind.STOP_OWN, RemedyKind.WHEN_ENDS, RemedyKind.ASK_HOLDER}


@dataclass(frozen=True, slots=True)
class Way:
    """A remedy: a button (``options`` is what it sends), a link, or just words."""

    text: str
    options: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class RefusalOnPage:
    """``field`` is the id of the control that caused it."""

    what: str
    why: str
    field: str
    ways: tuple[Way, ...]
    was_offered: bool


def field_of(refusal: Refusal) -> str:
    """The id of the control that a refusal is about; the sizes where it is none other."""
    if refusal.reason is Reason.BAD_OPTION_VALUE:
        return _FIELD_OF_OPTION.get(str(refusal.numbers.get("option")), SIZE_FIELD)
    return _FIELD_OF_REASON.get(refusal.reason, SIZE_FIELD)


def refusal_on_page(
    refusal: Refusal, field: str, language: str, *, was_offered: bool, home_url: str | None
) -> RefusalOnPage:
    said = say_refusal(refusal, language)
    ways = tuple(_way(remedy, language, home_url) for remedy in refusal.remedies)
    return RefusalOnPage(said.what, sentence(said.why), field, ways, was_offered)


def _way(remedy: Remedy, language: str, home_url: str | None) -> Way:
    text = say_remedy(remedy, language)
    if remedy.kind is RemedyKind.STOP_OWN:
        return Way(text, link=home_url or "")
    if remedy.ask is None or remedy.kind in _NOT_NOW:
        return Way(text)
    return Way(text.rstrip("."), options=urlencode(remedy.ask.to_options()))


def sentence(text: str) -> str:
    """With a capital, where the script has them."""
    return text[:1].upper() + text[1:]
