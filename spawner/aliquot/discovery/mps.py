"""MPS: whether CUDA's Multi-Process Service serves this machine, and how many clients.

Looks and asks, never starts: a daemon changes how every CUDA program on the machine runs,
and that is its admin's decision.

The *pipe directory* is where the control daemon listens. It holds the socket ``control`` and
the file ``nvidia-cuda-mps-control.pid``. A daemon that stops removes the file and leaves the
socket, so the socket alone proves nothing.

Source: NVIDIA MPS documentation (environment variables, client limits); listings of the
directory in public repositories.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PIPE_DIRECTORY = "/tmp/nvidia-mps"
CONTROL_COMMAND = "nvidia-cuda-mps-control"
PID_FILE = "nvidia-cuda-mps-control.pid"
# The kernel keeps 15 characters of a command's name.
COMM_OF_DAEMON = CONTROL_COMMAND[:15]


@dataclass(frozen=True, slots=True)
class MpsState:
    """``why_not`` is a sentence for the admin when the daemon is not reachable, else None."""

    pipe_directory: str
    why_not: str | None = None

    @property
    def is_reachable(self) -> bool:
        return self.why_not is None


def default_pipe_directory() -> str:
    """Where a CUDA program started like this process would look for the daemon."""
    return os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or DEFAULT_PIPE_DIRECTORY


def look_for_daemon(pipe_directory: str) -> MpsState:
    """Whether a control daemon listens there. Reads two files and, in doubt, asks it."""
    reason = _why_not_reachable(Path(pipe_directory))
    if reason is None:
        return MpsState(pipe_directory)
    return MpsState(
        pipe_directory,
        f"MPS control daemon not reachable at {pipe_directory}: {reason}. Start it on this "
        f"machine ('{CONTROL_COMMAND} -d'), or set 'c.Aliquot.mps_pipe_directory' to where it "
        "listens.",
    )


def _why_not_reachable(directory: Path) -> str | None:
    try:
        if not directory.is_dir():
            return "no such directory"
        if not stat.S_ISSOCK((directory / "control").stat().st_mode):
            return "'control' there is no socket"
        pid = int((directory / PID_FILE).read_text("ascii"))
    except FileNotFoundError as error:
        left_behind = Path(error.filename).name == PID_FILE
        return "it was stopped, its socket is left behind" if left_behind else "no such socket"
    except PermissionError as error:
        return f"this process may not read {error.filename}"
    except (OSError, ValueError) as error:
        return f"its files cannot be read ({error})"
    if _is_daemon(pid) or ask_default_thread_percentage(str(directory)) is not None:
        return None
    return f"its process {pid} is gone"


def _is_daemon(pid: int) -> bool:
    """False also for a daemon in another container, whose process ids are not ours."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == COMM_OF_DAEMON
    except OSError:
        return False


def ask_default_thread_percentage(
    pipe_directory: str, timeout_seconds: float = 5.0
) -> float | None:
    """The percentage of threads that the daemon gives each client unless it asks for less.

    None when the command is not installed or nobody answers. Asking starts no server.
    """
    command = shutil.which(CONTROL_COMMAND)
    if command is None:
        return None
    try:
        answer = subprocess.run(
            [command],
            input="get_default_active_thread_percentage\n",
            env={**os.environ, "CUDA_MPS_PIPE_DIRECTORY": pipe_directory},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=True,
        )
        return float(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def clients_per_gpu(cuda_version: int, capability: tuple[int, int]) -> int:
    """How many MPS clients a GPU serves at once.

    ``cuda_version`` is the driver's, as NVML gives it: 13010 for 13.1. 16 before Volta, 48
    until CUDA 13.0, then 60.

    Source: NVIDIA MPS documentation, limitations.
    """
    if capability < (7, 0):
        return 16
    return 60 if cuda_version >= 13010 else 48
