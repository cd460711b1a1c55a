"""StartRefused: a refusal in the form that the Hub can show.

The Hub shows start errors in four places, each reading another attribute: the form and the
progress stream (``jupyterhub_message``), the pending page (both ``jupyterhub_…`` messages),
JSON (``message``) and the log and metrics (``reason``). JupyterHub 6.1.1 falls back to
``str(exc)``, the private text, where the first two are missing.

The status is 400 for a request that is wrong in itself and 409 for all others. Never 5xx: the
Hub counts those towards ``consecutive_failure_limit`` and would shut itself down because a
group is over its quota.
"""

from __future__ import annotations

from html import escape
from typing import Any

from tornado.web import HTTPError

from aliquot.domain.refusals import Refusal
from aliquot.domain.wording import Said, say_refusal

try:
    from jupyterhub.spawner import SpawnException
except ImportError:  # JupyterHub 5
    SpawnException = None

_HubError: Any = SpawnException or HTTPError


class StartRefused(_HubError):
    """A start that is not granted. The Hub shows it; nothing else catches it."""

    def __init__(self, refusal: Refusal, language: str) -> None:
        said = say_refusal(refusal, language)
        status = 400 if refusal.reason.is_users_mistake else 409
        reason = refusal.reason.value
        if SpawnException is not None:
            super().__init__(said.sentence, reason=reason, status_code=status)
        else:
            super().__init__(status, said.sentence, reason=reason)
        self.refusal = refusal
        self.message = self.jupyterhub_message = said.sentence
        self.message_html = self.jupyterhub_html_message = _as_html(said)

    def __str__(self) -> str:
        return self.message


def _as_html(said: Said) -> str:
    remedies = "".join(f"<li>{escape(remedy)}</li>" for remedy in said.remedies)
    return f"<p><strong>{escape(said.what)}:</strong> {escape(said.why)}</p><ul>{remedies}</ul>"


class StartFailed(_HubError):
    """A start that was granted and could not be carried out; ``sentence`` is for the person.

    Status 409 for what the Hub is not at fault for (a full node, a missing image), so that it
    does not count towards ``consecutive_failure_limit``.
    """

    def __init__(self, sentence: str, *, reason: str, status: int = 409) -> None:
        if SpawnException is not None:
            super().__init__(sentence, reason=reason, status_code=status)
        else:
            super().__init__(status, sentence, reason=reason)
        self.message = self.jupyterhub_message = sentence
        self.message_html = self.jupyterhub_html_message = f"<p>{escape(sentence)}</p>"

    def __str__(self) -> str:
        return self.message


class LinkPrefills(Exception):
    """A link has filled in the form instead of starting a server. Not an HTTP error, so that
    the Hub answers with the form and status 200."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.jupyterhub_message = message
