"""Receipt reports: what was seen of GPUs inside a notebook, as values.

The JSON is that of ``aliquot_lab.cuda_probe``. It was written inside the notebook, so by its
user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aliquot.domain.json_fields import text_or_none

_UUID = re.compile(r"(?:gpu-|mig-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Seen:
    """A device that CUDA shows. ``name`` is the driver's; of a slice it ends in its profile."""

    uuid: str | None
    name: str | None
    error: str | None
    free_mib: int | None
    total_mib: int | None

    @property
    def hex(self) -> str:
        return bare_uuid(self.uuid)


@dataclass(frozen=True, slots=True)
class Report:
    """What ``aliquot_lab.cuda_probe`` saw, see there.

    ``hami_is_off`` says that somebody has switched HAMi's limits off; ``hami_limits_mib`` are
    those that it set, by the device's number.
    """

    error: str | None
    devices: tuple[Seen, ...]
    card_free_mib: Mapping[str, int]
    thread_percentage: str | None = None
    hami_is_off: bool = False
    hami_limits_mib: Mapping[str, int] | None = None


def read_report(document: Mapping[str, Any]) -> Report:
    """Raises ValueError, KeyError, TypeError or AttributeError for another shape."""
    cuda = document["cuda"]
    hami = document.get("hami") or {}
    return Report(
        error=text_or_none(cuda, "error"),
        devices=tuple(
            Seen(
                text_or_none(device, "uuid"),
                device.get("name"),
                text_or_none(device, "error"),
                device["free_mib"],
                device["total_mib"],
            )
            for device in cuda["devices"]
        ),
        card_free_mib=dict(document["card_free_mib"]),
        thread_percentage=text_or_none(document, "thread_percentage"),
        hami_is_off=bool(hami.get("is_off")),
        hami_limits_mib=dict(hami.get("limits_mib") or {}),
    )


def bare_uuid(uuid: str | None) -> str:
    """The bare UUID, by which NVML's "GPU-…" and "MIG-…" compare with CUDA's bytes; empty for
    a name of ours."""
    found = _UUID.fullmatch((uuid or "").lower())
    return found.group(1) if found else ""
