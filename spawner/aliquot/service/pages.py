"""Pages: what a browser sees at the service's address.

Rendered here without script, so that the strict content security policy holds and a page
works everywhere; Jinja escapes whatever a name or a group may contain. Sentences are in
``templates/words.*.json``, the same keys in each language.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aliquot.domain.availability import Availability, availability
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Lease
from aliquot.domain.refusals import Ask
from aliquot.domain.wording import say_refusal, word
from aliquot.service.base import Refused
from aliquot.service.handlers import Reading
from aliquot.service.models import utc_now


@cache
def words(language: str) -> Mapping[str, str]:
    path = files("aliquot.service").joinpath("templates", f"words.{language}.json")
    return json.loads(path.read_text("utf-8"))


@cache
def _environment() -> Environment:
    loader = PackageLoader("aliquot.service", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined)


class HomeHandler(Reading):
    """My leases and my groups."""

    redirects_to_login = True

    async def get(self) -> None:
        if self.caller is None:
            return  # ``prepare`` has sent the browser to the login
        # Reading it sets the cookie that scripts of later pages send back.
        _ = self.xsrf_token
        language = self.language
        context: dict[str, Any] = {
            "language": language,
            "words": words(language),
            "prefix": self.hub_auth.base_url,
            "hub_home": f"{self.hub_auth.hub_host}{self.hub_auth.hub_prefix}home",
            "person": self.user["name"],
            "read_at": _moment(utc_now()),
            "refusal": None,
            "simulated": False,
            "gpu_readable": True,
            "leases": [],
            "groups": [],
        }
        try:
            ledger = await self.ledger()
        except Refused as error:
            self.set_status(503)
            context["refusal"] = say_refusal(error.refusal, language).sentence
        else:
            person = self.person(ledger.books.leases)
            mine = sorted(self.mine(ledger.books.leases), key=lambda lease: lease.reserved_at)

            def work() -> Availability:
                situation = self.state.allocator.situation(ledger)
                return availability(Ask(), person, situation, ())

            found = await asyncio.to_thread(work)
            context |= {
                "simulated": found.simulated,
                "gpu_readable": isinstance(found.inventory, Inventory),
                "leases": [_lease_row(lease, language) for lease in mine],
                "groups": _group_rows(found, language),
            }
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Language", language)
        self.finish(_environment().get_template("home.html").render(context))


def _lease_row(lease: Lease, language: str) -> dict[str, str]:
    said = words(language)
    placement = lease.placement
    models = dict.fromkeys(piece.gpu_model for piece in placement.pieces)
    return {
        "server": lease.server.name,
        "size": word("asked", placement.words, language),
        "memory": word("memory_mib", placement.memory_mib, language),
        "gpu": ", ".join(models),
        "group": lease.group,
        "state": said[f"state.{lease.state.value}"],
        "since": _moment(lease.active_at or lease.reserved_at),
        "until": said["no_end"] if lease.until is None else _moment(lease.until),
    }


def _group_rows(found: Availability, language: str) -> list[dict[str, str]]:
    def blocks(count: int) -> str:
        return word("blocks", count, language)

    def of(held: int, limit: int | None) -> str:
        if limit is None:
            return blocks(held)
        return words(language)["of"].format(held=blocks(held), limit=blocks(limit))

    return [
        {
            "name": balance.name,
            "held": of(balance.held_blocks, balance.nominal_blocks),
            "free": blocks(balance.free_blocks),
            "mine": of(balance.mine_blocks, balance.cap_blocks),
        }
        for balance in found.groups
    ]


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
