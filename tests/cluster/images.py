"""Container images without a registry: written with tarfile, imported with `ctr`.

Two: PAUSE holds Debian's static busybox and keeps a pod's namespaces; NOTEBOOK holds next to
nothing and finds the machine's own programs under the mounts of ``machine_mounts``, which the
container runtime gives to every container read-only. So a JupyterLab of 500 MB starts from an
image of 10 kB, its pod needs no hostPath volume, and what runs is this checkout.

The archives are in Docker's layout, which `ctr images import` takes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/bin/busybox")
PAUSE = "aliquot.test/pause:1"
NOTEBOOK = "aliquot.test/notebook:1"
# The user of Jupyter's own images, and the group that Linux calls "users".
USER, GROUP, HOME = 1000, 100, "/home/jovyan"

_PASSWD = f"root:x:0:0:root:/root:/bin/sh\njovyan:x:{USER}:{GROUP}::{HOME}:/bin/sh\n"
_GROUPS = f"root:x:0:\nusers:x:{GROUP}:\n"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_FROM_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/mime.types")


def environment() -> dict[str, str]:
    """What the notebook image sets: this checkout's commands first on the path."""
    return {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def machine_mounts() -> list[str]:
    """Paths of the machine that a notebook container sees, each at its own place.

    System folders, this checkout, its virtual environment, and the Python behind that.
    """
    wanted = [Path(p) for p in (*_SYSTEM, *_FROM_ETC) if not os.path.islink(p)]
    wanted += [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    found: list[Path] = []
    for path in sorted({path for path in wanted if path.exists()}):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return [str(path) for path in found]


def notebook_pod(**environment_too: str) -> dict[str, Any]:
    """The notebook image as traits of KubeSpawner, to be set on any spawner class.

    ``volumes`` and ``volume_mounts`` are empty: the mounts come with the runtime.
    """
    return {
        "image": NOTEBOOK,
        "image_pull_policy": "Never",
        "cmd": ["jupyterhub-singleuser"],
        "uid": USER,
        "gid": GROUP,
        "working_dir": HOME,
        "environment": {**environment(), **environment_too},
        "volumes": [],
        "volume_mounts": [],
    }


def notebook_container(name: str, command: list[str], **more: Any) -> dict[str, Any]:
    """A container of a plain pod that runs ``command`` in the notebook image."""
    return {
        "name": name, "image": NOTEBOOK, "imagePullPolicy": "Never", "command": command, **more,
    }  # fmt: skip


def write_images(folder: Path) -> list[Path]:
    """Both archives, in ``folder``."""
    pause = folder / "pause.tar"
    _write(pause, PAUSE, {"Cmd": ["/bin/busybox", "sleep", "2147483647"]}, _pause_layer())
    notebook = folder / "notebook.tar"
    settings = {
        "Env": [f"{key}={value}" for key, value in environment().items()],
        "User": f"{USER}:{GROUP}",
        "WorkingDir": HOME,
        "Cmd": ["jupyterhub-singleuser"],
    }
    _write(notebook, NOTEBOOK, settings, _notebook_layer())
    return [pause, notebook]


_Entry = tuple[tarfile.TarInfo, bytes]


def _folder(path: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> _Entry:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    entry.uid, entry.gid = owner
    return entry, b""


def _file(path: str, content: bytes, mode: int = 0o644) -> _Entry:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.size, entry.mode = len(content), mode
    return entry, content


def _pause_layer() -> Iterator[_Entry]:
    yield _folder("bin")
    yield _file("bin/busybox", BUSYBOX.read_bytes(), 0o755)


def _notebook_layer() -> Iterator[_Entry]:
    # /bin -> usr/bin and the like; folders of the machine are mounted on folders.
    for path in _SYSTEM:
        if os.path.islink(path):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
            yield entry, b""
    # What lies above the mounts, as a stranger to the machine may enter it (/root is not).
    above = {str(p) for m in machine_mounts() for p in Path(m).parents if str(p) != "/"}
    yield from (_folder(path) for path in sorted({*above, "/etc", "/home", "/var", "/run"}))
    yield _folder("/tmp", 0o1777)
    yield _folder("/var/tmp", 0o1777)
    yield _folder(HOME, 0o755, (USER, GROUP))
    yield _file("/etc/passwd", _PASSWD.encode())
    yield _file("/etc/group", _GROUPS.encode())


def _write(place: Path, name: str, settings: Mapping[str, Any], layer: Iterator[_Entry]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for entry, content in layer:
            tar.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(place, "w") as tar:
        for entry, content in (
            _file("manifest.json", json.dumps(manifest).encode()),
            _file(config_name, config),
            _file("layer.tar", packed.getvalue()),
        ):
            tar.addfile(entry, io.BytesIO(content))
