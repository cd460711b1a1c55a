"""Own processes: which processes belong to this server.

A server's session is the server and everything below it: kernels, terminals, their
children. The driver names processes by the host's PIDs, so they can be compared with
ours only where we see the host's PIDs ourselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# The inode of the kernel's first PID namespace, PROC_PID_INIT_INO in linux/proc_ns.h.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC


@dataclass(frozen=True, slots=True)
class Session:
    """The processes of one user's server: `root_pid` and everything below it.

    A kernel that no notebook server started is its own session, and then does the work
    itself; a server does not.
    """

    root_pid: int
    root_works: bool = False

    def workers(self) -> list[int]:
        """Processes in which the user's code runs."""
        below = descendants(self.root_pid)
        return [self.root_pid, *below] if self.root_works else below

    def members(self) -> set[int]:
        """All processes, the server among them."""
        return {self.root_pid, *descendants(self.root_pid)}


def session_of_server() -> Session:
    return Session(os.getpid())


def session_of_kernel(environ: Mapping[str, str]) -> Session:
    """The session of the server that started this kernel, or the kernel's own.

    ipykernel knows its server by JPY_PARENT_PID. The value is inherited, so it counts only
    if it is really this process's parent.
    """
    parent = environ.get("JPY_PARENT_PID", "")
    if parent.isdigit() and int(parent) == os.getppid():
        return Session(int(parent))
    return Session(os.getpid(), root_works=True)


def descendants(root_pid: int) -> list[int]:
    """All living processes below `root_pid`, without itself."""
    found: list[int] = []
    waiting = [root_pid]
    while waiting:
        children = _children(waiting.pop())
        if children is None:
            return _descendants_by_search(root_pid)
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int] | None:
    """Children by the kernel's own list; None where it has none (no CONFIG_PROC_CHILDREN)."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return [] if os.path.isdir("/proc/self/task") else None
    children: list[int] = []
    for thread in threads:
        try:
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                return None
        except OSError:
            continue
        else:
            children += [int(child) for child in text.split()]
    return children


def _descendants_by_search(root_pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(root_pid).children(recursive=True)]
    except psutil.Error:
        return []


def driver_pids_are_ours(pids: Iterable[int]) -> bool:
    """Whether the driver's PIDs mean the same here.

    True in the host's PID namespace. Some sandboxes imitate that namespace's inode, so
    every PID named by the driver must exist here as well.
    """
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return False
    return namespace == _FIRST_PID_NAMESPACE and all(os.path.exists(f"/proc/{p}") for p in pids)
