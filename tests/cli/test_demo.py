"""``aliquot demo`` as a newcomer meets it: it starts, makes its own trip, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


def demo(folder: Path, *more: str) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "aliquot.cli.main", "demo", "--folder", str(folder), *more],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_running(folder: Path) -> list[str]:
    """Processes that work in the demo's folder or were told of it."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        environ = process.info["environ"] or {}
        if str(folder) in environ.get("ALIQUOT_DEMO", ""):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_trip_goes_from_log_in_to_books_at_zero(tmp_path: Path):
    running = demo(tmp_path, "--check", "--gpus", "simulated", "--port", "0")

    printed, _ = running.communicate(timeout=280)

    assert running.returncode == 0, printed
    for step in (
        "ada starts JupyterLab with 30 blocks",
        "H100 80GB · 30 blocks",
        "grace starts JupyterLab with 1g.10gb",
        "A100 80GB · 1g.10gb",
        "lin is refused more than the group has",
        "the books are at zero",
    ):
        assert step in printed
    assert left_running(tmp_path) == []


def test_a_demo_that_is_asked_to_end_ends_its_hub_too(tmp_path: Path):
    running = demo(tmp_path, "--gpus", "simulated")
    assert running.stdout is not None
    first = running.stdout.readline()

    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)

    assert first.startswith("Aliquot is ready after ")
    deadline = time.monotonic() + 20
    while left_running(tmp_path):
        assert time.monotonic() < deadline, left_running(tmp_path)
        time.sleep(0.1)


def test_asking_for_gpus_that_are_not_there_is_one_sentence(tmp_path: Path):
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has NVIDIA's driver")
    running = demo(tmp_path, "--gpus", "nvml")

    printed, _ = running.communicate(timeout=60)

    assert running.returncode == 1
    assert printed.startswith("Error: ")
    assert printed.strip().endswith("Start with --gpus simulated to look around.")
    assert len(printed.strip().splitlines()) == 1
