"""Foreign GPUs: what of a pod reaches for GPUs, and the ledger does not know.

Pure. A profile, a hook, a user's options or an admin's setting may put anything into a pod. A
GPU that comes that way is promised to somebody else in the books, so the pod is refused,
whoever did it. Before the patch a pod may have nothing of the kind; after it, exactly the
patch.

What is looked for, and why, beside resources, claims and the engines' own labels:

- ``privileged`` and host paths to devices, driver sockets, MPS, kubelet or container engine:
  they reach every GPU of the node. The one exception is Zero to JupyterHub's
  ``block-cloud-metadata``, which runs ``iptables`` and is over before the notebook starts;
  HAMi's webhook refuses even that.
- ``hostPID`` and ``hostIPC``: a neighbour's processes and shared GPU memory.
- ``nodeName``: past the scheduler, and so past the node that the ledger chose.
- ``envFrom`` on the notebook's container while the engine has variables to set: a map that
  nobody has looked into would win over them. With a ``prefix`` that no such variable begins
  with, it is let through.
- ``runtimeClassName`` is let through: clusters need it, and a runtime gives what the variables
  say, which are governed.

Capabilities and read-only mounts of libraries are Pod Security's business, not the ledger's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aliquot.bindings.hami import CARD, CORES, MEMORY
from aliquot.bindings.kai import FRACTION, FRACTION_CONTAINER
from aliquot.bindings.patches import ProcessPatch
from aliquot.bindings.pod_env import NO_DEVICES, is_governed, is_harmless, may_govern
from aliquot.bindings.pod_reading import containers, notebook_index, pinned_to
from aliquot.bindings.pods import PodPatch
from aliquot.domain.engines import Engine
from aliquot.domain.kubernetes_values import mapping, rows, text
from aliquot.domain.refusals import Reason, Refusal, Remedy, RemedyKind

_MAX_SHOWN = 120

# Vendors' domains, and names that say it themselves. A DRA class may be asked for as a resource
# as well (KEP-5004, deviceclass.resource.kubernetes.io).
_GPU_DOMAINS = (
    "nvidia.com",
    "amd.com",
    "gpu.intel.com",
    "habana.ai",
    "run.ai",
    "hami.io",
    "project-hami.io",
    "kai.scheduler",
    "4pd.io",
    "mig.das.com",
    "cambricon.com",
    "hygon.com",
    "iluvatar.ai",
    "metax-tech.com",
    "mthreads.com",
    "enflame.com",
    "kunlunxin.com",
    "vastaitech.com",
    "deviceclass.resource.kubernetes.io",
)
_GPU_NAME = re.compile(r"gpu|(?<![a-z])[tn]pu|neuron|vcuda|ascend", re.IGNORECASE)

# Labels and annotations by which an engine or a container runtime is asked for a device.
_ASKING_DOMAINS = (
    *_GPU_DOMAINS,
    "cdi.k8s.io",
    "devices.nri.io",
    "devices.noderesource.dev",
    "runai",
)
_ASKING_NAMES = re.compile(
    r"gpu-fraction.*|gpu-memory|mps|received-resource-type|runai-.*|pod-group-name"
    r"|io\.kubernetes\.cri-o\.Devices|volcano\.sh/vgpu.*"
)

# Schedulers that hand out GPUs by themselves. Others (Zero to JupyterHub's user-scheduler)
# only choose a node.
_ENGINE_SCHEDULERS = re.compile(r".*(hami|kai-|runai|volcano).*")

# Where devices, driver sockets and those of kubelet and container engines are. A host path to
# one of them, below it or above it, reaches them.
_GUARDED = (
    "/dev",
    "/etc/cdi",
    "/proc",
    "/run/cdi",
    "/run/containerd",
    "/run/crio",
    "/run/docker.sock",
    "/run/nvidia",
    "/run/nvidia-mps",
    "/run/nvidia-persistenced",
    "/run/nvidia-container-devices",
    "/tmp/nvidia-mps",
    "/tmp/vgpulock",
    "/var/lib/kubelet",
)
# Below these alone, since libraries are mounted from above them.
_GUARDED_BELOW = ("/usr/local/vgpu",)
_HARMLESS_DEVICES = ("/dev/shm", "/dev/fuse", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/net")

# Files in the container that HAMi-core or NVIDIA's runtime take orders from.
_ORDERS = (
    "/etc/ld.so.preload",
    "/overrideEnv",
    "/usr/local/vgpu",
    "/run/nvidia-container-devices",
)
_BLOCKS_METADATA = "initContainers[block-cloud-metadata]"


@dataclass(frozen=True, slots=True)
class Foreign:
    """``where`` is a place in the pod's manifest, ``what`` what stands or is missing there."""

    where: str
    what: str

    @property
    def found(self) -> str:
        """Both in one phrase, as an admin would look for it."""
        what = self.what if len(self.what) <= _MAX_SHOWN else self.what[: _MAX_SHOWN - 1] + "…"
        return f"{what} in {self.where}"


def foreign_gpu(pod: Mapping[str, Any], patch: ProcessPatch | None = None) -> Foreign | None:
    """The first thing that the ledger does not know; None when there is none.

    Without a patch the pod is judged as others made it. With one, it must be that patch and
    nothing else: what is missing of it, or was changed, is found as well.
    """
    found = Counter(_found(pod, patch))
    known = Counter(_known(pod, patch) if patch is not None else ())
    for one in found:
        if found[one] > known[one]:
            return one
    for one in known:
        if known[one] > found[one]:
            return Foreign(one.where, f"{one.what} (missing)")
    return None


def foreign_refusal(
    found: Foreign, pod: Mapping[str, Any], engines: Collection[Engine] | None
) -> Refusal:
    """The no for a foreign GPU. ``engines`` are those of the cluster's nodes, None when they
    are not known: it says so when the pod asks for what only HAMi gives, and no node has HAMi.
    """
    numbers = {"found": found.found}
    asks_hami = any(one.what.startswith((CORES, MEMORY)) for one in _found(pod, None))
    if asks_hami and engines is not None and not {Engine.HAMI, Engine.HAMI_MIG} & {*engines}:
        numbers["missing_engine"] = "HAMi"
    return Refusal(Reason.FOREIGN_GPU, numbers, (Remedy(RemedyKind.REMOVE_FOREIGN_GPU),))


def _found(pod: Mapping[str, Any], patch: ProcessPatch | None) -> Iterator[Foreign]:
    spec, metadata = mapping(pod, "spec"), mapping(pod, "metadata")
    yield from _resources("spec", spec)
    yield from _quantities("spec.overhead", mapping(spec, "overhead"))
    for place, container in containers(pod):
        yield from _resources(place, container)
    yield from _claims(pod)
    for kind in ("labels", "annotations"):
        for name, value in mapping(metadata, kind).items():
            if _asks(str(name)):
                yield Foreign(f"metadata.{kind}", f"{name}: {value}")
    yield from _environment(pod, patch)
    yield from _runtime(pod, patch)
    yield from _scheduling(spec, patch)


def _known(pod: Mapping[str, Any], patch: ProcessPatch) -> Iterator[Foreign]:
    """What ``_found`` finds when the patch was put on this pod."""
    index = notebook_index(mapping(pod, "spec"))
    places = [place for place, _ in containers(pod)]
    regular = [place for place in places if place.startswith("containers[")]
    notebook = regular[index] if index < len(regular) else "containers[]"
    for place in places:
        env = patch.env if place == notebook else NO_DEVICES
        for name, value in env.items():
            yield Foreign(f"{place}.env", f"{name}={value}")
    if not isinstance(patch, PodPatch):
        return
    for kind in ("limits", "requests"):
        for name, value in patch.limits.items():
            yield Foreign(f"{notebook}.resources.{kind}", f"{name}: {value}")
    if patch.claims:
        yield Foreign("spec.resourceClaims", "gpu")
        yield Foreign(f"{notebook}.resources.claims", "gpu")
    for name, value in patch.labels.items():
        yield Foreign("metadata.labels", f"{name}: {value}")
    for name, value in patch.annotations.items():
        yield Foreign("metadata.annotations", f"{name}: {value}")
    if FRACTION in patch.annotations and index:
        name = text([*rows(mapping(pod, "spec"), "containers")][index], "name")
        yield Foreign("metadata.annotations", f"{FRACTION_CONTAINER}: {name}")
    if patch.scheduler_name is not None:
        yield Foreign("spec.schedulerName", patch.scheduler_name)
    if patch.priority_class is not None:
        yield Foreign("spec.priorityClassName", patch.priority_class)
    if patch.node:
        yield Foreign("spec.affinity", f"node {patch.node}")


def _resources(place: str, holder: Mapping[str, Any]) -> Iterator[Foreign]:
    for kind in ("limits", "requests"):
        yield from _quantities(f"{place}.resources.{kind}", mapping(holder, "resources", kind))


def _quantities(place: str, quantities: Mapping[str, Any]) -> Iterator[Foreign]:
    """A quantity of 0 too: HAMi's webhook adds a card to cores of any number."""
    for name, quantity in quantities.items():
        domain, _, bare = str(name).rpartition("/")
        if domain and (_in(domain, _GPU_DOMAINS) or _GPU_NAME.search(bare)):
            yield Foreign(place, f"{name}: {quantity}")


def _claims(pod: Mapping[str, Any]) -> Iterator[Foreign]:
    """Any claim: what a class gives is not to be told from its name."""
    for claim in rows(mapping(pod, "spec"), "resourceClaims"):
        yield Foreign("spec.resourceClaims", text(claim, "name"))
    for claim in rows(mapping(pod, "spec", "resources"), "claims"):
        yield Foreign("spec.resources.claims", text(claim, "name"))
    for place, container in containers(pod):
        for claim in rows(mapping(container, "resources"), "claims"):
            yield Foreign(f"{place}.resources.claims", _claim(claim))


def _claim(claim: Mapping[str, Any]) -> str:
    request = text(claim, "request")
    return f"{text(claim, 'name')}/{request}" if request else text(claim, "name")


def _environment(pod: Mapping[str, Any], patch: ProcessPatch | None) -> Iterator[Foreign]:
    regular = 0
    for place, container in containers(pod):
        for entry in rows(container, "env"):
            name = text(entry, "name")
            value = None if entry.get("valueFrom") else str(entry.get("value") or "")
            if is_governed(name) and (patch is not None or not is_harmless(name, value)):
                yield Foreign(f"{place}.env", f"{name}={'…' if value is None else value}")
        if not place.startswith("containers["):
            continue
        if patch is not None and regular == notebook_index(mapping(pod, "spec")):
            yield from _unseen(place, container, patch)
        regular += 1


def _unseen(place: str, container: Mapping[str, Any], patch: ProcessPatch) -> Iterator[Foreign]:
    by_hami = patch.enforcement.by == "hami"
    if "NVIDIA_VISIBLE_DEVICES" in patch.env and not by_hami:
        return
    for source in rows(container, "envFrom"):
        if may_govern(text(source, "prefix")):
            name = text(source.get("configMapRef"), "name") or text(source.get("secretRef"), "name")
            yield Foreign(f"{place}.envFrom", name)


def _runtime(pod: Mapping[str, Any], patch: ProcessPatch | None) -> Iterator[Foreign]:
    spec = mapping(pod, "spec")
    for name in ("hostPID", "hostIPC"):
        if spec.get(name):
            yield Foreign("spec", f"{name}: true")
    for volume in rows(spec, "volumes"):
        path = text(volume.get("hostPath"), "path")
        if path and _reaches(path):
            yield Foreign(f"spec.volumes[{text(volume, 'name')}]", f"hostPath {path}")
    for place, container in containers(pod):
        if mapping(container, "securityContext").get("privileged") and not _is_over_before(
            place, container, patch
        ):
            yield Foreign(f"{place}.securityContext", "privileged: true")
        for mount in rows(container, "volumeMounts"):
            path = _normal(text(mount, "mountPath"))
            if any(_is_below(path, order) for order in _ORDERS):
                yield Foreign(f"{place}.volumeMounts", path)


def _is_over_before(place: str, container: Mapping[str, Any], patch: ProcessPatch | None) -> bool:
    """Zero to JupyterHub's container that cuts off the cloud's metadata server (its default)."""
    command = container.get("command")
    runs = command[0] if isinstance(command, list | tuple) and command else None
    by_hami = isinstance(patch, PodPatch) and CARD in patch.annotations
    return (
        place == _BLOCKS_METADATA
        and runs == "iptables"
        and container.get("restartPolicy") != "Always"
        and not by_hami
    )


def _scheduling(spec: Mapping[str, Any], patch: ProcessPatch | None) -> Iterator[Foreign]:
    if spec.get("nodeName"):
        yield Foreign("spec.nodeName", str(spec["nodeName"]))
    scheduler = text(spec, "schedulerName")
    asked = patch if isinstance(patch, PodPatch) else None
    if _ENGINE_SCHEDULERS.fullmatch(scheduler) or (asked and asked.scheduler_name is not None):
        yield Foreign("spec.schedulerName", scheduler)
    if asked is None:
        return
    if asked.priority_class is not None:
        yield Foreign("spec.priorityClassName", text(spec, "priorityClassName"))
    if asked.node and _is_pinned(spec, asked.node):
        yield Foreign("spec.affinity", f"node {asked.node}")


def _is_pinned(spec: Mapping[str, Any], node: str) -> bool:
    """Whether no other node meets the required affinity."""
    required = mapping(
        spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"
    )
    terms = [
        [*rows(term, "matchFields")]
        for term in rows(required, "nodeSelectorTerms")
        if term.get("matchExpressions") or term.get("matchFields")
    ]
    return all(pinned_to(node) in fields for fields in terms) and bool(required)


def _asks(name: str) -> bool:
    domain = name.partition("/")[0] if "/" in name else ""
    return _in(domain, _ASKING_DOMAINS) or _ASKING_NAMES.fullmatch(name) is not None


def _in(domain: str, domains: tuple[str, ...]) -> bool:
    return any(domain == one or domain.endswith("." + one) for one in domains)


def _reaches(path: str) -> bool:
    path = _normal(path)
    if any(_is_below(path, harmless) for harmless in _HARMLESS_DEVICES):
        return False
    return any(_is_below(path, one) or _is_below(one, path) for one in _GUARDED) or any(
        _is_below(path, one) for one in _GUARDED_BELOW
    )


def _is_below(path: str, above: str) -> bool:
    return path == above or path.startswith(above.rstrip("/") + "/")


def _normal(path: str) -> str:
    """One spelling of a path; /var/run is /run."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if parts[:2] == ["var", "run"]:
        del parts[:1]
    return "/" + "/".join(parts)
