"""Spawners for one machine: the Hub's own local spawners, with GPU shares."""

from __future__ import annotations

import asyncio

from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner

from aliquot.discovery.marked_processes import end_marked, still_runs
from aliquot.spawners.share import ShareSpawner


class _LocalShares(ShareSpawner):
    """Processes of this machine are found by their marks, and ended before a piece is free."""

    async def poll(self) -> int | None:
        """The Hub's answer, and for a server of a Hub before this one a closer look: the Hub
        asks by process id alone, and would wait for, or end, whatever has that id now."""
        status = await super().poll()
        if status is not None or self.proc is not None:
            return status
        if still_runs(self.pid, self.settings.database_url, self.orm_spawner.id):
            return None
        self.clear_state()
        return 0

    async def end_leftovers(self, attempt: str | None) -> None:
        ended = await asyncio.to_thread(
            end_marked,
            self.settings.database_url,
            spawner_id=self.orm_spawner.id,
            attempt=attempt,
        )
        if ended:
            self.log.info("%s: ended %s leftover processes", self._log_name, ended)


class LocalShareSpawner(_LocalShares, LocalProcessSpawner):
    """Notebooks as processes of the system's users, each bound to its piece of GPU."""


class SimpleLocalShareSpawner(_LocalShares, SimpleLocalProcessSpawner):
    """The same without system users: all notebooks run as the Hub's user.

    For a demo or one person's machine. As with the Hub's own class of that kind, nothing
    keeps users apart.
    """
