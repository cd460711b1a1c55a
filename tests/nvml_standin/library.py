"""Builds the stand-in libraries with gcc, once for each state of their sources.

Lays them in a git-ignored folder named by the hash of sources and flags, so a change builds
anew and parallel test workers agree. Two folders: ``all-symbols``, and ``without-gpm`` for
drivers that lack GPM, memory version 2 and memory limits.

Also runs without pytest: ``python -m tests.nvml_standin.library a100-mig-mixed`` prints the
environment to put before a command.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE / "scenarios"
CACHE = HERE.parents[1] / ".cache" / "nvml-standin"

FLAGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
FLAGS += ("-fvisibility=hidden",)
VARIANTS = {"all-symbols": (), "without-gpm": ("-DWITHOUT_GPM",)}
LIBRARIES = {
    "libnvidia-ml.so.1": ("nvml.c", "readings.c", "scenario.c"),
    "libcuda.so.1": ("cuda.c", "scenario.c"),
}


def build() -> Path:
    """The folder with one folder a variant; built when it is not there yet.

    Raises RuntimeError when gcc is missing or refuses the sources.
    """
    sources = sorted(HERE.glob("*.[ch]"))
    state = hashlib.sha256(repr((FLAGS, VARIANTS, LIBRARIES, platform.machine())).encode())
    for source in sources:
        state.update(source.name.encode() + b"\0" + source.read_bytes())
    built = CACHE / state.hexdigest()[:16]
    if built.is_dir():
        return built

    if shutil.which("gcc") is None:
        raise RuntimeError(
            "The NVML stand-in cannot be built: no gcc on the path. Install gcc "
            "(Debian: apt install gcc libc6-dev), or leave out the tests that need it."
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        fresh = Path(scratch) / "built"
        for variant, defines in VARIANTS.items():
            (fresh / variant).mkdir(parents=True)
            for library, names in LIBRARIES.items():
                _compile(fresh / variant / library, names, defines)
        try:
            fresh.rename(built)
        except OSError:
            # Another worker was faster; its build is of the same sources.
            if not built.is_dir():
                raise
    return built


def _compile(library: Path, names: tuple[str, ...], defines: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["gcc", *FLAGS, *defines, "-o", library, *(HERE / n for n in names), "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"gcc refused {library.name}:\n{done.stderr}")


def environment(scenario: Path) -> dict[str, str]:
    """The variables that make a child process see the scenario's machine, and no other.

    The process that calls this must not hand on CUDA or MPS variables of its own.
    """
    wanted = re.search(r"^symbols\s+(\S+)", scenario.read_text("utf-8"), re.MULTILINE)
    folder = build() / (wanted.group(1) if wanted else "all-symbols")
    before = os.environ.get("LD_LIBRARY_PATH")
    return {
        "LD_LIBRARY_PATH": f"{folder}:{before}" if before else str(folder),
        "ALIQUOT_NVML_SCENARIO": str(scenario),
    }


if __name__ == "__main__":
    for name, value in environment(SCENARIOS / f"{sys.argv[1]}.txt").items():
        print(f"{name}={value}")
