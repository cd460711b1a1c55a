"""Blocks that nothing enforces: by agreement, and on a simulated machine.

``advisory`` is for machines without MPS whose users agree to keep to their part. It is off
unless the admin allows it, and is called not enforced wherever it is shown.
"""

from __future__ import annotations

from aliquot.bindings.patches import Enforcement, ProcessPatch, Strength, patch, visible
from aliquot.domain.leases import Placement


def bind_advisory(placement: Placement) -> ProcessPatch:
    return patch(
        visible(*(piece.gpu_uuid for piece in placement.pieces)),
        Enforcement(Strength.NONE, Strength.NONE, "advisory"),
        notes=("note.advisory", "note.visible_by_environment"),
    )


def bind_simulated(_placement: Placement) -> ProcessPatch:
    """No device is named: the GPUs do not exist, and real ones must not be reached."""
    return patch(
        visible(),
        Enforcement(Strength.NONE, Strength.NONE, "simulated"),
        notes=("note.simulated",),
    )
