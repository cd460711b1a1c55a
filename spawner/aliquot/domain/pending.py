"""Pending: why a pod does not run yet, read from what Kubernetes says about it.

Pure. Takes a pod and its events as the API server's JSON, and gives one of a closed list of
reasons with its numbers. ``wording`` turns it into a sentence (``pending.*``, ``step.*``), so
no text of the API reaches a user. What is not in the list is UNKNOWN, and carries the message
shortened to one line without JSON and ids.

A *dead end* is a reason that waiting does not cure: the start ends then, and not minutes later.

Sources: kube-scheduler and kubelet 1.36 (event reasons and messages), HAMi 2.10.0
(pkg/device/common/common.go, pkg/util/nodelock), KAI v0.17.0
(plugins/proportion/capacity_policy), Kueue 0.19 (scheduling gates).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aliquot.domain.refusals import Number


class PodStep(StrEnum):
    """What went well, in the order in which it happens."""

    PLACED = "placed"
    SCALING_UP = "scaling_up"
    IMAGE_PULLING = "image_pulling"
    IMAGE_READY = "image_ready"
    CONTAINER_CREATED = "container_created"
    CONTAINER_STARTED = "container_started"


class PendingReason(StrEnum):
    """Why the pod waits. In the order of precedence when several nodes say different things."""

    NO_FREE_GPU = "no_free_gpu"
    GPU_UNHEALTHY = "gpu_unhealthy"
    GPU_NOT_FITTING = "gpu_not_fitting"
    CLAIM_NOT_MADE = "claim_not_made"
    OVER_ENGINE_QUOTA = "over_engine_quota"
    IN_QUEUE = "in_queue"
    NO_CPU_OR_MEMORY = "no_cpu_or_memory"
    TOO_MANY_PODS = "too_many_pods"
    VOLUME = "volume"
    NODE_CLOSED = "node_closed"
    NO_FITTING_NODE = "no_fitting_node"
    IMAGE_PULL = "image_pull"
    IMAGE_NAME = "image_name"
    IMAGE_NOT_THERE = "image_not_there"
    CONTAINER_CONFIG = "container_config"
    SANDBOX = "sandbox"
    CRASHES = "crashes"
    DEVICE_REFUSED = "device_refused"
    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    ENDED = "ended"
    UNKNOWN = "unknown"

    @property
    def is_dead_end(self) -> bool:
        """No waiting cures it. A pull that fails may be a registry's bad minute, so that is
        told apart by ``IMAGE_PULL_TRIES``."""
        return self in (
            PendingReason.IMAGE_NAME,
            PendingReason.IMAGE_NOT_THERE,
            PendingReason.DEVICE_REFUSED,
            PendingReason.EVICTED,
            PendingReason.ENDED,
        )


# A kubelet waits 10, 20, 40 … s between pulls: the fourth failure comes after about 70 s,
# longer than a registry needs to restart.
IMAGE_PULL_TRIES = 4
MOST_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that Kubernetes says of a pod. ``times`` is how often it has said so."""

    what: PendingReason | PodStep
    numbers: Mapping[str, Number] = field(default_factory=dict)
    times: int = 1

    @property
    def is_dead_end(self) -> bool:
        if self.what is PendingReason.IMAGE_PULL:
            return self.times >= IMAGE_PULL_TRIES
        return isinstance(self.what, PendingReason) and self.what.is_dead_end


_STEPS = {
    "Scheduled": PodStep.PLACED,
    "TriggeredScaleUp": PodStep.SCALING_UP,
    "Pulling": PodStep.IMAGE_PULLING,
    "Pulled": PodStep.IMAGE_READY,
    "Created": PodStep.CONTAINER_CREATED,
    "Started": PodStep.CONTAINER_STARTED,
}

# Event reasons that say all by themselves.
_REASONS = {
    "ErrImagePull": PendingReason.IMAGE_PULL,
    "ImagePullBackOff": PendingReason.IMAGE_PULL,
    "RegistryUnavailable": PendingReason.IMAGE_PULL,
    "SignatureValidationFailed": PendingReason.IMAGE_PULL,
    "ImageInspectError": PendingReason.IMAGE_PULL,
    "InvalidImageName": PendingReason.IMAGE_NAME,
    "InspectFailed": PendingReason.IMAGE_PULL,
    "ErrImageNeverPull": PendingReason.IMAGE_NOT_THERE,
    "CreateContainerConfigError": PendingReason.CONTAINER_CONFIG,
    "CreateContainerError": PendingReason.CONTAINER_CONFIG,
    "RunContainerError": PendingReason.CONTAINER_CONFIG,
    "CrashLoopBackOff": PendingReason.CRASHES,
    "FailedMount": PendingReason.VOLUME,
    "FailedAttachVolume": PendingReason.VOLUME,
    "FailedBinding": PendingReason.VOLUME,
    "ProvisioningFailed": PendingReason.VOLUME,
    "FailedCreatePodSandBox": PendingReason.SANDBOX,
    "FailedPodSandBoxStatus": PendingReason.SANDBOX,
    "NetworkNotReady": PendingReason.SANDBOX,
    "UnexpectedAdmissionError": PendingReason.DEVICE_REFUSED,
    "FailedPrepareDynamicResources": PendingReason.DEVICE_REFUSED,
    "Evicted": PendingReason.EVICTED,
    "Preempted": PendingReason.EVICTED,
    "Preempting": PendingReason.EVICTED,
    "TaintManagerEviction": PendingReason.NODE_LOST,
    "NodeNotReady": PendingReason.NODE_LOST,
    "NodeLost": PendingReason.NODE_LOST,
    "NodeShutdown": PendingReason.NODE_LOST,
    "Terminated": PendingReason.NODE_LOST,
    "FailedResourceClaimCreation": PendingReason.CLAIM_NOT_MADE,
    "SchedulingGated": PendingReason.IN_QUEUE,
    "OverLimit": PendingReason.OVER_ENGINE_QUOTA,
    "NonPreemptibleOverQuota": PendingReason.OVER_ENGINE_QUOTA,
}
# Said again elsewhere, or nothing that a user could act on. HAMi's FilteringFailed takes a
# node's reasons apart, so that the cards beside the full one seem to be what is wrong;
# FailedScheduling repeats them together.
_SILENT = frozenset(
    {"NotTriggerScaleUp", "Unhealthy", "Killing", "WaitingForGates", "FilteringFailed"}
)
_SCHEDULING = frozenset({"FailedScheduling", "Unschedulable", "BindingFailed", "NotSchedulable"})

# What schedulers say, each part of a message by the first pattern that is in it.
_GPU_RESOURCE = r"(?:nvidia|amd|intel|gpu)[\w.-]*/[\w.-]+"
_SAID: tuple[tuple[re.Pattern[str], PendingReason], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (rf"insufficient {_GPU_RESOURCE}", PendingReason.NO_FREE_GPU),
        (
            r"CardInsufficient(?:Memory|Core)|Card(?:TimeSlicing|ComputeUnits)Exhausted"
            r"|NodeInsufficientDevice|ExclusiveDeviceAllocateConflict|NodeUnfitPod"
            # Of a profile that HAMi allows, no place is left on the card.
            r"|CardMigTopologyInfeasible",
            PendingReason.NO_FREE_GPU,
        ),
        (r"enough resources?: (?:GPU|mig)", PendingReason.NO_FREE_GPU),
        (r"cannot allocate all claims", PendingReason.NO_FREE_GPU),
        (r"CardNotHealth|CardCordoned", PendingReason.GPU_UNHEALTHY),
        (
            r"CardTypeMismatch|CardUuidMismatch|ModeNotFit"
            r"|node unregist|AllocatedCardsInsufficientRequest|NumaNotFit"
            r"|CardNotFoundCustomFilterRule",
            PendingReason.GPU_NOT_FITTING,
        ),
        (
            r"waiting for (?:the )?(?:dynamic resource controller|resource ?claim)"
            r"|resourceclaim[^,]*not (?:found|created)"
            r"|resource ?claim template .*not found",
            PendingReason.CLAIM_NOT_MADE,
        ),
        (
            r"ResourceQuotaNotFit|OverLimit|NonPreemptibleOverQuota|over (?:the )?(?:limit|quota)"
            r"|exceeded quota",
            PendingReason.OVER_ENGINE_QUOTA,
        ),
        (r"scheduling is blocked due to non-empty scheduling gates", PendingReason.IN_QUEUE),
        # HAMi lets one pod at a time begin on a node.
        (r"node lock contention", PendingReason.IN_QUEUE),
        (r"queue .*(?:does not exist|not found)", PendingReason.IN_QUEUE),
        (
            r"insufficient (?:cpu|memory|ephemeral-storage|hugepages)"
            r"|enough resources?: (?:CPU|memory)",
            PendingReason.NO_CPU_OR_MEMORY,
        ),
        (r"too many pods", PendingReason.TOO_MANY_PODS),
        (
            r"volume|persistentvolumeclaim|unbound immediate|storageclass",
            PendingReason.VOLUME,
        ),
        (r"untolerated taint|were unschedulable|not ready", PendingReason.NODE_CLOSED),
        (
            r"didn't match Pod's node affinity|didn't match pod (?:anti-)?affinity"
            r"|node selector|free ports|didn't satisfy plugin|no nodes available",
            PendingReason.NO_FITTING_NODE,
        ),
        # An extended resource without a GPU's name: whatever it is, it is not there.
        (r"insufficient [\w.-]+/[\w.-]+", PendingReason.NO_FREE_GPU),
    )
)
_FAILED: tuple[tuple[re.Pattern[str], PendingReason], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"InvalidImageName|couldn't parse image|invalid reference", PendingReason.IMAGE_NAME),
        (r"ErrImageNeverPull|pull policy of Never", PendingReason.IMAGE_NOT_THERE),
        (r"ull(?:ing)? image|ErrImagePull|ImagePullBackOff", PendingReason.IMAGE_PULL),
        (r"restarting failed container|CrashLoopBackOff", PendingReason.CRASHES),
        (r"secret|configmap|Error: ", PendingReason.CONTAINER_CONFIG),
    )
)


def read_event(event: Mapping[str, Any]) -> Told | None:
    """What one event of a pod says; None when it is nothing for a user."""
    reason, message = _text(event, "reason"), _text(event, "message")
    if reason in _SILENT:
        return None
    times = _times(event)
    if (step := _STEPS.get(reason)) is not None:
        numbers = _node_in(message) if step is PodStep.PLACED else {}
        return Told(step, numbers) if numbers or step is not PodStep.PLACED else None
    if reason in _SCHEDULING:
        return _scheduler_said(message, times)
    if reason.startswith("OutOf"):
        # The kubelet's admission: OutOfcpu, OutOfnvidia.com/gpu.
        return Told(PendingReason.DEVICE_REFUSED, {}, times)
    if reason in ("Failed", "BackOff", "InspectFailed"):
        for pattern, found in _FAILED:
            if pattern.search(message):
                return Told(found, {}, times)
    if (known := _REASONS.get(reason)) is not None:
        return Told(known, {}, times)
    return _unknown(reason, message, times) if _text(event, "type") == "Warning" else None


def read_pod(pod: Mapping[str, Any]) -> Told | None:
    """What the pod itself says: its phase, what its containers wait for, its conditions."""
    status = _mapping(pod, "status")
    phase, reason = _text(status, "phase"), _text(status, "reason")
    if phase == "Failed" and (reason.startswith("OutOf") or reason == "UnexpectedAdmissionError"):
        return Told(PendingReason.DEVICE_REFUSED)
    if phase in ("Failed", "Succeeded"):
        return Told(_REASONS.get(reason, PendingReason.ENDED))
    if reason == "NodeLost":
        return Told(PendingReason.NODE_LOST)
    for container in (*_rows(status, "initContainerStatuses"), *_rows(status, "containerStatuses")):
        waiting = _mapping(_mapping(container, "state"), "waiting")
        found = _REASONS.get(_text(waiting, "reason"))
        if found is not None:
            return Told(found)
    for condition in _rows(status, "conditions"):
        if _text(condition, "type") != "PodScheduled" or _text(condition, "status") != "False":
            continue
        if _text(condition, "reason") == "SchedulingGated":
            return Told(PendingReason.IN_QUEUE)
        return _scheduler_said(_text(condition, "message"), 1)
    return None


def tell(pod: Mapping[str, Any] | None, events: Iterable[Mapping[str, Any]]) -> list[Told]:
    """All that is to be told of a starting pod, oldest first, the same thing once.

    The pod's own word comes last: it is what holds now. An event that repeats counts its
    repetitions.
    """
    said: dict[tuple[object, ...], Told] = {}
    readings: list[Told | None] = [read_event(event) for event in events]
    if pod is not None:
        readings.append(read_pod(pod))
    for told in readings:
        if told is None:
            continue
        key = _key(told)
        known = said.pop(key, None)
        most = told if known is None or known.times <= told.times else known
        # A reason whose numbers changed replaces the old one at its new place.
        said[key] = Told(told.what, told.numbers, most.times)
    return list(said.values())


def waiting_for(told: Sequence[Told]) -> Told | None:
    """What the pod waits for now: the last reason, unless a step has come after it."""
    last = told[-1] if told else None
    return last if last is not None and isinstance(last.what, PendingReason) else None


def dead_end(told: Sequence[Told]) -> Told | None:
    """The first reason that ends the start."""
    return next((one for one in told if one.is_dead_end), None)


def shortened(text: str) -> str:
    """A foreign message on one line of at most 120 characters, without JSON and ids."""
    line = " ".join(text.split())
    for pattern in _NOISE:
        line = pattern.sub(" ", line)
    line = "".join(c for c in line if c.isprintable() and c not in "{}[]\"'`<>")
    line = re.sub(r"\s+([,.;:])", r"\1", " ".join(line.split())).strip(" ,;:=")
    return line if len(line) <= MOST_SHOWN else line[: MOST_SHOWN - 1].rstrip() + "…"


_NOISE = tuple(
    re.compile(pattern)
    for pattern in (
        # JSON and Go's maps, innermost first, twice for one level of nesting.
        r"(?:map)?[{\[][^{}\[\]]*[}\]]",
        r"(?:map)?[{\[][^{}\[\]]*[}\]]",
        r"(?:map)?[{\[].*[}\]]",
        r"\b\w+://\S+",
        r"\bsha256:[0-9a-f]+",
        r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
        r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b",
    )
)


def _scheduler_said(message: str, times: int) -> Told:
    """The strongest reason in a scheduler's message, which lists one for each group of nodes.

    Our pods name their node, so the other nodes' "didn't match" is only told when it is all.
    """
    # What a preemption would not help with repeats the nodes.
    body = re.split(r"\.? ?(?:preemption:|no new claims)", message)[0]
    body = body.partition("nodes are available:")[2] or body
    found: list[tuple[PendingReason, str]] = []
    for part in re.split(r",(?![^{]*})", body):
        for pattern, reason in _SAID:
            if (match := pattern.search(part)) is not None:
                found.append((reason, match.group()))
                break
    if not found:
        return _unknown("FailedScheduling", body, times)
    order = list(PendingReason)
    reason, words = min(found, key=lambda pair: order.index(pair[0]))
    numbers: dict[str, Number] = {}
    if reason is PendingReason.NO_CPU_OR_MEMORY:
        numbers["lacking"] = words.split()[-1].lower()
    return Told(reason, numbers, times)


def _unknown(reason: str, message: str, times: int) -> Told:
    return Told(PendingReason.UNKNOWN, {"message": shortened(message) or shortened(reason)}, times)


def _node_in(message: str) -> Mapping[str, Number]:
    """ "Successfully assigned ns/pod to gpu-1" names the node last."""
    words = message.rpartition(" to ")
    return {"node": words[2].strip()[:MOST_SHOWN]} if words[1] else {}


def _key(told: Told) -> tuple[object, ...]:
    message = told.numbers.get("message")
    return (told.what, message)


def _times(event: Mapping[str, Any]) -> int:
    """How often an event was seen: ``count``, or in the newer form ``series.count``."""
    counts = [event.get("count"), _mapping(event, "series").get("count")]
    return max([1, *(c for c in counts if isinstance(c, int))])


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _mapping(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key)
    return value if isinstance(value, Mapping) else {}


def _rows(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = row.get(key)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
