"""Blocks by CUDA MPS on one machine.

The limits are the client's environment: a memory cap per device and one share of the threads
for the whole process. Both only tighten what the daemon allows. They hold per process, so two
kernels of one notebook may use twice the memory, and a user can unset them: soft limits.

With several devices one thread percentage would throttle the whole GPUs as well (3.1 GPUs at
10 %), so none is set then: memory on the last GPU is capped, its compute is not, and a note on
the receipt says so.

Source: NVIDIA MPS documentation, appendix on environment variables; the format of the memory
limit (``0=1G,1=512MB``, by device ordinal of the client) is from the same place.
"""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.bindings.patches import Enforcement, ProcessPatch, Strength, patch, visible
from aliquot.domain.leases import Placement
from aliquot.domain.shares import Kind


@dataclass(frozen=True, slots=True)
class BindMps:
    """``pipe_directory`` is where the control daemon listens; it was checked by discovery."""

    pipe_directory: str

    def __call__(self, placement: Placement) -> ProcessPatch:
        pieces = placement.pieces
        env = visible(*(piece.gpu_uuid for piece in pieces))
        env["CUDA_MPS_PIPE_DIRECTORY"] = self.pipe_directory
        env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = ",".join(
            f"{ordinal}={piece.memory_mib}M"
            for ordinal, piece in enumerate(pieces)
            if piece.kind is Kind.BLOCKS
        )
        notes = ["note.mps_per_process", "note.mps_soft", "note.visible_by_environment"]
        if len(pieces) > 1:
            notes.insert(0, "note.mixed_compute_uncapped")
            compute, percentage = Strength.NONE, None
        else:
            compute, percentage = Strength.SOFT, pieces[0].blocks
            env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percentage)
        return patch(env, Enforcement(Strength.SOFT, compute, "mps"), tuple(notes), percentage)
