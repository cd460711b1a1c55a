"""Engines: who hands a GPU to a container or a process, and in what portions.

Values only. Each GPU of an inventory names its engine; ``discovery`` detects it per node and
never assumes it. What an engine can express decides what ``placement`` may promise.

Sources: NVIDIA k8s-device-plugin v0.20.0, HAMi 2.10.0, KAI Scheduler v0.17.0,
dra-driver-nvidia-gpu v0.4.1, HAMi k8s-dra-driver v0.1.0.
"""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    """``LOCAL`` is this machine itself: environment variables and CUDA MPS."""

    LOCAL = "local"
    NVIDIA_PLUGIN = "nvidia_plugin"
    HAMI = "hami"
    HAMI_MIG = "hami_mig"
    KAI = "kai"
    DRA_NVIDIA = "dra_nvidia"
    DRA_HAMI = "dra_hami"

    @property
    def combines(self) -> bool:
        """Whether one notebook can have whole GPUs and a part of one more.

        HAMi's and KAI's requests say one size for all cards of a container (HAMi: cores and
        memory per card; KAI: ``gpu-fraction`` with ``gpu-fraction-num-devices``). HAMi's DRA
        driver numbers the limits of a claim's cards in no fixed order, so that a whole card
        could be held to the part's limit (hami_core.go, GetCDIContainerEdits).
        """
        return self not in (Engine.HAMI, Engine.HAMI_MIG, Engine.KAI, Engine.DRA_HAMI)
