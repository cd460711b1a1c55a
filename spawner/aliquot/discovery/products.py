"""What a GPU product is called in one word, in the picker and in quotas."""

from __future__ import annotations

import re

from aliquot.domain.mig_geometry import Geometry, geometries


def short_model(product: str, geometry: Geometry | None) -> str:
    """The table's name for a product with MIG, else what the driver calls it without the
    vendor: ``NVIDIA L40S`` is ``L40S``, ``Tesla V100-SXM2-32GB`` is ``V100-SXM2-32GB``."""
    if geometry is not None:
        return geometry.model
    bare = re.sub(r"^(NVIDIA|Tesla|Quadro|GeForce)\s+", "", product.strip())
    return re.sub(r"[^A-Za-z0-9.+]+", "-", bare).strip("-") or "GPU"


def product_of_label(label: str) -> str:
    """The driver's name of a product that GPU feature discovery wrote into a label, where
    each space became a hyphen: ``NVIDIA-H100-80GB-HBM3`` is ``NVIDIA H100 80GB HBM3``.

    Names that are not in the table of geometries keep their hyphens after the first word,
    since nobody can tell which were spaces.
    """
    vendor, _, rest = label.partition("-")
    for geometry in geometries().values():
        for name in geometry.names:
            if rest.lower() == name.replace(" ", "-").lower():
                return f"{vendor} {name}"
    return f"{vendor} {rest}".strip()
