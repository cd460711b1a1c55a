"""The parent's death: a service that the Hub started ends when that Hub is gone.

A Hub that is killed leaves its managed services running, and they keep the port that the
next Hub's service needs. The kernel's parent-death signal ends us at once; watching the
parent's id covers a parent that died before the signal was set, and systems without it.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
WATCH_SECONDS = 1.0


def end_with_parent(parent: int) -> None:
    """Ask the kernel to send SIGTERM when ``parent`` ends. It is bound to the parent's
    thread that forked us; the Hub forks from its main thread."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        log.warning("no parent-death signal: %s", os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


async def watch_parent(parent: int, gone: Callable[[], None]) -> None:
    """Call ``gone`` once when ``parent`` is not our parent any more."""
    while os.getppid() == parent:
        await asyncio.sleep(WATCH_SECONDS)
    log.warning("the Hub (process %s) is gone, so its service ends", parent)
    gone()
