"""Pod marks: the names by which a pod tells whose it is, and what it was given.

Pure. A pod of ours carries all of them; a pod with another ledger's mark, or with none, is
foreign. The labels are what is selected by, the annotation is what is read.

An annotation can be changed by whoever may change pods, so marks are read as data from
anywhere: what does not parse is None, and never raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.leases import Lease, Piece

LEDGER = "aliquot.io/ledger"
LEASE = "aliquot.io/lease"
SPAWNER = "aliquot.io/spawner"
# The spawn attempt, which is also the lease's id where there is one: pods without a GPU carry
# it too, so that a spawner knows its own.
ATTEMPT = "aliquot.io/attempt"
PIECES = "aliquot.io/pieces"

# Label values of Kubernetes ("Labels and Selectors", syntax and character set).
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SPAWNER_ID = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Marks:
    """What goes into a pod's metadata."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PodMarks:
    """What a pod says of itself. ``pieces`` is None when that part cannot be read: the pod
    then still belongs to the lease, and the books know its pieces."""

    ledger: str
    lease_id: str
    spawner_id: int | None
    pieces: tuple[Piece, ...] | None


def marks_of(ledger_mark: str, lease: Lease) -> Marks:
    """The marks of a lease's pod. ``ledger_mark`` is ``deployment_mark`` of the database.

    Raises ValueError when one of them cannot be a label's value.
    """
    labels = {LEDGER: ledger_mark, LEASE: lease.id, SPAWNER: str(lease.server.spawner_id)}
    for name, value in labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"{value!r} cannot be the value of label {name}")
    pieces = [piece.to_json() for piece in lease.placement.pieces]
    return Marks(labels, {PIECES: json.dumps(pieces, separators=(",", ":"))})


def read_marks(metadata: object) -> PodMarks | None:
    """The marks in a pod's ``metadata``, as the API server's JSON; None for a pod without."""
    labels = _texts(metadata, "labels")
    ledger, lease_id = labels.get(LEDGER), labels.get(LEASE)
    if not ledger or not lease_id:
        return None
    spawner = labels.get(SPAWNER, "")
    return PodMarks(
        ledger,
        lease_id,
        int(spawner) if _SPAWNER_ID.fullmatch(spawner) else None,
        _pieces(_texts(metadata, "annotations").get(PIECES)),
    )


def _texts(metadata: object, name: str) -> dict[str, str]:
    """The entries of a map of texts; whatever else stands there is left out."""
    found = metadata.get(name) if isinstance(metadata, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, str)}


def _pieces(written: str | None) -> tuple[Piece, ...] | None:
    if written is None:
        return None
    try:
        rows: Any = json.loads(written)
        if not isinstance(rows, list):
            return None
        pieces = tuple(Piece.from_json(row) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return pieces if all(piece.blocks <= BLOCKS_PER_GPU for piece in pieces) else None
