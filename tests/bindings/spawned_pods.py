"""Pods as KubeSpawner 7.1 and Zero to JupyterHub make them, and inventories of each engine.

Values only; the pod is what ``ApiClient().sanitize_for_serialization`` gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aliquot.bindings.pods import PodPolicy
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory
from aliquot.domain.leases import Lease, Placement
from aliquot.domain.mig_geometry import geometries
from aliquot.domain.placement import place
from aliquot.domain.pod_marks import Marks, marks_of
from aliquot.domain.shares import Share
from tests.domain.machines import NOON, blocks_gpu, lease_of, mig_gpu, situation, someone

NODE = "gpu-1"
POLICY = PodPolicy(kai_queue="team-{group}")


def spawned_pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "jupyter-ada",
            "labels": {"component": "singleuser-server", "hub.jupyter.org/username": "ada"},
            "annotations": {"hub.jupyter.org/username": "ada"},
        },
        "spec": {
            "schedulerName": "jhub-user-scheduler",
            "priorityClassName": "jhub-default-priority",
            "runtimeClassName": "nvidia",
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "pool", "operator": "Exists"}]},
                            {"matchExpressions": [{"key": "user", "operator": "Exists"}]},
                        ]
                    }
                }
            },
            "initContainers": [
                {
                    "name": "block-cloud-metadata",
                    "command": ["iptables", "--append", "OUTPUT"],
                    "securityContext": {"privileged": True, "runAsUser": 0},
                }
            ],
            "containers": [
                {
                    "name": "notebook",
                    "env": [
                        {"name": "JUPYTERHUB_USER", "value": "ada"},
                        {"name": "CUDA_VISIBLE_DEVICES", "value": "0,1,2,3"},
                    ],
                    "resources": {
                        "limits": {"cpu": 2.0, "memory": 4294967296},
                        "requests": {"cpu": 0.5},
                    },
                    "securityContext": {"allowPrivilegeEscalation": False},
                    "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}],
                },
                {"name": "sidecar", "image": "metrics"},
            ],
            "volumes": [
                {"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}},
                {"name": "data", "hostPath": {"path": "/mnt/data"}},
                {"name": "shm", "hostPath": {"path": "/dev/shm"}},
            ],
        },
    }


def on_cluster(*gpus: Gpu) -> Inventory:
    return Inventory(gpus, "kubernetes", NOON)


def _four(engine: Engine, offered_as: str, by: BlocksBy | None, *, real: bool) -> Inventory:
    gpus = (blocks_gpu(number, node=NODE, blocks_by=by) for number in range(4))
    return on_cluster(
        *(
            replace(
                gpu,
                engine=engine,
                offered_as=offered_as,
                uuid=gpu.uuid if real else f"{NODE}/{NODE}/gpu-{gpu.index}",
            )
            for gpu in gpus
        )
    )


def _in_turns(replicas: int) -> Inventory:
    gpus = _four(
        Engine.NVIDIA_PLUGIN, "nvidia.com/gpu.shared", BlocksBy.TIME_SLICING, real=False
    ).gpus
    return on_cluster(*(replace(gpu, replica_blocks=100 // replicas) for gpu in gpus))


NVIDIA_DRA, HAMI_DRA = "gpu.nvidia.com", "hami-core-gpu.project-hami.io"

WHOLE_ONLY = {
    "plugin": _four(Engine.NVIDIA_PLUGIN, "nvidia.com/gpu", None, real=False),
    "dra": _four(Engine.DRA_NVIDIA, NVIDIA_DRA, None, real=True),
    "dra-unnamed": _four(Engine.DRA_NVIDIA, NVIDIA_DRA, None, real=False),
}
IN_BLOCKS = {
    "hami": _four(Engine.HAMI, "nvidia.com/gpu", BlocksBy.HAMI, real=True),
    "kai": _four(Engine.KAI, "nvidia.com/gpu", BlocksBy.KAI, real=False),
    "shares": _four(Engine.DRA_NVIDIA, NVIDIA_DRA, BlocksBy.SHARES, real=True),
    "shares-unnamed": _four(Engine.DRA_NVIDIA, NVIDIA_DRA, BlocksBy.SHARES, real=False),
    "dra-hami": _four(Engine.DRA_HAMI, HAMI_DRA, BlocksBy.HAMI, real=True),
}
IN_TURNS = {f"turns-{replicas}": _in_turns(replicas) for replicas in (2, 4, 10, 100)}


def sliced(engine: str, model: str, profile: str) -> Inventory:
    """One GPU with the named profile at its last start; all profiles where they are made."""
    geometry = geometries()[model]
    places = [(profile, geometry.profiles[profile].starts[-1])]
    if engine in ("hami-mig", "dra-made"):
        places = [(p.name, start) for p in geometry.profiles.values() for start in p.starts]
    gpu = replace(mig_gpu(0, *places, model=model, node=NODE), offered_as="nvidia.com/gpu")
    kind, offered_as, real = {
        "mixed": (Engine.NVIDIA_PLUGIN, None, False),
        "single": (Engine.NVIDIA_PLUGIN, "nvidia.com/gpu", False),
        "kai": (Engine.KAI, None, False),
        "dra": (Engine.DRA_NVIDIA, "mig.nvidia.com", True),
        "dra-made": (Engine.DRA_NVIDIA, "mig.nvidia.com", True),
        "hami-mig": (Engine.HAMI_MIG, "nvidia.com/gpu", True),
    }[engine]
    made = engine in ("dra-made", "hami-mig")
    devices = tuple(
        replace(
            device,
            uuid=(
                f"{gpu.uuid}/{device.profile}/{device.start}"
                if made
                else device.uuid
                if real
                else f"{NODE}/{device.profile}/0"
            ),
            offered_as=offered_as or f"nvidia.com/mig-{device.profile.replace('+', '.')}",
        )
        for device in gpu.mig_devices
    )
    uuid = gpu.uuid if real else f"{NODE}/gpu/0"
    return on_cluster(
        replace(gpu, uuid=uuid, engine=kind, mig_devices=devices, makes_instances=made)
    )


def placed(share: Share, inventory: Inventory) -> Placement:
    found = place(share, inventory, situation(inventory).books)
    assert isinstance(found, Placement)
    return found


def lease_on(placement: Placement) -> Lease:
    return lease_of(placement, someone("ada"), "vision", 7)


def marks_on(lease: Lease) -> Marks:
    return marks_of("0123456789abcdef", lease)
