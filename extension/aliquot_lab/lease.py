"""Lease: what the Hub told this server about its GPUs.

Parsed once, at the door, from the environment variable ALIQUOT_LEASE (compact JSON,
written by the binding that started this server). No variable means a server without GPU,
even on a machine that has some. A variable that cannot be read is a `LeaseFault`, a
sentence for the user: a broken lease must not keep JupyterLab from starting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aliquot.domain.model_names import short_model
from aliquot_lab.wording import Sentence, say

VARIABLE = "ALIQUOT_LEASE"
VERSION = 1

Kind = Literal["slice", "blocks", "whole", "mixed"]
Strength = Literal["hardware", "soft", "none"]
Scope = Literal["slice", "share", "card"]

_KINDS = ("slice", "blocks", "whole", "mixed")
_STRENGTHS = ("hardware", "soft", "none")


@dataclass(frozen=True, slots=True)
class Piece:
    """One GPU's part of a lease. `mig_uuid` is set for a MIG slice, `whole` for a whole GPU."""

    gpu_uuid: str
    gpu_model: str
    mig_uuid: str | None
    profile: str | None
    blocks: int
    memory_mib: int
    whole: bool

    @property
    def scope(self) -> Scope:
        """What this piece is: a slice, a share of a card, or the card."""
        if self.mig_uuid:
            return "slice"
        return "card" if self.whole else "share"

    @property
    def uuid(self) -> str:
        """The UUID by which CUDA shows this piece."""
        return self.mig_uuid or self.gpu_uuid

    @property
    def name(self) -> str:
        """The model as people say it: "NVIDIA H100 80GB HBM3" is "H100 80GB"."""
        return short_model(self.gpu_model)

    @property
    def label(self) -> Sentence:
        """The piece as people say it: "30 blocks", "1g.10gb", "whole GPU"."""
        if self.profile:
            return say("verbatim", text=self.profile)
        return say("whole_gpu") if self.whole else say("blocks", blocks=self.blocks)


@dataclass(frozen=True, slots=True)
class Enforcement:
    memory: Strength
    compute: Strength
    by: str


@dataclass(frozen=True, slots=True)
class Lease:
    """What this server holds. `document` is the lease as it came, for those who show it."""

    lease_id: str
    kind: Kind
    memory_mib: int
    pieces: tuple[Piece, ...]
    enforcement: Enforcement
    thread_percentage: int | None
    simulated: bool
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LeaseFault:
    """A lease that cannot be read, and what to do about it."""

    reason: Sentence


class _Wrong(ValueError):
    """A field is missing or of the wrong type; the text names it."""


def read_lease(environ: Mapping[str, str]) -> Lease | LeaseFault | None:
    """The lease of this process, a fault, or None for a server without GPU."""
    written = environ.get(VARIABLE, "").strip()
    return parse_lease(written) if written else None


def parse_lease(written: str) -> Lease | LeaseFault:
    try:
        document = json.loads(written)
    except (ValueError, RecursionError):
        return LeaseFault(say("lease_not_json"))
    if not isinstance(document, dict):
        return LeaseFault(say("lease_not_json"))
    version = document.get("version")
    if version != VERSION:
        return LeaseFault(say("lease_wrong_version", version=repr(version)))
    try:
        return _lease(document)
    except _Wrong as wrong:
        return LeaseFault(say("lease_wrong_shape", fault=str(wrong)))


def _lease(document: dict[str, Any]) -> Lease:
    pieces = _field(document, "pieces", list)
    if not pieces:
        raise _Wrong("'pieces' is empty")
    enforcement = _field(document, "enforcement", dict)
    return Lease(
        lease_id=_field(document, "lease_id", str),
        kind=_choice(document, "kind", _KINDS),  # type: ignore[arg-type]
        memory_mib=_field(document, "memory_mib", int),
        pieces=tuple(_piece(piece) for piece in pieces),
        enforcement=Enforcement(
            memory=_choice(enforcement, "memory", _STRENGTHS),  # type: ignore[arg-type]
            compute=_choice(enforcement, "compute", _STRENGTHS),  # type: ignore[arg-type]
            by=_field(enforcement, "by", str),
        ),
        thread_percentage=_optional(document, "thread_percentage", int),
        simulated=bool(_optional(document, "simulated", bool)),
        document=document,
    )


def _piece(document: Any) -> Piece:
    if not isinstance(document, dict):
        raise _Wrong("a piece is not an object")
    return Piece(
        gpu_uuid=_field(document, "gpu_uuid", str),
        gpu_model=_field(document, "gpu_model", str),
        mig_uuid=_optional(document, "mig_uuid", str),
        profile=_optional(document, "profile", str),
        blocks=_field(document, "blocks", int),
        memory_mib=_field(document, "memory_mib", int),
        whole=bool(_optional(document, "whole", bool)),
    )


def _field(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    # JSON's true is Python's 1: a flag where a number belongs is a fault, not a one.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _Wrong(f"'{name}' is not {_TYPE_WORDS[kind]}")
    return value


def _optional(document: Mapping[str, Any], name: str, kind: type) -> Any:
    return None if document.get(name) is None else _field(document, name, kind)


def _choice(document: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = _field(document, name, str)
    if value not in choices:
        raise _Wrong(f"'{name}' is not one of {', '.join(choices)}")
    return value


_TYPE_WORDS = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
