"""Base: what all handlers of the service share: who asks, how a "no" looks, which headers.

Callers are known by the Hub: a token in ``Authorization`` or the cookie of an OAuth login.
With a cookie, a page's script must send the XSRF token (``X-XSRFToken`` or ``?_xsrf=``),
for GET as well; the Hub's own check decides that, on Hub 5.5 and 6 alike, while it looks at
the cookie (so tornado's ``xsrf_cookies`` stays off: it would refuse those with a token). The
Hub's answer is cached for five minutes, which is right for reading only.

Every error is an ``ErrorModel``; nobody is shown a stack.
"""

from __future__ import annotations

import http.client
import logging
from typing import Any, ClassVar, TypeVar

from jupyterhub.services.auth import HubOAuthenticated, UserNotAllowed
from pydantic import BaseModel, ValidationError
from tornado.web import HTTPError, RequestHandler

from aliquot.domain.leases import Lease, Person
from aliquot.domain.refusals import Refusal
from aliquot.domain.wording import LANGUAGES, language_for
from aliquot.hub_scopes import READ_SCOPE
from aliquot.service.answers import refusal_model, status_of
from aliquot.service.models import ErrorModel
from aliquot.service.state import ServiceState

log = logging.getLogger(__name__)

_OUR_ARGUMENTS = frozenset({"_xsrf"})
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REASONS = {
    400: "bad_request",
    401: "not_logged_in",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    500: "internal_error",
    502: "hub_unreachable",
    503: "unavailable",
}
_SENTENCES = {
    401: "Log in first, or send an API token of the Hub in the Authorization header.",
    403: "You may not do that.",
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
    500: "The service failed; its log says why.",
    502: "The Hub could not be asked who you are. Try again shortly.",
    503: "The service cannot answer right now. Try again shortly.",
}

Query = TypeVar("Query", bound=BaseModel)


class Said(HTTPError):
    """An error whose message was written for the caller."""

    def __init__(self, status: int, message: str, reason_code: str | None = None) -> None:
        super().__init__(status, message.replace("%", "%%"))
        self.message = message
        self.reason_code = reason_code or _REASONS.get(status, "bad_request")


class Refused(HTTPError):
    """A refusal of the domain as an answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(status_of(refusal), refusal.reason.value)
        self.refusal = refusal


class ServiceHandler(HubOAuthenticated, RequestHandler):
    """Answers JSON. ``needs_login`` False opens an endpoint to everybody."""

    needs_login: ClassVar[bool] = True
    redirects_to_login: ClassVar[bool] = False

    def initialize(self, state: ServiceState) -> None:
        self.state = state
        self.caller: dict[str, Any] | None = None

    # -- who asks ------------------------------------------------------------------------

    async def prepare(self) -> None:
        if self.request.method not in self.methods():
            return  # tornado answers 405
        if not self.needs_login:
            return
        try:
            model = await self.hub_auth.get_user(self, sync=False)
        except HTTPError as error:
            if error.status_code < 500:
                raise
            raise Said(502, _SENTENCES[502]) from error
        if model is not None:
            try:
                self.caller = self.check_hub_user(model)
            except UserNotAllowed:
                raise Said(403, "Your Hub account may not use this service.") from None
        # ``current_user`` would ask the Hub again, blocking; pages and cookies read it.
        self._hub_auth_user_cache = self.caller
        if self.caller is not None:
            return
        if self.redirects_to_login and self.request.method in ("GET", "HEAD"):
            self.redirect(self.get_login_url())
            return
        if self.hub_auth.get_token(self, in_cookie=False):
            raise Said(403, "The Hub does not know this token, or it has expired.")
        if self.hub_auth.get_token(self):
            raise Said(
                403,
                "The login is not accepted here: send the _xsrf cookie's value as X-XSRFToken, "
                "or log in again.",
                "xsrf_or_login",
            )
        raise Said(401, _SENTENCES[401])

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """The methods that this handler really has."""
        return tuple(
            name
            for name in cls.SUPPORTED_METHODS
            if getattr(cls, name.lower()) is not getattr(RequestHandler, name.lower())
        )

    @property
    def user(self) -> dict[str, Any]:
        """The caller, where ``needs_login``."""
        assert self.caller is not None
        return self.caller

    @property
    def may_read_all(self) -> bool:
        return READ_SCOPE in self.user.get("scopes", ())

    def person(self, open_leases: tuple[Lease, ...]) -> Person:
        """The caller as the domain knows people.

        The Hub's API tells no numeric id. Who holds a lease has it there; for everybody else
        -1 is as true, since the id only counts what is held.
        """
        name = self.user["name"]
        mine = self.mine(open_leases)
        return Person(
            user_id=mine[0].user_id if mine else -1,
            name=name,
            groups=frozenset(self.user.get("groups") or ()),
        )

    def mine(self, leases: tuple[Lease, ...]) -> tuple[Lease, ...]:
        return tuple(lease for lease in leases if self.owns(lease))

    def owns(self, lease: Lease) -> bool:
        """A service of the same name as a user owns nothing."""
        is_user = self.user.get("kind", "user") == "user"
        return is_user and self.state.reconciler.standing.owner_of(lease) == self.user["name"]

    @property
    def language(self) -> str:
        # Not by a getter of tornado's, which raises for bytes that are no text.
        asked = self.request.query_arguments.get("lang", [b""])[-1].decode("ascii", "replace")
        if asked in LANGUAGES:
            return asked
        return language_for(self.request.headers.get("Accept-Language", "en"))

    # -- reading -------------------------------------------------------------------------

    def query(self, model: type[Query]) -> Query:
        """The query's parameters, validated. Raises Said with what is wrong."""
        given: dict[str, str] = {}
        # Read as it came: tornado's own getters turn control characters into spaces.
        for name, values in self.request.query_arguments.items():
            if name in _OUR_ARGUMENTS:
                continue
            if len(values) != 1:
                raise Said(400, f"Give the parameter '{_shown(name)}' once.")
            try:
                given[name] = values[0].decode("utf-8")
            except UnicodeDecodeError:
                raise Said(400, f"The parameter '{_shown(name)}' is not UTF-8.") from None
        try:
            return model.model_validate(given)
        except ValidationError as error:
            raise Said(400, told(error)) from None

    # -- answering -----------------------------------------------------------------------

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in _SECURITY_HEADERS.items():
            self.set_header(name, value)

    def answer(self, model: BaseModel, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(model.model_dump_json(by_alias=True))

    def write_error(self, status_code: int, **more: Any) -> None:
        error = more.get("exc_info", (None, None, None))[1]
        refusal = None
        message = _SENTENCES.get(status_code, http.client.responses.get(status_code, "Error"))
        reason = _REASONS.get(status_code, "error")
        if isinstance(error, Refused):
            refusal = refusal_model(error.refusal, self.language)
            message, reason = refusal.message, refusal.reason.value
        elif isinstance(error, Said):
            message, reason = error.message, error.reason_code
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.methods()))
        self.answer(
            ErrorModel(status=status_code, message=message, reason=reason, refusal=refusal),
            status_code,
        )

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        # Refusals and the caller's mistakes are answers; only faults are for the admin.
        if isinstance(value, HTTPError) and value.status_code < 500:
            return
        if isinstance(value, Refused):
            return
        super().log_exception(typ, value, tb)


class NotFoundHandler(ServiceHandler):
    """Every other address. Nobody needs to log in to be told that there is nothing."""

    needs_login = False

    async def prepare(self) -> None:
        raise Said(404, _SENTENCES[404])


def told(error: ValidationError) -> str:
    """What is wrong with a value that came in, without repeating what came."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(_shown(str(part)) for part in first["loc"]) or "the body"
    return f"{where}: {first['msg']}."


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:40])
