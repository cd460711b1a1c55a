"""Bootstrap: everything a checkout needs before `make demo` or `make test`.

Standard library only, because it runs before anything is installed. Each step is skipped
when the stamp it left last time still matches its inputs (lock files, sources, this
file), so a second run costs well under a second. Two runs at once wait for each other.

What is pinned is installed as pinned: Python packages from ``requirements/dev.lock`` with
their hashes, node packages from ``package-lock.json``. Debian packages are installed when
run as root; otherwise the missing ones are named with what will be skipped without them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = ROOT / ".cache" / "stamps"
UI = ROOT / "extension" / "ui"
NODE_TOOLS = ROOT / "tools" / "node"
LABEXTENSION = ROOT / "extension" / "aliquot_lab" / "labextension"

# Debian package, a file that shows it is there, and what is lost without it.
DEBIAN_PACKAGES = (
    ("python3-venv", None, "nothing can be installed"),
    ("chromium", "/usr/bin/chromium", "browser tests and screenshots"),
    ("fonts-noto-cjk", "/usr/share/fonts/opentype/noto", "Korean screenshots"),
    ("postgresql", "/usr/lib/postgresql", "the PostgreSQL half of the storage tests"),
    ("gcc", "/usr/bin/gcc", "the NVML stand-in, so every discovery test"),
    ("libc6-dev", "/usr/include/stdio.h", "the NVML stand-in, so every discovery test"),
    ("etcd-server", "/usr/bin/etcd", "every test marked cluster"),
    # Brings runc. Docker's own containerd.io is as good and must not be pushed out.
    ("containerd", "/usr/bin/containerd", "the real Kubernetes node of the cluster tests"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge", "that node's network"),
    ("iproute2", "/usr/bin/ip", "that node's network"),
    ("busybox-static", "/usr/share/doc/busybox-static", "the images that are made for that node"),
)
# A fresh machine often runs its own update at first: wait for it.
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300")
# Nothing that is there is removed to make room: then a package stays out, and is named.
INSTALL = (*APT, "install", "-q", "-y", "--no-install-recommends", "--no-remove")
# Debian asks this program whether a package may start its service; 101 is "no".
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")
# Commands of tools/node that belong on the path of a hub or of `make lint`.
NODE_COMMANDS = ("configurable-http-proxy", "pyright")
LAB_PACKAGE = ROOT / "extension" / "aliquot_lab"
BUILT_PAGES = (
    LABEXTENSION / "package.json",
    LAB_PACKAGE / "static" / "usage.js",
    ROOT / "spawner" / "aliquot" / "spawners" / "static" / "picker.js",
)
SERVER_CONFIG = Path("jupyter_server_config.d", "aliquot_lab.json")
LINKS = {
    LABEXTENSION: Path("share", "jupyter", "labextensions", "@aliquot", "lab"),
    LAB_PACKAGE / "jupyter-config" / SERVER_CONFIG: Path("etc", "jupyter", SERVER_CONFIG),
}


class SetupFailed(Exception):
    """A step could not be done; the text says what to do about it."""


def run(command: Sequence[str | Path], cwd: Path = ROOT) -> None:
    """Run a command, showing its output only when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        sys.stderr.write(done.stdout[-6000:])
        shown = " ".join(str(part) for part in command[:6])
        raise SetupFailed(f"`{shown}` ended with status {done.returncode}; its output is above.")


def digest(paths: Iterable[Path], *words: str) -> str:
    """A hash over the names and contents of files, and over words such as versions."""
    total = hashlib.sha256("\0".join(words).encode())
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def step(name: str, key: str, outputs: Sequence[Path], act) -> bool:
    """Do a step unless its stamp holds ``key`` and its outputs exist; tell how long it took."""
    stamp = STAMPS / name
    if (
        stamp.exists()
        and stamp.read_text() == key
        and all(output.exists() for output in outputs)
    ):
        return False
    print(f"setup: {name} …", flush=True)
    began = time.monotonic()
    stamp.unlink(missing_ok=True)
    act()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)
    print(f"setup: {name} done in {time.monotonic() - began:.0f} s", flush=True)
    return True


def is_missing(package: str, evidence: str | None) -> bool:
    """Whether a Debian package is absent. A file in its place counts as present."""
    if package == "python3-venv":
        return subprocess.run(
            [sys.executable, "-c", "import ensurepip, venv"], capture_output=True
        ).returncode != 0
    return evidence is not None and not Path(evidence).exists()


def debian_packages() -> None:
    """Install what is missing as root; name it otherwise. Never fails for an optional one."""
    missing = [entry for entry in DEBIAN_PACKAGES if is_missing(entry[0], entry[1])]
    if not missing:
        return
    names = [entry[0] for entry in missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"setup: Debian packages {', '.join(names)} …", flush=True)
        os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
        try:
            run([*APT, "update", "-q"])
            with no_services_started():
                install(names)
        except SetupFailed as failure:
            print(f"setup: {failure}", file=sys.stderr)
        missing = [entry for entry in missing if is_missing(entry[0], entry[1])]
    for name, _, lost in missing:
        print(
            f"setup: {name} is not installed, so {lost} will not run. "
            f"Install it with: sudo apt-get install {name}",
            file=sys.stderr,
        )


def install(names: Sequence[str]) -> None:
    """All at once, or else one by one, so that one that cannot be had costs only itself."""
    try:
        run([*INSTALL, *names])
    except SetupFailed:
        if len(names) == 1:
            raise
        for name in names:
            try:
                run([*INSTALL, name])
            except SetupFailed as failure:
                print(f"setup: {failure}", file=sys.stderr)


@contextmanager
def no_services_started() -> Iterator[None]:
    """Packages installed inside leave nothing running: tests start what they need themselves.

    A policy that is there already is the machine's own and stays.
    """
    if SERVICE_POLICY.exists():
        yield
        return
    SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")
    try:
        SERVICE_POLICY.chmod(0o755)
        yield
    finally:
        SERVICE_POLICY.unlink()


def python_packages() -> None:
    """A fresh or updated .venv with exactly the locked versions."""
    if not (VENV / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", VENV])
    run([VENV / "bin" / "pip", "install", "-q", "--require-hashes", "-r", "requirements/dev.lock"])


def node_tools() -> None:
    """The proxy and the checkers, reached through .venv/bin as the Python commands are."""
    run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=NODE_TOOLS)
    for command in NODE_COMMANDS:
        link(NODE_TOOLS / "node_modules" / ".bin" / command, VENV / "bin" / command)


def ui_sources() -> list[Path]:
    """What the pages are built from: everything in extension/ui that git would see."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "extension/ui"],
        cwd=ROOT, capture_output=True, text=True,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:  # an sdist or an archive: no git, but no built output beside the sources either
        found = [path for path in UI.rglob("*") if "node_modules" not in path.parts]
    return [path for path in found if path.is_file()]


def link(target: Path, place: Path) -> None:
    """Put a relative link to ``target`` at ``place``, in place of whatever was there."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))


def install_project() -> None:
    """`aliquot` and `aliquot_lab`, editable.

    An editable install leaves out data files, so the labextension and the line that turns
    the server extension on are linked, as `jupyter labextension develop` does: a rebuilt
    page shows at the next reload.
    """
    run([
        VENV / "bin" / "pip", "install", "-q", "--no-deps", "--no-build-isolation", "-e", ROOT,
    ])
    for target, place in LINKS.items():
        link(target, VENV / place)


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is what tells an older Python)
        raise SetupFailed(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}. "
            "Say which with: make setup PYTHON=python3.11"
        )
    debian_packages()
    for command, package in (("npm", "Node.js 20 or newer"), ("git", "git")):
        if not shutil.which(command):
            raise SetupFailed(f"`{command}` was not found. Install {package} and run again.")

    python = VENV / "bin" / "python"
    step(
        "python packages",
        digest([ROOT / "requirements" / "dev.lock"], sys.version),
        [python],
        python_packages,
    )
    step(
        "node tools",
        digest([NODE_TOOLS / "package-lock.json"], *NODE_COMMANDS),
        [NODE_TOOLS / "node_modules", *(VENV / "bin" / name for name in NODE_COMMANDS)],
        node_tools,
    )
    step(
        "aliquot",
        digest([ROOT / "setup.cfg", ROOT / "pyproject.toml"], repr(LINKS)),
        [python, VENV / "bin" / "aliquot", *(VENV / place for place in LINKS.values())],
        install_project,
    )
    if (UI / "package.json").exists():
        step(
            "page packages",
            digest([UI / "package-lock.json"]),
            [UI / "node_modules"],
            lambda: run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=UI),
        )
        step(
            "pages",
            digest(ui_sources()),
            BUILT_PAGES,
            lambda: run(["npm", "run", "--silent", "build"], cwd=UI),
        )


if __name__ == "__main__":
    STAMPS.mkdir(parents=True, exist_ok=True)
    with (STAMPS.parent / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            main()
        except SetupFailed as failure:
            sys.exit(f"setup: {failure}")
