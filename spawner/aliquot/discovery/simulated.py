"""The source that reads a machine from a TOML file: for demos, tests and laptops.

Nothing in it exists, and the inventory says so (``simulated``). The file is read anew each
time, so that a test may change the machine under way. What NVIDIA's hardware could not be cut
into is refused, with the line of the GPU that it is about.
"""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from aliquot.discovery.products import short_model
from aliquot.discovery.source import GpuStateUnreadable
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory, MigDevice
from aliquot.domain.mig_geometry import Geometry, Placed, geometry_for

# UUIDs follow from the place in the file, so that leases survive a restart of the hub.
NAMESPACE = uuid.UUID("0c5f3e53-5d4c-5b7e-9d1e-a11900075e1f")
GPU_KEYS = {"product", "memory_mib", "mig", "blocks", "max_sharers", "uuid", "node"}


class SimulatedSource:
    """A machine in a file; without a path the one that ships with the package."""

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)

    def read(self) -> Inventory:
        """Raises GpuStateUnreadable for a file that is missing or describes no machine."""
        called = str(self._path) if self._path else "the simulated machine that ships"
        try:
            text = (
                self._path.read_text("utf-8")
                if self._path
                else files("aliquot.discovery")
                .joinpath("simulated_machine.toml")
                .read_text("utf-8")
            )
            gpus = gpus_described(tomllib.loads(text))
        except OSError as error:
            raise GpuStateUnreadable(
                f"The simulated machine cannot be read: {called}: {error.strerror}. Set "
                "'c.Aliquot.simulated_machine' to a file that exists, or leave it empty."
            ) from error
        except (ValueError, TypeError) as error:
            raise GpuStateUnreadable(
                f"The simulated machine cannot be read: {called}: {error}. Correct the file."
            ) from error
        return Inventory(gpus, "simulated", datetime.now(UTC), simulated=True)


def gpus_described(document: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """The GPUs of a parsed file. Raises ValueError or TypeError with what is wrong where."""
    unknown = document.keys() - {"gpu"}
    if unknown:
        raise ValueError(f"unknown entry '{min(unknown)}'; a machine is a list of [[gpu]]")
    rows = document.get("gpu", [])
    if not isinstance(rows, list):
        raise ValueError("a machine is a list of [[gpu]], with two brackets")
    gpus = tuple(_gpu(index, row) for index, row in enumerate(rows))
    if len({gpu.uuid for gpu in gpus}) != len(gpus):
        raise ValueError("two GPUs have one UUID")
    return gpus


def _gpu(index: int, row: Any) -> Gpu:
    where = f"GPU {index}"
    if not isinstance(row, Mapping):
        raise TypeError(f"{where}: a GPU is a table under [[gpu]], got {row!r}")
    unknown = row.keys() - GPU_KEYS
    if unknown:
        raise ValueError(f"{where}: unknown entry '{min(unknown)}'")
    product = _entry(row, "product", str, where)
    memory_mib = _entry(row, "memory_mib", int, where)
    if memory_mib < 1:
        raise ValueError(f"{where}: memory_mib is positive, got {memory_mib}")
    geometry = geometry_for(product)
    named = _entry(row, "uuid", str, where) if "uuid" in row else ""
    gpu_uuid = named or f"GPU-{uuid.uuid5(NAMESPACE, f'{index} {product}')}"
    mig_enabled = "mig" in row
    devices: tuple[MigDevice, ...] = ()
    if mig_enabled:
        if geometry is None:
            raise ValueError(f"{where}: {product} has no MIG, or is not in the table")
        devices = _mig_devices(_entry(row, "mig", list, where), geometry, gpu_uuid, where)
    gives_blocks = not mig_enabled and (
        _entry(row, "blocks", bool, where) if "blocks" in row else True
    )
    return Gpu(
        uuid=gpu_uuid,
        index=index,
        product=product,
        model=short_model(product, geometry),
        memory_mib=memory_mib,
        node=_entry(row, "node", str, where) if "node" in row else "",
        mig_enabled=mig_enabled,
        mig_devices=devices,
        compute_slots=geometry.compute_slots if geometry else 7,
        memory_slots=geometry.memory_slots if geometry else 8,
        blocks_by=BlocksBy.SIMULATED if gives_blocks else None,
        max_sharers=_entry(row, "max_sharers", int, where) if "max_sharers" in row else None,
    )


def _mig_devices(
    layout: list[Any], geometry: Geometry, gpu_uuid: str, where: str
) -> tuple[MigDevice, ...]:
    """Instances written ``1g.10gb@4``: profile, then the memory slot it begins at."""
    placed = [_placed(entry, where) for entry in layout]
    why_illegal = geometry.why_illegal(placed)
    if why_illegal is not None:
        raise ValueError(f"{where}: {why_illegal}")
    devices = []
    for instance in placed:
        profile = geometry.profiles[instance.profile]
        if profile.memory_mib is None:
            raise ValueError(f"{where}: nobody has published the memory of {instance.profile}")
        name = f"{gpu_uuid} {instance.profile}@{instance.start}"
        devices.append(
            MigDevice(
                uuid=f"MIG-{uuid.uuid5(NAMESPACE, name)}",
                profile=profile.name,
                compute_slices=profile.compute_slices,
                memory_slices=profile.memory_slices,
                memory_mib=profile.memory_mib,
                start=instance.start,
            )
        )
    return tuple(devices)


def _placed(entry: object, where: str) -> Placed:
    profile, at, start = str(entry).partition("@")
    if not isinstance(entry, str) or not at or not start.isdecimal():
        raise ValueError(f"{where}: an instance is written like '1g.10gb@4', got {entry!r}")
    return Placed(profile, int(start))


def _entry(row: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = row.get(key)
    # In Python a bool is an int; in the file it is a slip.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "a text", int: "a whole number", list: "a list", bool: "true or false"}
        raise TypeError(f"{where}: {key} is {words[kind]}, got {value!r}")
    return value
