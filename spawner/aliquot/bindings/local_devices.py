"""Whole devices on one machine: no GPU, a MIG instance, whole GPUs.

The hardware keeps the piece apart from others' pieces. That the process looks only at its own
is asked of CUDA by environment, which a determined user can change; containers close that.
"""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.bindings.patches import Enforcement, ProcessPatch, Strength, patch, visible
from aliquot.domain.leases import Placement

# A control daemon at the default place would be asked by every CUDA program, and a client of
# it cannot open a MIG instance that it does not serve. A directory without a daemon means:
# run without MPS (nvidia-cuda-mps-control(1)).
_NO_MPS = "/dev/null"


def bind_nothing(_placement: Placement) -> ProcessPatch:
    """A server without a GPU sees none, also on a machine full of them."""
    return patch(visible(), Enforcement(Strength.NONE, Strength.NONE, "none"))


def bind_slice(placement: Placement) -> ProcessPatch:
    """One MIG instance, by UUID."""
    (piece,) = placement.pieces
    assert piece.mig_uuid is not None
    return patch(
        {**visible(piece.mig_uuid), "CUDA_MPS_PIPE_DIRECTORY": _NO_MPS},
        Enforcement(Strength.HARDWARE, Strength.HARDWARE, "mig"),
        notes=("note.visible_by_environment",),
    )


@dataclass(frozen=True, slots=True)
class BindWhole:
    """Whole GPUs, by UUID. Nobody else is given any part of them.

    Where the MPS daemon serves them they may be in exclusive-process mode, in which a second
    kernel reaches the GPU through the daemon only: it is named then, without any limit.
    """

    pipe_directory: str | None = None

    def __call__(self, placement: Placement) -> ProcessPatch:
        env = visible(*(piece.gpu_uuid for piece in placement.pieces))
        if self.pipe_directory is not None:
            env["CUDA_MPS_PIPE_DIRECTORY"] = self.pipe_directory
        return patch(
            env,
            Enforcement(Strength.HARDWARE, Strength.HARDWARE, "driver"),
            notes=("note.visible_by_environment",),
        )
