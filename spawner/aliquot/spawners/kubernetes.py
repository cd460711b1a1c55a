"""The spawner for Kubernetes: KubeSpawner, with each pod held to its piece of GPU.

KubeSpawner makes the pod, with profiles and hooks. The patch of the lease is applied to what
they have made, as the last thing before the pod is created, and the pod is checked before and
after: a GPU that the books do not know refuses the start, whoever has asked for it.

What KubeSpawner itself does stays as it is: requests, names, volumes, reflectors. Where the
engine is DRA two requests are added, for the claim's template and to read what was given.
"""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import ClientError
from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client.rest import ApiException

from aliquot.bindings.patches import Enforcement, ProcessPatch, Strength
from aliquot.bindings.pod_manifest import apply, claim_template, foreign_gpu, foreign_refusal
from aliquot.bindings.pods import PodPatch, bind_no_gpu
from aliquot.discovery.marked_processes import deployment_mark
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Lease
from aliquot.domain.pending import shortened
from aliquot.domain.pending_room import room_around
from aliquot.domain.pod_marks import ATTEMPT, LEASE, LEDGER, SPAWNER, Marks, marks_of
from aliquot.domain.refusals import Number
from aliquot.domain.wording import say
from aliquot.spawners.form import language_of
from aliquot.spawners.lasting_watches import LastingWatches
from aliquot.spawners.pod_following import LOOK_SECONDS, PodFollower, Seen
from aliquot.spawners.pod_options import PodOptions
from aliquot.spawners.pod_requests import (
    FinishedPod,
    carries,
    claims_of,
    create_claim_template,
    delete_pods,
    is_worth_another_try,
    message_of,
)
from aliquot.spawners.reading_back import read_back
from aliquot.spawners.refused import StartFailed
from aliquot.storage import LedgerUnavailable

_LEFTOVER_SECONDS = 10.0
# The manifest takes the patch: what an admin's environment says of GPUs is seen before it.
_ENVIRONMENT_AS_IT_IS = ProcessPatch({}, Enforcement(Strength.NONE, Strength.NONE, "none"))


class KubeShareSpawner(PodOptions, LastingWatches):
    """Notebooks as pods, each bound to its piece of GPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._follower: PodFollower | None = None
        self._started: asyncio.Future[Any] | None = None
        self._finished: FinishedPod | None = None
        self._creating: asyncio.Future[bool] | None = None
        self._reading_back: asyncio.Future[None] | None = None
        # Whether a pod may exist that no stop has waited for. A Hub that has just started
        # cannot know.
        self._pod_may_exist = True
        super().__init__(*args, **kwargs)

    # -- start ---------------------------------------------------------------------------------

    async def start(self) -> Any:
        self._finished = self._creating = None
        self._pod_may_exist = False
        self._follower = PodFollower(self._look, self._read_room, language_of(self.handler))
        self._started = started = asyncio.ensure_future(super().start())
        try:
            url = await self._followed(started, self._follower)
        except (ApiException, ClientError) as error:
            raise self._translated(error) from error
        finally:
            if not started.done():
                started.cancel()
                await asyncio.wait([started])
        self._begin_reading_back()
        return url

    async def _followed(self, started: asyncio.Future[Any], follower: PodFollower) -> Any:
        """The result of the start, unless the pod can no longer run, or time is nearly over:
        the Hub's own word at the end would be a bare timeout."""
        dead_end = asyncio.ensure_future(follower.until_dead_end())
        try:
            await asyncio.wait(
                {started, dead_end},
                timeout=self.start_timeout - min(1.0, self.start_timeout / 10),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if started.done():
                return started.result()
            if dead_end.done():
                raise StartFailed(dead_end.result(), reason="pod_cannot_run")
            raise TimeoutError(f"pod {self.pod_name} did not run in {self.start_timeout} s")
        except TimeoutError as error:
            if self._finished is not None and self._own_pod() is None:
                raise self._translated(error) from error
            why = await follower.gave_up(self.start_timeout)
            if why is None:
                raise
            raise StartFailed(why, reason="timeout") from error
        finally:
            dead_end.cancel()

    def _translated(self, error: Exception) -> StartFailed:
        """What the API server's answer, or its silence, means for the person."""
        language, message = language_of(self.handler), message_of(error)
        self.log.error("%s: start failed: %s", self._log_name, message)
        if is_worth_another_try(error):
            said = say("start.cluster_unreachable", language)
            return StartFailed(said, reason="cluster", status=503)
        if "exceeded quota" in message:
            return StartFailed(say("start.cluster_quota", language), reason="cluster_quota")
        said = say("start.cluster_refused", language, message=shortened(message))
        return StartFailed(said, reason="cluster_refused", status=500)

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """The one place between the last hook and the pod; reached again for every try."""
        if self._finished is None:
            self._finished = await self._finish(pod)
        # Kept, so that a start that is cancelled now can be cleaned up after the answer is in:
        # the pod may exist all the same.
        self._creating = asyncio.ensure_future(self._create(self._finished, request_timeout))
        if not await asyncio.shield(self._creating):
            return False
        patch = self._patch
        if isinstance(patch, PodPatch) and self._marks is not None:
            template = claim_template(patch, self._marks)
            if template is not None:
                await self._create_template(template)
        return True

    async def _create(self, finished: FinishedPod, request_timeout: float) -> bool:
        self._pod_may_exist = True
        try:
            return await super()._make_create_pod_request(finished, request_timeout)
        except (ApiException, ClientError) as error:
            if not is_worth_another_try(error):
                self._pod_may_exist = False
                raise
            self.log.warning("%s: asking again: %s", self._log_name, message_of(error))
            return False

    async def _finish(self, pod: Any) -> FinishedPod:
        """The pod as it will be: what profiles and hooks have made, and the patch on top.

        Raises StartRefused for a GPU that is not the patch's.
        """
        body: dict[str, Any] = self.api.api_client.sanitize_for_serialization(pod)
        found = foreign_gpu(body)
        if found is None:
            body = apply(body, self._patch, self._marks)
            body["metadata"]["labels"].update(self._own_labels)
            found = foreign_gpu(body, self._patch)
        if found is not None:
            self.log.warning("%s: foreign GPU: %s", self._log_name, found.found)
            seen = await asyncio.to_thread(self.allocator.inventory)
            engines = {gpu.engine for gpu in seen.gpus} if isinstance(seen, Inventory) else None
            raise self._refused(foreign_refusal(found, body, engines))
        return FinishedPod(body)

    async def _create_template(self, template: dict[str, Any]) -> None:
        """Make what the pod's claim is made from. The pod owns it, so Kubernetes takes it away
        with the pod. Without it the pod would wait for ever, so a failure ends the pod."""
        try:
            await exponential_backoff(
                lambda: self._own_pod() is not None,
                f"pod {self.pod_name} was created, and the watch does not see it",
                start_wait=0.02,
                max_wait=1,
                timeout=self.k8s_api_request_retry_timeout,
            )
            pod = self._own_pod()
            assert pod is not None
            owner = {"apiVersion": "v1", "kind": "Pod", "name": self.pod_name}
            template["metadata"]["ownerReferences"] = [owner | {"uid": pod["metadata"]["uid"]}]
            await exponential_backoff(
                lambda: create_claim_template(
                    self.namespace, template, self.k8s_api_request_timeout
                ),
                f"claim template of pod {self.pod_name} could not be created",
                timeout=self.k8s_api_request_retry_timeout,
            )
        except ApiException as error:
            self.log.error("%s: claim template: %s", self._log_name, message_of(error))
            await self.stop(True)
            said = say(
                "start.claim_refused",
                language_of(self.handler),
                message=shortened(message_of(error)),
            )
            raise StartFailed(said, reason="claim_refused", status=500) from error
        except Exception:
            await self.stop(True)
            raise

    def add_poll_callback(self, *args: Any, **kwargs: Any) -> None:
        """See ``ShareSpawner``. A hub that was killed may not have read back what it started."""
        super().add_poll_callback(*args, **kwargs)
        self._begin_reading_back()

    def _begin_reading_back(self) -> None:
        """Write what the engine really gave. Runs beside the server, and breaks nothing."""
        if self._lease is not None and self._reading_back is None:
            self._reading_back = asyncio.ensure_future(
                read_back(self.allocator, self._lease, self._see_grant, self._keep_booked, self.log)
            )

    async def _see_grant(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        pod = self._own_pod()
        return None if pod is None else (pod, await claims_of(pod, self.namespace))

    def _keep_booked(self, lease: Lease) -> None:
        if self._lease is not None and self._lease.id == lease.id and self._lease != lease:
            self._lease = lease
            # The Hub has saved the state before this was known; its next commit takes it.
            self.orm_spawner.state = self.get_state()

    # -- what is its own -----------------------------------------------------------------------

    @property
    def process_patch(self) -> ProcessPatch:
        return _ENVIRONMENT_AS_IT_IS

    @property
    def _patch(self) -> ProcessPatch:
        return self._reserved.patch if self._reserved is not None else bind_no_gpu()

    @property
    def _ledger_mark(self) -> str:
        return deployment_mark(self.settings.database_url)

    @property
    def _marks(self) -> Marks | None:
        return marks_of(self._ledger_mark, self._lease) if self._lease is not None else None

    @property
    def _labels(self) -> dict[str, str]:
        """What all pods of this server carry, and no other."""
        return {LEDGER: self._ledger_mark, SPAWNER: str(self.orm_spawner.id)}

    @property
    def _own_labels(self) -> dict[str, str]:
        """The same for the pods of this attempt; empty when there is none."""
        return {} if self._attempt is None else self._labels | {ATTEMPT: self._attempt}

    def _named_pod(self) -> dict[str, Any] | None:
        reflector = self.pod_reflector
        return reflector.pods.get(f"{self.namespace}/{self.pod_name}") if reflector else None

    def _own_pod(self) -> dict[str, Any] | None:
        """This attempt's pod as the watch knows it, and no other of the same name."""
        pod = self._named_pod()
        return pod if carries(pod, self._own_labels) else None

    # -- while it starts and runs --------------------------------------------------------------

    @property
    def events(self) -> list[dict[str, Any]]:
        """KubeSpawner's own. Its 7.1 cannot sort an event without a time, which the API allows:
        a single one fails every start in the namespace."""
        reflector = self.event_reflector
        known = [] if reflector is None else list(reflector.resources.values())
        mine = [
            event
            for event in sorted(known, key=_time_of_event)
            if (event.get("involvedObject") or {}).get("name") == self.pod_name
        ]
        uids = [event["metadata"]["uid"] for event in mine]
        return mine[uids.index(self._last_event) + 1 :] if self._last_event in uids else mine

    def _look(self) -> Seen:
        pod, reflector = self._own_pod(), self.event_reflector
        if pod is None or reflector is None:
            return pod, []
        # By uid: events of an earlier pod of this name are still about.
        uid = pod["metadata"]["uid"]
        found = [
            event
            for event in list(reflector.resources.values())
            if (event.get("involvedObject") or {}).get("uid") == uid
        ]
        return pod, sorted(found, key=_time_of_event)

    def _read_room(self) -> Mapping[str, Number]:
        lease = self._lease
        if lease is None:
            return {}
        inventory = self.allocator.inventory()
        try:
            leases = self.allocator.store.open_leases()
        except LedgerUnavailable:
            leases = []
        return room_around(lease, inventory if isinstance(inventory, Inventory) else None, leases)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What Kubernetes does, in sentences of the closed list; nothing of its own text."""
        follower, started = self._follower, self._started
        if follower is None or started is None:
            return
        told: set[str] = set()
        amount, began_at, patience_at = 10.0, time.monotonic(), 0.0
        over = False
        while not over:
            # Looked at once more after the end, so that nothing is missed.
            over = started.done()
            held = [event["message"] for event in self.reserved_event()]
            for sentence in [*held, *await follower.sentences()]:
                if sentence not in told:
                    told.add(sentence)
                    # It is not known how much comes: each takes a third of what is left to 90.
                    amount += (90 - amount) / 3
                    yield {"progress": int(amount), "message": sentence}
            waited = time.monotonic() - began_at
            if 0 < self.slow_spawn_message_threshold <= waited and waited >= patience_at:
                patience_at = waited + self.slow_spawn_message_frequency
                words = textwrap.dedent(self.slow_spawn_message).format(seconds=int(waited))
                yield {"progress": int(amount), "message": words}
            if not over:
                await asyncio.sleep(LOOK_SECONDS)

    async def poll(self) -> int | None:
        status = await super().poll()
        if status is None and self._attempt is None:
            await self._recover()
        return status

    async def _recover(self) -> None:
        """Know a pod again whose state was lost: its hub was killed before it was saved."""
        pod = self._named_pod()
        if pod is None or not carries(pod, self._labels):
            return
        labels = pod["metadata"]["labels"]
        if LEASE in labels:
            try:
                lease = await asyncio.to_thread(self._read_lease, labels[LEASE])
            except LedgerUnavailable as error:
                self.log.warning("%s: its lease is looked for later: %s", self._log_name, error)
                return
            if lease is not None and lease.is_open:
                self._lease = lease
                self.log.info("%s: lease %s found again by its pod", self._log_name, lease.id)
        self._attempt = labels.get(ATTEMPT)
        self._begin_reading_back()

    def _read_lease(self, lease_id: str) -> Lease | None:
        return self.allocator.store.lease(lease_id)

    # -- stop ----------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        await super().stop(now)
        self._pod_may_exist = False

    async def _make_delete_pod_request(
        self, pod_name: str, delete_options: Any, grace_seconds: int, request_timeout: float
    ) -> bool:
        try:
            return await super()._make_delete_pod_request(
                pod_name, delete_options, grace_seconds, request_timeout
            )
        except (ApiException, ClientError) as error:
            if not is_worth_another_try(error):
                raise
            self.log.warning("%s: asking again: %s", self._log_name, message_of(error))
            return False

    async def _give_back(self) -> None:
        if self._reading_back is not None:
            self._reading_back.cancel()
            self._reading_back = None
        if self._attempt is not None and self._lease is None:
            # Without a GPU, or before it was held: no lease, but a pod that may be there.
            await self.end_leftovers(self._attempt)
        await super()._give_back()

    async def end_leftovers(self, attempt: str | None) -> None:
        """Delete this server's pods that no stop has waited for: of a start that was cancelled
        before its pod was seen, or of a hub that was killed in one.

        Bounded. A pod that stays is said in the log; it counts as held until it is gone.
        """
        creating, self._creating = self._creating, None
        if creating is not None and not creating.done():
            await asyncio.wait([creating], timeout=self.k8s_api_request_timeout + 1)
        if not self._pod_may_exist:
            return
        labels = self._labels if attempt is None else self._labels | {ATTEMPT: attempt}
        try:
            async with asyncio.timeout(_LEFTOVER_SECONDS):
                await self._end_pods(labels)
        except (ApiException, ClientError, TimeoutError) as error:
            self.log.warning(
                "%s: its pod may still be there, and counts as held until it is gone: %s",
                self._log_name,
                message_of(error),
            )
        else:
            self._pod_may_exist = False

    async def _end_pods(self, labels: Mapping[str, str]) -> None:
        grace_seconds = self.delete_grace_period
        ended, stuck = await delete_pods(self.api, self.namespace, labels, grace_seconds)
        for pod in stuck:
            self.log.warning(
                "%s: pod %s is terminating since %s and does not end. Its piece counts as held"
                " until the pod is gone; look at node %s.",
                self._log_name,
                pod.metadata.name,
                pod.metadata.deletion_timestamp,
                pod.spec.node_name,
            )
        for metadata in ended:
            self.log.info("%s: left-over pod %s deleted", self._log_name, metadata.name)
        await self._start_watching_pods()
        while any(self._watched_uid(metadata) == metadata.uid for metadata in ended):
            await asyncio.sleep(0.2)

    def _watched_uid(self, metadata: Any) -> str | None:
        reflector = self.pod_reflector
        found = f"{metadata.namespace}/{metadata.name}"
        pod = reflector.pods.get(found) if reflector is not None else None
        return None if pod is None else pod["metadata"]["uid"]


def _time_of_event(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(last or "")
