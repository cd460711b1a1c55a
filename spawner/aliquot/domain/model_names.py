"""Model names: a GPU's name as people say it."""

from __future__ import annotations


def short_model(model: str) -> str:
    """Drop maker, socket and memory type: "NVIDIA A100-SXM4-80GB" is "A100 80GB"."""
    parts = model.replace("-", " ").split()
    kept = [
        word
        for word in parts
        if word != "NVIDIA" and not word.startswith(("SXM", "HBM")) and word.upper() != "PCIE"
    ]
    return " ".join(kept) or model
