"""Which binding a placement takes on one machine."""

from __future__ import annotations

from aliquot.bindings.local_devices import BindWhole, bind_nothing, bind_slice
from aliquot.bindings.local_mps import BindMps
from aliquot.bindings.local_unenforced import bind_advisory, bind_simulated
from aliquot.bindings.patches import NotBindable, ProcessBinding, ProcessPatch
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.domain.leases import Piece, Placement
from aliquot.domain.shares import Kind


def bind_local(placement: Placement, inventory: Inventory, mps_pipe_directory: str) -> ProcessPatch:
    """Translate a placement, on the machine that the inventory describes.

    Raises NotBindable when a GPU or a MIG instance of the placement is gone, or a GPU has
    changed its mode or no longer serves blocks.
    """
    return _binding_for(placement, inventory, mps_pipe_directory)(placement)


def _binding_for(
    placement: Placement, inventory: Inventory, mps_pipe_directory: str
) -> ProcessBinding:
    if not placement.pieces:
        return bind_nothing
    for piece in placement.pieces:
        _check_is_there(piece, inventory)
    if inventory.simulated:
        return bind_simulated
    if Kind.SLICE in placement.kinds:
        return bind_slice
    if Kind.BLOCKS not in placement.kinds:
        gpus = (inventory.by_uuid[piece.gpu_uuid] for piece in placement.pieces)
        is_served = any(gpu.blocks_by is BlocksBy.MPS for gpu in gpus)
        return BindWhole(mps_pipe_directory if is_served else None)
    (shared,) = (piece for piece in placement.pieces if piece.kind is Kind.BLOCKS)
    match inventory.by_uuid[shared.gpu_uuid].blocks_by:
        case BlocksBy.MPS:
            return BindMps(mps_pipe_directory)
        case BlocksBy.ADVISORY:
            return bind_advisory
        case _:
            raise NotBindable(
                f"GPU {shared.gpu_uuid} no longer serves blocks. Start the MPS control daemon."
            )


def _check_is_there(piece: Piece, inventory: Inventory) -> None:
    gpu = inventory.by_uuid.get(piece.gpu_uuid)
    if gpu is None:
        raise NotBindable(f"GPU {piece.gpu_uuid} was there and is gone. Check the driver.")
    if piece.mig_uuid is None:
        if gpu.mig_enabled:
            raise NotBindable(
                f"GPU {piece.gpu_uuid} is in MIG mode now, and was leased out of it. "
                "Try again; the next decision knows."
            )
    elif piece.mig_uuid not in {device.uuid for device in gpu.mig_devices}:
        raise NotBindable(
            f"MIG instance {piece.mig_uuid} was there and is gone. "
            "Was the GPU partitioned anew? Try again; the next decision knows."
        )
