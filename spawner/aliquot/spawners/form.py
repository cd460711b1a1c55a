"""The form: what one person sees on the spawn page, and what is remembered for it.

The Hub renders the form of the *default* server after an error, also for a named one, so what
was refused is kept with the person. It is shown once: a page asked for anew is a fresh start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl

from aliquot.allocator import Allocator
from aliquot.domain.asks import read_ask
from aliquot.domain.leases import Person
from aliquot.domain.refusals import Ask, Refusal
from aliquot.domain.wording import language_for
from aliquot.spawners.picker import PickerPage, presets_with, render_picker

_ATTRIBUTE = "_aliquot_form"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused start, with the options as they were given (hostile)."""

    refusal: Refusal
    options: Mapping[str, Any]
    language: str
    was_offered: bool = False


class Form:
    """One person's form, as long as the Hub keeps its object for them."""

    def __init__(self) -> None:
        self._rejection: Rejection | None = None
        self._prefill: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, user: Any) -> Form:
        """The form of a Hub user."""
        form = getattr(user, _ATTRIBUTE, None)
        if form is None:
            form = cls()
            setattr(user, _ATTRIBUTE, form)
        return form

    def keep_rejection(self, rejection: Rejection) -> None:
        self._rejection, self._prefill = rejection, None

    def keep_prefill(self, options: Mapping[str, Any]) -> None:
        self._prefill = options

    def forget(self) -> None:
        self._rejection = self._prefill = None

    def take(self) -> tuple[Rejection | None, Mapping[str, Any] | None]:
        """What is to be shown now, once."""
        taken = self._rejection, self._prefill
        self.forget()
        return taken


def language_of(handler: Any) -> str:
    """The language that a request asks for; English where there is no request."""
    if handler is None:
        return "en"
    return language_for(handler.request.headers.get("Accept-Language", ""))


def considered(handler: Any) -> Ask | None:
    """The group, model and isolation that the page's script is looking at."""
    if handler is None:
        return None
    text = handler.request.headers.get("X-Aliquot-Consider", "")
    ask = read_ask({"share": "1 block", **dict(parse_qsl(text[:1024]))})
    return ask if text and isinstance(ask, Ask) else None


class FormOwner(Protocol):
    """What the form needs of a spawner. ``user``, ``handler`` and ``hub`` are the Hub's."""

    user: Any
    handler: Any
    hub: Any

    @property
    def allocator(self) -> Allocator: ...

    @property
    def person(self) -> Person: ...

    @property
    def last_accepted(self) -> Mapping[str, Any]: ...

    @property
    def saved_options(self) -> Mapping[str, Any]: ...


async def picker_form(spawner: FormOwner) -> str:
    """The ``options_form``: the picker for the owner of the server."""
    rejection, prefill = Form.of(spawner.user).take()
    handler = spawner.handler
    asked = considered(handler)
    last_used = spawner.last_accepted
    chosen: Mapping[str, Any] = spawner.saved_options
    if rejection is not None:
        chosen = rejection.options
    elif prefill is not None:
        chosen = prefill
    if asked is None:
        read = read_ask(chosen)
        asked = read if isinstance(read, Ask) else Ask()
    language = rejection.language if rejection is not None else language_of(handler)
    shown = await asyncio.to_thread(
        spawner.allocator.availability,
        spawner.person,
        asked,
        presets_with((), last_used),
    )
    return render_picker(
        PickerPage(
            availability=shown,
            read_at=datetime.now(UTC),
            chosen=chosen,
            refusal=None if rejection is None else rejection.refusal,
            was_offered=rejection is not None and rejection.was_offered,
            last_used=last_used or None,
            language=language,
            home_url=spawner.hub.base_url + "home",
        )
    )
