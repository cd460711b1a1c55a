"""Pod manifests: a patch put on a finished pod, after profiles and hooks.

Pure. The pod is the JSON that the API server will get. What the patch says replaces what
stands there; everything else is kept. ``foreign_gpu`` looks at the pod before, for what others
put there, and after, when nothing but the patch may be left.

The notebook's container alone gets the piece. Init containers and sidecars see no device.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from aliquot.bindings.foreign_gpus import Foreign as Foreign
from aliquot.bindings.foreign_gpus import foreign_gpu as foreign_gpu
from aliquot.bindings.foreign_gpus import foreign_refusal as foreign_refusal
from aliquot.bindings.kai import FRACTION, FRACTION_CONTAINER
from aliquot.bindings.patches import ProcessPatch
from aliquot.bindings.pod_env import NO_DEVICES, is_governed
from aliquot.bindings.pod_reading import containers, notebook_index, pinned_to
from aliquot.bindings.pods import PodPatch
from aliquot.domain.kubernetes_values import text
from aliquot.domain.pod_marks import LEASE, LEDGER, PIECES, SPAWNER, Marks

# The name of the claim inside the pod.
CLAIM = "gpu"


def apply(pod: Mapping[str, Any], patch: ProcessPatch, marks: Marks | None) -> dict[str, Any]:
    """A new pod with the patch, and with the marks of its lease; without a lease, without any.

    A patch of one machine's binding (the one for no GPU) is taken for its environment alone.
    """
    pod = copy.deepcopy(dict(pod))
    metadata = _made(pod, "metadata")
    spec = _made(pod, "spec")
    index = notebook_index(spec)
    notebook = _listed(spec, "containers")[index]
    for _, container in containers(pod):
        assert isinstance(container, dict)
        _put_env(container, patch.env if container is notebook else NO_DEVICES)
    _put_marks(metadata, marks)
    if isinstance(patch, PodPatch):
        _put_patch(metadata, spec, notebook, patch, marks)
    return pod


def template_name(marks: Marks) -> str:
    """The name of the ResourceClaimTemplate of a lease's pod."""
    return f"aliquot-{marks.labels[LEASE]}"


def claim_template(patch: PodPatch, marks: Marks) -> dict[str, Any] | None:
    """The ResourceClaimTemplate that a patched pod refers to; None for a patch without claims.

    Its claims carry the pod's marks. The caller adds the namespace, and the pod as the owner
    once it has a uid: what Kubernetes makes of the template then goes with the pod.
    """
    if not patch.claims:
        return None
    labels, annotations = dict(marks.labels), dict(marks.annotations)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": template_name(marks), "labels": labels},
        "spec": {
            "metadata": {"labels": dict(labels), "annotations": annotations},
            "spec": {"devices": {"requests": [request.to_json() for request in patch.claims]}},
        },
    }


def _put_patch(
    metadata: dict[str, Any],
    spec: dict[str, Any],
    notebook: dict[str, Any],
    patch: PodPatch,
    marks: Marks | None,
) -> None:
    if patch.limits:
        resources = _made(notebook, "resources")
        # Both, and alike: an extended resource cannot be requested below its limit.
        _made(resources, "limits").update(patch.limits)
        _made(resources, "requests").update(patch.limits)
    _made(metadata, "labels").update(patch.labels)
    annotations = dict(patch.annotations)
    if FRACTION in annotations and notebook_index(spec):
        # KAI gives a fraction to the first container unless another is named.
        annotations[FRACTION_CONTAINER] = text(notebook, "name")
    _made(metadata, "annotations").update(annotations)
    if patch.scheduler_name is not None:
        spec["schedulerName"] = patch.scheduler_name
    if patch.priority_class is not None:
        spec["priorityClassName"] = patch.priority_class
        # The number belongs to the class that stood there; the API server fills in this one's.
        spec.pop("priority", None)
    if patch.claims:
        if marks is None:
            raise ValueError("a patch with claims needs the marks of its lease")
        reference = {"name": CLAIM, "resourceClaimTemplateName": template_name(marks)}
        _listed(spec, "resourceClaims").append(reference)
        _listed(_made(notebook, "resources"), "claims").append({"name": CLAIM})
    if patch.node:
        _pin(spec, patch.node)


def _put_env(container: dict[str, Any], env: Mapping[str, str]) -> None:
    """The governed variables as the patch has them, and no other of that kind."""
    kept = [
        entry
        for entry in _listed(container, "env")
        if not (isinstance(entry, dict) and _is_taken(entry.get("name"), env))
    ]
    container["env"] = kept + [{"name": name, "value": value} for name, value in env.items()]


def _is_taken(name: object, env: Mapping[str, str]) -> bool:
    return isinstance(name, str) and (name in env or is_governed(name))


def _put_marks(metadata: dict[str, Any], marks: Marks | None) -> None:
    """A pod without a lease carries no marks, whatever a profile wrote there."""
    labels, annotations = _made(metadata, "labels"), _made(metadata, "annotations")
    for name in (LEDGER, LEASE, SPAWNER):
        labels.pop(name, None)
    annotations.pop(PIECES, None)
    if marks is not None:
        labels.update(marks.labels)
        annotations.update(marks.annotations)


def _pin(spec: dict[str, Any], node: str) -> None:
    """To one node, beside what else the pod asks of it: each term must hold it as well, since
    one that holds is enough. An empty term matches no node and stays empty."""
    affinity = _made(_made(spec, "affinity"), "nodeAffinity")
    required = _made(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    terms = _listed(required, "nodeSelectorTerms")
    if not terms:
        terms.append({"matchFields": [pinned_to(node)]})
        return
    for term in terms:
        if isinstance(term, dict) and (term.get("matchExpressions") or term.get("matchFields")):
            _listed(term, "matchFields").append(pinned_to(node))


def _made(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in a field, made where it is missing or none."""
    if not isinstance(holder.get(name), dict):
        holder[name] = {}
    return holder[name]


def _listed(holder: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(holder.get(name), list):
        holder[name] = []
    return holder[name]
