"""Findings: what ``aliquot check`` looks at, one function a subject.

Each returns what it found, good or bad, in the admin's words; nothing is changed anywhere.
``problem`` means that something will not work, ``warn`` that it works with a limit or could
not be looked at from here.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from aliquot.discovery import GpuStateUnreadable, NoDriver, source_for
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.hub_scopes import SERVICE_NAME, missing_scopes
from aliquot.settings import Settings
from aliquot.storage import LedgerUnavailable, Store

Level = Literal["ok", "warn", "problem"]

# Distribution, the versions that are supported, and whether the Hub's side needs it.
_VERSIONS = (
    ("jupyterhub", ">=5.5,<7", True),
    ("jupyterhub-kubespawner", ">=7,<8", False),
    ("jupyterlab", ">=4.2,<5", False),
)
# File systems on which SQLite's locks or its shared memory do not hold.
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.sshfs", "davfs")
_IMPORT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """``remedy`` says what to do; empty when all is well."""

    area: str
    level: Level
    message: str
    remedy: str = ""


def versions(*, in_cluster: bool = False) -> Iterator[Finding]:
    """What is installed here; ``in_cluster`` needs KubeSpawner too."""
    yield Finding("versions", "ok", f"aliquot {version('aliquot')}")
    for name, supported, always in _VERSIONS:
        needed = always or (in_cluster and name == "jupyterhub-kubespawner")
        try:
            found = version(name)
        except PackageNotFoundError:
            if needed:
                remedy = f"pip install '{name}{supported}' beside aliquot."
                yield Finding("versions", "problem", f"{name} is not installed here", remedy)
            else:
                yield Finding("versions", "ok", f"{name} is not installed here, and not needed")
            continue
        if Version(found) in SpecifierSet(supported, prereleases=True):
            yield Finding("versions", "ok", f"{name} {found}")
        else:
            yield Finding(
                "versions",
                "problem" if needed else "warn",
                f"{name} {found} is outside of what is supported ({supported})",
                f"pip install '{name}{supported}'.",
            )


def gpus(settings: Settings) -> Iterator[Finding]:
    """Driver, NVML, the GPUs, MIG and MPS."""
    try:
        source = source_for(
            settings.gpu_source,
            simulated_machine=settings.simulated_machine,
            mps_pipe_directory=settings.mps_pipe_directory,
            allow_advisory_blocks=settings.allow_advisory_blocks,
        )
        inventory = source.read()
    except NoDriver as error:
        yield Finding(
            "driver",
            "problem",
            sentence(str(error)),
            "Notebooks without a GPU start all the same.",
        )
        return
    except GpuStateUnreadable as error:
        yield Finding(
            "driver", "problem", sentence(str(error)), "GPU starts pause until it can be read."
        )
        return
    except (OSError, ValueError) as error:
        yield Finding(
            "driver", "problem", sentence(str(error)), "Correct Aliquot.simulated_machine."
        )
        return
    if inventory.simulated:
        yield Finding(
            "driver",
            "warn",
            f"simulated: {counted(len(inventory.gpus), 'GPU')} that do not exist",
            "Set c.Aliquot.gpu_source = 'nvml' on a machine with GPUs.",
        )
    elif inventory.driver_version is not None:
        yield Finding("driver", "ok", f"NVIDIA driver {inventory.driver_version}, NVML answers")
    if not inventory.gpus and not inventory.notes:
        yield Finding("gpus", "warn", "no GPU is seen", "Notebooks start without one.")
    for note in inventory.notes:
        yield Finding("gpus", "warn", sentence(note))
    yield from _each_gpu(inventory)
    yield from _mps(inventory, settings)


def _each_gpu(inventory: Inventory) -> Iterator[Finding]:
    for gpu in inventory.gpus:
        name = f"GPU {gpu.index} {gpu.model} ({gpu.memory_mib / 1024:.0f} GiB)"
        if not gpu.mig_enabled:
            how = "in blocks and whole" if gpu.blocks_by is not None else "whole only"
            yield Finding("gpus", "ok", f"{name}: given out {how}")
        elif gpu.mig_devices:
            profiles = [device.profile for device in gpu.mig_devices]
            listed = ", ".join(f"{profiles.count(p)} x {p}" for p in dict.fromkeys(profiles))
            yield Finding("mig", "ok", f"{name}: MIG mode, slices {listed}")
        else:
            yield Finding(
                "mig",
                "warn",
                f"{name}: MIG mode without a slice, so nothing of it can be given out",
                "Create slices (nvidia-smi mig -cgi … -C) or leave MIG mode.",
            )


def _mps(inventory: Inventory, settings: Settings) -> Iterator[Finding]:
    blocks = {gpu.blocks_by for gpu in inventory.gpus if not gpu.mig_enabled}
    if BlocksBy.MPS in blocks:
        where = settings.mps_pipe_directory
        yield Finding("mps", "ok", f"the MPS control daemon answers at {where}")
    if BlocksBy.ADVISORY in blocks:
        yield Finding(
            "mps",
            "warn",
            "blocks are given out without MPS: nothing holds a notebook to its part",
            "Start nvidia-cuda-mps-control, or set c.Aliquot.allow_advisory_blocks = False.",
        )
    if None in blocks:
        yield Finding(
            "mps",
            "warn",
            f"no MPS control daemon at {settings.mps_pipe_directory}, so no blocks: these GPUs "
            "are given out whole",
            "Start nvidia-cuda-mps-control on this machine, or set "
            "c.Aliquot.mps_pipe_directory to where it listens.",
        )


def database(settings: Settings) -> Iterator[Finding]:
    """Where the ledger is, whether it can be used, and who has quota in it."""
    path = sqlite_path(settings.database_url)
    if path is not None:
        yield from _place(path)
        if not path.exists():
            yield _not_made_yet(path)
            return
    try:
        store = Store.open(
            settings.database_url, busy_wait_seconds=settings.database_wait_seconds, migrate=False
        )
        ledger = store.ledger()
    except LedgerUnavailable as error:
        yield Finding("database", "problem", sentence(f"{error.what}: {error.why}"), error.remedy)
        return
    yield Finding("database", "ok", "the ledger answers and its schema is this version's")
    groups = ledger.tree.groups
    if groups:
        yield Finding(
            "groups", "ok", f"{counted(len(groups), 'group')}: {', '.join(sorted(groups))}"
        )
    else:
        remedy = "Write a groups file and put it in force: aliquot apply -f groups.yaml."
        yield Finding("groups", "problem", "no group has GPU quota, so nobody gets one", remedy)


def sqlite_path(url_text: str) -> Path | None:
    """The file of a SQLite ledger; None for PostgreSQL, and for what is no URL."""
    try:
        url = make_url(url_text)
    except ArgumentError:
        return None  # opening it says so
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database).absolute()


def _not_made_yet(path: Path) -> Finding:
    if os.access(path.parent, os.W_OK):
        remedy = "The Hub makes it at its first start; then give groups quota: aliquot apply."
        return Finding("database", "warn", f"there is no ledger at {path} yet", remedy)
    return Finding(
        "database",
        "problem",
        f"there is no ledger at {path} and none can be made there",
        "Make the folder and let the Hub's user write it, or set c.Aliquot.database_url.",
    )


def _place(path: Path) -> Iterator[Finding]:
    kind = file_system(path)
    if kind.startswith(_NETWORK):
        yield Finding(
            "database",
            "problem",
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold",
            "Move it to a local disk, or set c.Aliquot.database_url to PostgreSQL.",
        )
    if path.exists():
        yield from _journal(path)


def _journal(path: Path) -> Iterator[Finding]:
    # Bytes 18 and 19 of a SQLite file are 2 in WAL mode (sqlite.org/fileformat2.html, 1.3).
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return  # opening the ledger says why
    if len(head) == 20 and head[18:20] != b"\x02\x02":
        remedy = "Start the hub once: it sets the mode. Until then readers and writers wait."
        yield Finding("database", "warn", f"{path} is not in WAL mode", remedy)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            "database",
            "warn",
            f"{path} can be read or written by other users of this machine ({mode:o})",
            f"chmod 600 {path}",
        )


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    path = path.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    for folder in (path, *path.parents):
        if folder in mounts:
            return mounts[folder].lower()
    return ""


def hub(config: Config | None) -> Iterator[Finding]:
    """What the Hub's configuration says: spawner, service, role."""
    if config is None:
        remedy = "Name it: aliquot check -f jupyterhub_config.py."
        yield Finding("hub", "warn", "no configuration of a Hub was read", remedy)
        return
    line = "Call setup_aliquot(c) at the end of the Hub's configuration."
    spawner = config.JupyterHub.get("spawner_class", "")
    name = spawner if isinstance(spawner, str) else getattr(spawner, "__name__", "")
    if "aliquot" in name.lower() or "Share" in name:
        yield Finding("hub", "ok", f"spawner: {name}")
    else:
        said = f"the spawner is {name or 'the default one'}, which gives out no GPU"
        yield Finding("hub", "problem", said, line)
    services = [s for s in _listed(config, "services") if s.get("name") == SERVICE_NAME]
    if not services:
        said = f"there is no service '{SERVICE_NAME}': nobody reconciles books and servers"
        yield Finding("hub", "problem", said, line)
        return
    held = {
        scope
        for role in _listed(config, "load_roles")
        if SERVICE_NAME in role.get("services", ())
        for scope in role.get("scopes", ())
    }
    lacking = missing_scopes(held)
    if lacking and not services[0].get("admin"):
        yield Finding(
            "hub",
            "problem",
            f"the service's role lacks {', '.join(lacking)}: it cannot see which servers live",
            f"Add them to the role of service '{SERVICE_NAME}' in c.JupyterHub.load_roles.",
        )
    else:
        yield Finding("hub", "ok", f"service '{SERVICE_NAME}' with the scopes that it needs")


def _listed(config: Config, name: str) -> list[Mapping[str, Any]]:
    value = config.JupyterHub.get(name, [])
    if isinstance(value, LazyConfigValue):
        value = value.get_value([])
    return [item for item in value or [] if isinstance(item, Mapping)]


def notebooks(config: Config | None) -> Iterator[Finding]:
    """Is ``aliquot_lab`` where notebook servers run? Asked of their Python."""
    command = ["jupyterhub-singleuser"]
    if config is not None:
        spawner = config.JupyterHub.get("spawner_class", "")
        if "kube" in str(spawner).lower():
            remedy = "Look inside: python -c 'import aliquot_lab' in a notebook."
            yield Finding("notebooks", "warn", "images cannot be looked into from here", remedy)
            return
        given = config.Spawner.get("cmd", command)
        command = [given] if isinstance(given, str) else list(given)
    python = _python_of(command[0])
    if python is None:
        yield Finding(
            "notebooks",
            "warn",
            f"the Python that runs {command[0]} was not found from here",
            "Put it on the PATH of the Hub; look with: python -c 'import aliquot_lab' there.",
        )
        return
    code = "import aliquot_lab, anywidget"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=_IMPORT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("notebooks", "warn", f"{python} could not be asked: {error}")
        return
    if done.returncode == 0:
        yield Finding("notebooks", "ok", f"aliquot_lab is installed for {python}")
    else:
        last = (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
        yield Finding(
            "notebooks",
            "warn",
            f"notebooks will not show GPU use: {last}",
            f"Run: {python} -m pip install 'aliquot[widget]'.",
        )


def _python_of(command: str) -> str | None:
    """The interpreter that a command's script names in its first line."""
    # Beside our own Python as well: this may be called by its path, with no environment active.
    beside = str(Path(sys.executable).parent)
    path = shutil.which(command) or shutil.which(command, path=beside)
    if path is None:
        return None
    if Path(path).name.startswith("python"):
        return path
    with open(path, "rb") as file:
        first = file.readline(512)
    if not first.startswith(b"#!"):
        return None
    words = os.fsdecode(first[2:]).split()
    if len(words) == 2 and words[0].endswith("/env"):
        return shutil.which(words[1])
    return words[0] if words and os.access(words[0], os.X_OK) else None


def sentence(text: str) -> str:
    return text.strip().rstrip(".")


def counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
