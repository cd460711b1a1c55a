"""Lasting watches: KubeSpawner's watches, which begin again whatever has ended them.

KubeSpawner 7.1 gives up a watch after 51 s without an API server, and keeps one whose first
list failed as if it had succeeded. Either then shows the same pods for ever: starts never end,
and servers that run count as dead. Here a watch that was given up goes on after a while, with
what it knew, and one that never began is begun the next time that anybody needs it.

Source: kubespawner 7.1.0, reflector.py (``_watch_and_update``) and spawner.py
(``_start_reflector``).
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubespawner import KubeSpawner

_KEPT = "a watch that lasts"
# Between a watch that was given up and its next try; a minute of tries follows.
_REST_SECONDS = 5.0


class LastingWatches(KubeSpawner):
    """KubeSpawner, but for that."""

    async def _start_reflector(
        self, kind: str, reflector_class: Any, replace: bool = False, **kwargs: Any
    ) -> Any:
        reflectors, key = type(self).reflectors, self._get_reflector_key(kind)
        known = reflectors.get(key)
        if known is not None and not replace and not known.first_load_future.done():
            # Not the future itself: a start that is cancelled here would cancel it for all.
            await asyncio.shield(known.first_load_future)
            return known
        replace = replace or (known is not None and _is_over(known))
        try:
            reflector = await super()._start_reflector(kind, reflector_class, replace, **kwargs)
        except BaseException:
            made = reflectors.get(key)
            if made is not None and made is not known:
                # Nobody shall wait for it: it is not loading any more.
                made.first_load_future.cancel()
                if known is not None and _has_loaded(known):
                    # Old pods are better than none: a server without its pod is given up.
                    reflectors[key] = known
            raise
        _keep_watching(reflector)
        return reflector


def _keep_watching(reflector: Any) -> None:
    """Let it go on when it gives up. The task's name tells that this was arranged."""
    task = reflector.watch_task
    if task is None or task.get_name() == _KEPT:
        return
    task.set_name(_KEPT)

    def go_on() -> None:
        if reflector.watch_task is task and not reflector._stopping:
            reflector.watch_task = asyncio.create_task(reflector._watch_and_update())
            _keep_watching(reflector)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.get_loop().call_later(_REST_SECONDS, go_on)

    task.add_done_callback(ended)


def _is_over(reflector: Any) -> bool:
    """Whether it watches no more, or never has. It loads before it watches, at one go."""
    return reflector.watch_task is None or reflector.watch_task.done()


def _has_loaded(reflector: Any) -> bool:
    first = reflector.first_load_future
    return first.done() and not first.cancelled() and first.exception() is None
