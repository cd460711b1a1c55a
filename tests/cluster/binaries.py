"""Binaries: the four Kubernetes programs of the cluster tests, built once and kept.

    python -m tests.cluster.binaries [--optional]

builds what is missing and prints the folder; with ``--optional`` it ends well even if they
cannot be had, because the tests that need them then skip with the same reason.

Standard library only. ``go.mod`` beside this file pins the sources, ``go.sum`` their hashes.
The programs are kept in ``.cache/kubernetes/<hash of both, the flags and Go's version>``, so
an unchanged checkout builds once (about 5 minutes on 2 cores, 350 MB) and starts at once
after that. ``KUBEBUILDER_ASSETS`` names a folder that already has them, as in controller
projects; nothing is built then.

Two builds at once wait for each other. A program counts as built only when it has been
renamed to its place, so an interrupted build leaves no half of one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "kubernetes"
PROGRAMS = ("kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubelet")
# Where Debian's etcd-server puts it; KUBEBUILDER_ASSETS may bring its own.
ETCD = Path("/usr/bin/etcd")


class CannotBuild(Exception):
    """The programs cannot be had; the text is one sentence with the remedy."""


def kubernetes_version() -> str:
    """The release that go.mod pins, such as "v1.36.3"."""
    found = re.search(r"k8s\.io/kubernetes (v[0-9.]+)", (HERE / "go.mod").read_text())
    if found is None:
        raise CannotBuild("tests/cluster/go.mod names no version of k8s.io/kubernetes.")
    return found.group(1)


def linker_flags(version: str) -> str:
    """No symbols, and the version that `hack/lib/version.sh` would set: without it the API
    server calls itself v0.0.0 and every check of version skew is off."""
    major, minor, _ = version.removeprefix("v").split(".")
    values = {
        "gitVersion": version, "gitMajor": major, "gitMinor": minor,
        "gitCommit": "unknown", "gitTreeState": "archive",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamped = [f"-X {package}.{k}={v}" for package in packages for k, v in values.items()]
    return " ".join(["-s", "-w", *stamped])


def environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def go_version() -> str:
    go = shutil.which("go")
    if go is None:
        raise CannotBuild(
            "Go was not found, so kube-apiserver and the others cannot be built: install Go "
            "1.26 or newer, or name a folder that has them in KUBEBUILDER_ASSETS."
        )
    done = subprocess.run(
        [go, "env", "GOVERSION"], cwd=HERE, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise CannotBuild(
            f"This Go cannot build {kubernetes_version()} ({done.stderr.strip()}): install Go "
            "1.26 or newer, or name a folder with the programs in KUBEBUILDER_ASSETS."
        )
    return done.stdout.strip()


def build_folder() -> Path:
    """The folder for exactly these sources, flags and compiler."""
    total = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        total.update((HERE / name).read_bytes())
    total.update(f"{linker_flags(kubernetes_version())} {go_version()}".encode())
    return CACHE / total.hexdigest()[:16]


def find_binaries() -> Path:
    """The folder with the four programs, building those that are missing.

    Prints its progress to standard error. With ``KUBEBUILDER_ASSETS`` set, that folder is
    taken as it is.

    Raises:
        CannotBuild: Go is missing, a module cannot be had, or the named folder lacks a
            program. Fixtures skip with its text.
    """
    if named := os.environ.get("KUBEBUILDER_ASSETS"):
        folder = Path(named)
        if missing := [name for name in PROGRAMS if not (folder / name).exists()]:
            raise CannotBuild(
                f"KUBEBUILDER_ASSETS is {folder}, which lacks {', '.join(missing)}: "
                "put them there, or unset it to have them built."
            )
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = build_folder()
    with (CACHE / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in PROGRAMS if not (folder / name).exists()]
        if missing:
            folder.mkdir(exist_ok=True)
            _download()
            for number, name in enumerate(missing, start=1):
                _build(name, folder, f"{number} of {len(missing)}")
    return folder


def find_etcd() -> Path:
    """etcd, from KUBEBUILDER_ASSETS, Debian's place or the path.

    Raises:
        CannotBuild: It is nowhere.
    """
    named = os.environ.get("KUBEBUILDER_ASSETS")
    places = [Path(named, "etcd")] if named else []
    places += [ETCD, Path(shutil.which("etcd") or ETCD)]
    for place in places:
        if place.exists():
            return place
    raise CannotBuild("etcd was not found: install it with `apt-get install etcd-server`.")


def say(text: str) -> None:
    print(f"kubernetes: {text}", file=sys.stderr, flush=True)


def _download() -> None:
    say(f"fetching the modules of {kubernetes_version()} …")
    began = time.monotonic()
    done = subprocess.run(
        ["go", "mod", "download"], cwd=HERE, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotBuild(
            f"A Go module of {kubernetes_version()} cannot be had ({reason}): allow the Go "
            "module proxy, or name a folder with the programs in KUBEBUILDER_ASSETS."
        )
    say(f"modules there after {time.monotonic() - began:.0f} s")


def _build(name: str, folder: Path, number: str) -> None:
    say(f"building {name} ({number}) …")
    began = time.monotonic()
    unfinished = folder / f"{name}.building"
    command = [
        "go", "build", "-trimpath", f"-ldflags={linker_flags(kubernetes_version())}",
        "-o", str(unfinished), f"k8s.io/kubernetes/cmd/{name}",
    ]
    done = subprocess.run(command, cwd=HERE, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise CannotBuild(
            f"`go build` of {name} failed: {done.stderr.strip()[-1500:]} "
            "(KUBEBUILDER_ASSETS can name a folder that has it)."
        )
    unfinished.rename(folder / name)
    size = (folder / name).stat().st_size / 1e6
    say(f"built {name}, {size:.0f} MB, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    try:
        print(find_binaries())
    except CannotBuild as failure:
        if "--optional" not in sys.argv:
            sys.exit(f"kubernetes: {failure}")
        say(f"{failure} The tests marked 'cluster' will be skipped.")
