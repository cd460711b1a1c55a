"""Failures of requests to the API server."""

from __future__ import annotations


class ApiFailure(Exception):
    """The text goes on after "The API server". ``retry_after_seconds`` is what it asked for."""

    def __init__(
        self, text: str, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Forbidden(ApiFailure):
    """The hub's service account lacks a right."""

    def __init__(self, resource: str, said: str) -> None:
        super().__init__(
            f"does not let the hub list and watch {resource} (403). Give its service account a "
            f"ClusterRole with 'list' and 'watch' on {resource}; hub_config has one."
            + (f" It said: {said}" if said else ""),
            403,
        )


class NotServed(ApiFailure):
    """The API server knows no such resource."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"serves no {resource} (404)", 404)


class Gone(ApiFailure):
    """What was asked for is too long ago (410): list anew."""

    def __init__(self, said: str) -> None:
        super().__init__(f"has forgotten what was asked for (410): {said}", 410)
