"""Extended resources: what a device plugin hands out, so many of each name.

Which of equal devices a pod gets is the kubelet's choice, and no object of the API tells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from aliquot.bindings.patches import NotBindable
from aliquot.bindings.pods import Held

WHOLE_GPU = "nvidia.com/gpu"


def counted(held: Iterable[Held]) -> dict[str, str]:
    """The limits that ask for these pieces, each as one of its resource."""
    counts = Counter(resource_of(piece) for piece in held)
    return {name: str(count) for name, count in counts.items()}


def resource_of(held: Held) -> str:
    if not held.offered_as:
        raise NotBindable(
            f"Nothing says by which resource {held.piece.mig_uuid or held.piece.gpu_uuid} is "
            "handed out. Check the device plugin of its node."
        )
    return held.offered_as
