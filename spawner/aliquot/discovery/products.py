"""What a GPU product is called in one word, in the picker and in quotas."""

from __future__ import annotations

import re

from aliquot.domain.mig_geometry import Geometry


def short_model(product: str, geometry: Geometry | None) -> str:
    """The table's name for a product with MIG, else what the driver calls it without the
    vendor: ``NVIDIA L40S`` is ``L40S``, ``Tesla V100-SXM2-32GB`` is ``V100-SXM2-32GB``."""
    if geometry is not None:
        return geometry.model
    bare = re.sub(r"^(NVIDIA|Tesla|Quadro|GeForce)\s+", "", product.strip())
    return re.sub(r"[^A-Za-z0-9.+]+", "-", bare).strip("-") or "GPU"
