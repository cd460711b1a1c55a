"""Stands in for NVIDIA's MPS control daemon and for the command that asks it.

``mps_daemon.py serve DIRECTORY`` listens as the daemon does: a socket ``control``, a file with
its process id, a process of the daemon's name. Told to end, it removes the file and leaves the
socket, as the real one does. ``mps_daemon.py ask`` answers on standard output what stands on
standard input, or fails as the real command does when nobody listens.

What goes over the real socket is NVIDIA's own affair; here it is a line each way.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

PID_FILE = "nvidia-cuda-mps-control.pid"
ANSWERS = {"get_default_active_thread_percentage": "100.0", "get_server_list": ""}


def serve(directory: Path) -> None:
    Path("/proc/self/comm").write_text("nvidia-cuda-mps-control"[:15], "ascii")
    pid_file = directory / PID_FILE

    def end(*_: object) -> None:
        pid_file.unlink(missing_ok=True)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "control"))
        listener.listen()
        pid_file.write_text(f"{os.getpid()}\n", "ascii")
        while True:
            client, _ = listener.accept()
            with client:
                asked = client.makefile().readline().strip()
                client.sendall((ANSWERS.get(asked, "") + "\n").encode())


def ask() -> int:
    directory = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps")
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(directory / "control"))
            client.sendall(sys.stdin.readline().encode())
            print(client.makefile().readline(), end="")
    except OSError:
        print("Cannot find MPS control daemon process", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(sys.argv[2]))
    sys.exit(ask())
