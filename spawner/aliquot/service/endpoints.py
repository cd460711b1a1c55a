"""Endpoints: the one list of addresses, with what each takes and gives.

The application's routes and the OpenAPI document are both made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from aliquot.service import handlers
from aliquot.service.base import ServiceHandler
from aliquot.service.models import (
    AvailabilityModel,
    AvailabilityQuery,
    ErrorModel,
    FindingsModel,
    FindingsQuery,
    HealthModel,
    LeasesModel,
    LeasesQuery,
    NoQuery,
    ReceiptModel,
    SizesModel,
)

Method = Literal["get", "put"]


@dataclass(frozen=True)
class Operation:
    """One method of an address. ``errors`` are the statuses that carry an ErrorModel."""

    method: Method
    summary: str
    description: str
    answer: type[BaseModel] | str
    errors: tuple[int, ...]
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | None = None
    other_answers: dict[int, type[BaseModel]] = field(default_factory=dict)


@dataclass(frozen=True)
class Endpoint:
    """``path`` is relative to the service's prefix; ``{lease_id}`` is its only parameter."""

    path: str
    handler: type[ServiceHandler]
    operations: tuple[Operation, ...]

    @property
    def pattern(self) -> str:
        return self.path.replace(".", r"\.").replace("{lease_id}", "(?P<lease_id>[0-9a-f]{32})")


WHO = (401, 403)
LEDGER = (502, 503)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "health",
        handlers.HealthHandler,
        (
            Operation(
                "get",
                "Whether the service works",
                "For monitors, without login. 503 when the ledger cannot be read; GPU starts "
                "are refused then, and notebooks without a GPU start.",
                HealthModel,
                errors=(400,),
                other_answers={503: HealthModel},
            ),
        ),
    ),
    Endpoint(
        "api/sizes",
        handlers.SizesHandler,
        (
            Operation(
                "get",
                "The sizes that this machine offers",
                "Presets and MIG profiles with what an empty machine would give for each.",
                SizesModel,
                errors=(400, *WHO, *LEDGER),
            ),
        ),
    ),
    Endpoint(
        "api/availability",
        handlers.AvailabilityHandler,
        (
            Operation(
                "get",
                "What the caller may start now",
                "A verdict on every size, the same that the spawn page shows, and on `share` "
                "when it is given. A verdict of no is an answer (200) with its refusal; a "
                "parameter that cannot be read is an error (400).",
                AvailabilityModel,
                errors=(400, *WHO, *LEDGER),
                query=AvailabilityQuery,
            ),
        ),
    ),
    Endpoint(
        "api/leases/mine",
        handlers.MyLeasesHandler,
        (
            Operation(
                "get",
                "What the caller's servers hold",
                "Open leases, oldest first, with the ids of their GPUs.",
                LeasesModel,
                errors=(400, *WHO, *LEDGER),
                query=LeasesQuery,
            ),
        ),
    ),
    Endpoint(
        "api/receipts/{lease_id}",
        handlers.ReceiptHandler,
        (
            Operation(
                "get",
                "What the notebook found inside",
                "For the lease's owner, and with the scope `custom:aliquot:read`.",
                ReceiptModel,
                errors=(400, *WHO, 404, *LEDGER),
            ),
            Operation(
                "put",
                "Tell what the notebook found inside",
                "Sent by the notebook server with its own token. The lease must be open and "
                "the caller's. Sending it again replaces it.",
                ReceiptModel,
                errors=(400, *WHO, 404, 409, 413, *LEDGER),
                body=ReceiptModel,
            ),
        ),
    ),
    Endpoint(
        "api/findings",
        handlers.FindingsHandler,
        (
            Operation(
                "get",
                "Where books, Hub and cluster disagree",
                "With the scope `custom:aliquot:read`. What is listed was neither released nor "
                "ended, and counts as held.",
                FindingsModel,
                errors=(400, *WHO, 502),
                query=FindingsQuery,
            ),
        ),
    ),
    Endpoint(
        "metrics",
        handlers.MetricsHandler,
        (
            Operation(
                "get",
                "The books for Prometheus",
                "With the scope `custom:aliquot:read`.",
                "text/plain",
                errors=(400, *WHO, 502),
            ),
        ),
    ),
)

__all__ = ["ENDPOINTS", "Endpoint", "ErrorModel", "Operation"]
