"""Hub scopes: the rights that Aliquot needs from the Hub and the one that it adds.

The service asks with them, ``setup_aliquot(c)`` grants them, ``aliquot check`` looks whether
they were granted.
"""

from __future__ import annotations

from collections.abc import Iterable

SERVICE_NAME = "aliquot"
# What listing all servers with the lease that each carries takes.
NEEDED_SCOPES = ("list:users", "read:servers", "admin:server_state")
READ_SCOPE = "custom:aliquot:read"

# A right that holds a needed one in it (JupyterHub's scope hierarchy).
_INCLUDED = {
    "list:users": {"users", "admin:users"},
    "read:servers": {"servers", "admin:servers"},
    "admin:server_state": {"admin:servers"},
}


def missing_scopes(held: Iterable[str]) -> tuple[str, ...]:
    """What is lacking. A scope that is filtered to a user or a group does not count: it
    would show some servers only, and the others would be taken for gone."""
    whole = set(held)
    return tuple(
        scope for scope in NEEDED_SCOPES if scope not in whole and not _INCLUDED[scope] & whole
    )
