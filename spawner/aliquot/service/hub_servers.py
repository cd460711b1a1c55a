"""The Hub's servers: which of them live, and the lease that each carries.

Asks the Hub's REST API, page by page. Whatever is unclear is a fault (``HubUnreadable``),
never an empty answer: an empty answer would read as "all servers are gone", and every lease
would be released. So the token's scopes are looked at first, a page that lacks what they
should show is refused, and a list that changed its length while it was read is read again.

Spawners write their lease into their state as ``{"aliquot": {"lease": …}}``; reading it needs
the scope ``admin:server_state``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from aliquot.domain.lease_json import lease_from_json
from aliquot.domain.leases import Lease
from aliquot.domain.reconciliation import LiveServer
from aliquot.hub_scopes import missing_scopes

log = logging.getLogger(__name__)

PAGINATED = "application/jupyterhub-pagination+json"
_PAGE = 200
_TRIES = 3


class HubUnreadable(Exception):
    """The Hub's servers cannot be known now. The text is for the admin."""


@dataclass(frozen=True, slots=True)
class HubApi:
    """Where the Hub's API is, and with which right it is asked."""

    url: str
    token: str
    timeout_seconds: float = 20.0

    async def get(self, path: str, **arguments: str | int) -> Any:
        """Raises HubUnreadable for every answer but JSON with status 200."""
        address = f"{self.url.rstrip('/')}/{path}"
        if arguments:
            address += "?" + urlencode(arguments)
        request = HTTPRequest(
            address,
            headers={"Authorization": f"token {self.token}", "Accept": PAGINATED},
            request_timeout=self.timeout_seconds,
            connect_timeout=min(5.0, self.timeout_seconds),
        )
        try:
            answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        except OSError as error:
            raise HubUnreadable(f"the Hub does not answer at {self.url}: {error}") from error
        if answer.code != 200:
            # tornado tells timeouts and broken connections as status 599 when not raising.
            raise HubUnreadable(f"the Hub answered {answer.code} to GET {path}")
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise HubUnreadable(f"the Hub's answer to GET {path} is not JSON") from error


async def live_servers(hub: HubApi) -> tuple[LiveServer, ...]:
    """All servers that are starting, running or stopping.

    Raises:
        HubUnreadable: it could not be read in full; nothing may be concluded from it.
    """
    me = await hub.get("user")
    lacking = missing_scopes(me.get("scopes", ()))
    if lacking:
        raise HubUnreadable(
            f"the service's role lacks the scopes {', '.join(lacking)}; "
            "add them in JupyterHub.load_roles, or let setup_aliquot(c) do it"
        )
    for _attempt in range(_TRIES):
        users = await _all_active_users(hub)
        if users is not None:
            return tuple(server for user in users for server in servers_of(user))
    raise HubUnreadable(f"the list of users changed {_TRIES} times while it was read")


async def _all_active_users(hub: HubApi) -> list[Mapping[str, Any]] | None:
    """None when the list's length changed between two pages."""
    users: list[Mapping[str, Any]] = []
    total: int | None = None
    while True:
        page = await hub.get("users", state="active", sort="id", offset=len(users), limit=_PAGE)
        if not isinstance(page, dict) or "_pagination" not in page:
            raise HubUnreadable("the Hub does not page its list of users")
        told = page["_pagination"]
        if total not in (None, told["total"]):
            return None
        total = told["total"]
        users.extend(page["items"])
        if told["next"] is None:
            return users if len(users) == total else None
        if not page["items"]:
            return None


def servers_of(user: Mapping[str, Any]) -> Iterable[LiveServer]:
    """One user's servers, from the Hub's model. Raises HubUnreadable when it is not whole."""
    if "servers" not in user:
        raise HubUnreadable(f"the Hub does not tell the servers of {user.get('name')}")
    for name, model in user["servers"].items():
        if "state" not in model:
            raise HubUnreadable(f"the Hub does not tell the state of {user['name']}/{name}")
        yield LiveServer(
            user_name=user["name"],
            server_name=name,
            lease=_carried_lease(user["name"], name, model["state"]),
            is_ready=bool(model.get("ready")),
        )


def _carried_lease(user: str, server: str, state: object) -> Lease | None:
    ours = state.get("aliquot") if isinstance(state, dict) else None
    row = ours.get("lease") if isinstance(ours, dict) else None
    if row is None:
        return None
    try:
        return lease_from_json(row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Releasing what it might hold would be worse than judging nothing in this pass.
        raise HubUnreadable(
            f"the lease that {user}/{server} carries cannot be read: {error!r}"
        ) from error
