"""Patches: what a binding asks of a process, and what it can promise.

``Enforcement`` says who holds the notebook to its piece, for memory and for compute apart:
``hardware`` cannot be escaped, ``soft`` holds honest programs, ``none`` is an agreement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from aliquot.domain.leases import Placement


class NotBindable(Exception):
    """The GPUs changed between the decision and the binding. The text is a sentence for
    the admin; the allocator gives the lease back and tells the user to try again."""


class Strength(StrEnum):
    HARDWARE = "hardware"
    SOFT = "soft"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """``by`` is who enforces: mig, driver, mps, hami, or who only counts: advisory, kai, shares
    (NVIDIA's DRA driver), time_slicing, simulated."""

    memory: Strength
    compute: Strength
    by: str


@dataclass(frozen=True, slots=True)
class ProcessPatch:
    """Environment for a process. It replaces what is there under the same names.

    ``notes`` are keys of sentences (``note.*`` in the wording) that the receipt must show.
    ``thread_percentage`` is the MPS compute limit, None where none is set.
    """

    env: Mapping[str, str]
    enforcement: Enforcement
    notes: tuple[str, ...] = ()
    thread_percentage: int | None = None
    unset: frozenset[str] = field(default_factory=frozenset)


class ProcessBinding(Protocol):
    """One engine on one machine.

    Every implementation owes: exactly the devices of the placement are named, by UUID and in
    its order; what is charged is what is granted; the enforcement is never overstated.
    """

    def __call__(self, placement: Placement, /) -> ProcessPatch: ...


# Variables that could widen a binding: each patch sets or unsets all of them.
GOVERNED = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "CUDA_MPS_PIPE_DIRECTORY",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    }
)


def visible(*uuids: str) -> dict[str, str]:
    """The two variables that name devices: for CUDA and for the container runtime.

    An empty ``CUDA_VISIBLE_DEVICES`` shows no device to CUDA (CUDA Programming Guide,
    environment variables); ``void`` asks the runtime for none (NVIDIA Container Toolkit).
    """
    names = ",".join(uuids)
    return {"CUDA_VISIBLE_DEVICES": names, "NVIDIA_VISIBLE_DEVICES": names or "void"}


def patch(
    env: Mapping[str, str],
    enforcement: Enforcement,
    notes: tuple[str, ...] = (),
    thread_percentage: int | None = None,
) -> ProcessPatch:
    """A patch that governs every variable: those not set are taken away."""
    return ProcessPatch(env, enforcement, notes, thread_percentage, GOVERNED - env.keys())
