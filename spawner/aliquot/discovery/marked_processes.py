"""Marked processes: what runs on this machine under a lease.

Each notebook server carries marks in its environment, and so does everything it starts. When
a server is over, or the hub was killed before it could remember what it had started, the
marks tell which processes still sit on a piece that is about to be given to somebody else.

Only processes of this deployment are ever looked at or ended, and each by its process id;
psutil compares the start time first, so that a reused id is not hit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator

import psutil

log = logging.getLogger(__name__)

DEPLOYMENT = "ALIQUOT_DEPLOYMENT"
SPAWNER = "ALIQUOT_SPAWNER"
ATTEMPT = "ALIQUOT_ATTEMPT"

_TERM_SECONDS = 3.0
_KILL_SECONDS = 5.0


def deployment_mark(database_url: str) -> str:
    """What sets this deployment's processes apart from those of another hub here."""
    return hashlib.sha256(database_url.encode()).hexdigest()[:16]


def marks(database_url: str, spawner_id: int, attempt: str) -> dict[str, str]:
    """The environment that marks a server."""
    return {
        DEPLOYMENT: deployment_mark(database_url),
        SPAWNER: str(spawner_id),
        ATTEMPT: attempt,
    }


def still_runs(pid: int, database_url: str, spawner_id: int) -> bool:
    """Whether the process of a saved id is alive and is a server of this spawner.

    An id alone says neither: after a reboot it may be anybody's, and a process that has ended
    keeps its id until its parent looks, which a killed hub never does. A process of another
    user cannot be looked into and counts as the one.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environ = process.environ()
        mark = deployment_mark(database_url), str(spawner_id)
        return (environ.get(DEPLOYMENT), environ.get(SPAWNER)) == mark
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def end_marked(database_url: str, *, spawner_id: int, attempt: str | None = None) -> int:
    """End what runs under a server, or under one attempt of it; returns how many.

    Asks first (SIGTERM) and insists after three seconds. Blocks for at most eight; processes
    that survive are logged for the admin.
    """
    found = list(_marked(deployment_mark(database_url), str(spawner_id), attempt))
    for process in found:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(found, timeout=_TERM_SECONDS)
    for process in alive:
        _quietly(process.kill)
    _, alive = psutil.wait_procs(alive, timeout=_KILL_SECONDS)
    for process in alive:
        log.error("process %s of spawner %s cannot be ended", process.pid, spawner_id)
    return len(found)


def _marked(deployment: str, spawner_id: str, attempt: str | None) -> Iterator[psutil.Process]:
    # Processes of other users answer AccessDenied and come as None: they are not ours to end.
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get(DEPLOYMENT) != deployment or environ.get(SPAWNER) != spawner_id:
            continue
        if attempt is None or environ.get(ATTEMPT) == attempt:
            yield process


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        log.error("process %s may not be ended: %s", error.pid, error.msg)
