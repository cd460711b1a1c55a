"""Helm: built once from the pinned sources, and asked to render charts.

``helm/go.mod`` beside this file pins it. Building takes a minute on 2 cores, and the program
is kept in ``.cache/helm`` under the hash of its sources, so that happens once.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import binaries

HERE = Path(__file__).resolve().parent / "helm"
CACHE = HERE.parents[2] / ".cache" / "helm"


def find_helm() -> Path:
    """The program, built if need be.

    Raises:
        CannotBuild: Go is missing, or a module cannot be had.
    """
    total = hashlib.sha256(binaries.go_version().encode())
    for name in ("go.mod", "go.sum"):
        total.update((HERE / name).read_bytes())
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / f"helm-{total.hexdigest()[:16]}"
    with (CACHE / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            binaries.say("building helm …")
            unfinished = program.with_suffix(".building")
            done = subprocess.run(
                ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(unfinished),
                 "helm.sh/helm/v3/cmd/helm"],
                cwd=HERE, env=binaries.environment(), capture_output=True, text=True,
            )
            if done.returncode:
                raise binaries.CannotBuild(f"`go build` of helm failed: {done.stderr[-1500:]}")
            unfinished.rename(program)
    return program


def render(
    chart: Path, release: str, namespace: str, values: Iterable[Path] = (), **settings: str
) -> list[dict[str, Any]]:
    """The objects of a chart, in helm's order; ``settings`` are values as of ``--set``.

    Raises:
        RuntimeError: Helm refuses the chart or the values; the text is what it says.
    """
    command = [
        str(find_helm()), "template", release, str(chart), "--namespace", namespace,
        # Built without its makefile, helm takes the cluster for a very old one.
        "--kube-version", binaries.kubernetes_version(),
    ]
    for path in values:
        command += ["--values", str(path)]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [found for found in yaml.safe_load_all(done.stdout) if found]
