"""Things that reach for a GPU, each as a change of a finished pod, by name.

What profiles, hooks and options have been seen to carry, and what a hostile admin of one of
several hubs could add. Each function changes the pod that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Pod = dict[str, Any]
Change = Callable[[Pod], object]


def notebook(pod: Pod) -> dict[str, Any]:
    return pod["spec"]["containers"][0]


def sidecar(pod: Pod) -> dict[str, Any]:
    return pod["spec"]["containers"][1]


def limit(name: str, quantity: Any = "1", where: Callable[[Pod], dict] = notebook) -> Change:
    def change(pod: Pod) -> None:
        limits = where(pod).setdefault("resources", {}).setdefault("limits", {})
        # One more than the patch asked for, where it asked for some.
        limits[name] = str(int(limits[name]) + 1) if name in limits else quantity

    return change


def variable(name: str, value: str, where: Callable[[Pod], dict] = notebook) -> Change:
    return lambda pod: where(pod).setdefault("env", []).append({"name": name, "value": value})


def meta(kind: str, name: str, value: str = "x") -> Change:
    return lambda pod: pod["metadata"].setdefault(kind, {}).update({name: value})


def in_spec(**fields: Any) -> Change:
    return lambda pod: pod["spec"].update(fields)


def host_path(path: str) -> Change:
    volume = {"name": "extra", "hostPath": {"path": path}}
    return lambda pod: pod["spec"].setdefault("volumes", []).append(volume)


def mount(path: str) -> Change:
    return lambda pod: (
        notebook(pod).setdefault("volumeMounts", []).append({"name": "home", "mountPath": path})
    )


def init_container(**fields: Any) -> Change:
    container = {"name": "fetch", **fields}
    return lambda pod: pod["spec"].setdefault("initContainers", []).append(container)


def from_value(pod: Pod) -> None:
    source = {"configMapKeyRef": {"name": "cuda", "key": "devices"}}
    notebook(pod)["env"].append({"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": source})


RESOURCES = (
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-1g.10gb",
    "nvidia.com/mig-9g.900gb",
    "nvidia.com/gpucores",
    "nvidia.com/gpumem",
    "nvidia.com/priority",
    "amd.com/gpu",
    "gpu.intel.com/i915",
    "habana.ai/gaudi",
    "google.com/tpu",
    "aws.amazon.com/neuroncore",
    "huawei.com/Ascend910",
    "volcano.sh/vgpu-number",
    "aliyun.com/gpu-mem",
    "scheduling.run.ai/accelerator",
    "mig.das.com/mig-1g.5gb",
    "deviceclass.resource.kubernetes.io/gpu.nvidia.com",
)
VARIABLES = (
    ("NVIDIA_VISIBLE_DEVICES", "all"),
    ("NVIDIA_MIG_CONFIG_DEVICES", "all"),
    ("NVIDIA_MIG_MONITOR_DEVICES", "all"),
    ("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"),
    ("CUDA_MPS_SM_PARTITION", "GPU-0/x"),
    ("CUDA_DISABLE_CONTROL", "true"),
    ("CUDA_DEVICE_MEMORY_LIMIT", "80g"),
    ("CUDA_DEVICE_MEMORY_LIMIT_0", "80g"),
    ("CUDA_DEVICE_MEMORY_LIMIT_31", "80g"),
    ("CUDA_DEVICE_SM_LIMIT", "100"),
    ("CUDA_DEVICE_MEMORY_SHARED_CACHE", "/tmp/other.cache"),
    ("CUDA_OVERSUBSCRIBE", "true"),
    ("CUDA_TASK_PRIORITY", "0"),
    ("GPU_CORE_UTILIZATION_POLICY", "disable"),
)
ANNOTATIONS = (
    "gpu-memory",
    "gpu-fraction-num-devices",
    "nvidia.com/nouse-gpuuuid",
    "nvidia.com/use-gputype",
    "hami.io/gpu-scheduler-policy",
    "hami.io/vgpu-devices-allocated",
    "kai.scheduler/preemptibility",
    "runai-gpu-group",
    "runai/shared-gpu-configmap",
    "cdi.k8s.io/gpu",
    "devices.nri.io/container.notebook",
    "io.kubernetes.cri-o.Devices",
)
LABELS = ("runai-gpu-group", "kai.scheduler/subgroup-name", "hami.io/webhook", "nvidia.com/x")
PATHS = (
    "/",
    "/dev",
    "/dev/nvidia0",
    "/dev//nvidiactl",
    "/dev/shm/../nvidia0",
    "/proc",
    "/run",
    "/run/nvidia-mps",
    "/tmp",
    "/tmp/nvidia-mps/",
    "/var/run/nvidia/driver",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/pod-resources",
    "/var",
    "/usr/local/vgpu/containers",
)
MOUNTS = (
    "/etc/ld.so.preload",
    "/overrideEnv",
    "/usr/local/vgpu/x",
    "/var/run/nvidia-container-devices/all",
)

FOREIGN: dict[str, Change] = {
    **{f"limit {name}": limit(name) for name in RESOURCES},
    **{f"sidecar {name}": limit(name, where=sidecar) for name in RESOURCES},
    "limit of 0": limit("nvidia.com/gpupods", 0),
    **{f"env {name}={value}": variable(name, value) for name, value in VARIABLES},
    **{f"sidecar env {n}={v}": variable(n, v, sidecar) for n, v in VARIABLES},
    **{f"annotation {name}": meta("annotations", name) for name in ANNOTATIONS},
    **{f"label {name}": meta("labels", name) for name in LABELS},
    **{f"host path {path}": host_path(path) for path in PATHS},
    **{f"mount {path}": mount(path) for path in MOUNTS},
    "request alone": lambda pod: (
        notebook(pod)["resources"].setdefault("requests", {}).update({"nvidia.com/gpuextra": "1"})
    ),
    "limit of the pod": in_spec(resources={"limits": {"nvidia.com/gpu": "1"}}),
    "overhead": in_spec(overhead={"nvidia.com/gpu": "1"}),
    "init container": init_container(resources={"limits": {"nvidia.com/gpu": "1"}}),
    "sidecar of old": init_container(
        restartPolicy="Always", resources={"requests": {"nvidia.com/gpu": "1"}}
    ),
    "ephemeral container": in_spec(
        ephemeralContainers=[{"name": "debug", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    ),
    "privileged init container": init_container(securityContext={"privileged": True}),
    "privileged in the name of another": init_container(
        name="block-cloud-metadata",
        command=["sh", "-c", "sleep inf"],
        securityContext={"privileged": True},
    ),
    "privileged sidecar in the name of another": init_container(
        name="block-cloud-metadata",
        command=["iptables"],
        restartPolicy="Always",
        securityContext={"privileged": True},
    ),
    "privileged notebook": lambda pod: notebook(pod)["securityContext"].update(privileged=True),
    "variable from elsewhere": from_value,
    "claim": lambda pod: (
        pod["spec"]
        .setdefault("resourceClaims", [])
        .append({"name": "mine", "resourceClaimName": "mine"})
    ),
    "claim of a container": lambda pod: (
        sidecar(pod).setdefault("resources", {}).setdefault("claims", []).append({"name": "gpu"})
    ),
    "node name": in_spec(nodeName="gpu-9"),
    "host processes": in_spec(hostPID=True),
    "host memory": in_spec(hostIPC=True),
    "scheduler run:ai": in_spec(schedulerName="runai-scheduler"),
    "scheduler volcano": in_spec(schedulerName="volcano"),
}

# What looks alike and is nobody's GPU.
HARMLESS: dict[str, Change] = {
    "hugepages": limit("hugepages-2Mi", "64Mi"),
    "fuse": limit("smarter-devices/fuse", 1),
    "input device": limit("example.com/input", 1),
    "annotation": meta("annotations", "prometheus.io/scrape"),
    "kueue's queue": meta("labels", "kueue.x-k8s.io/queue-name"),
    "driver capabilities": variable("NVIDIA_DRIVER_CAPABILITIES", "all"),
    "torch": variable("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
    "preload": variable("LD_PRELOAD", "libjemalloc.so.2"),
    "runtime class": in_spec(runtimeClassName="nvidia"),
    "toleration": in_spec(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    "node selector": in_spec(nodeSelector={"nvidia.com/gpu.product": "NVIDIA-A30"}),
    "home": host_path("/home"),
    "libraries": host_path("/usr"),
    "shared memory": host_path("/dev/shm"),
    "data under tmp": host_path("/tmp/scratch"),
    "mount": mount("/usr/local/share/data"),
    "host network": in_spec(hostNetwork=True),
    "prefixed map": lambda pod: notebook(pod).update(
        envFrom=[{"prefix": "APP_", "configMapRef": {"name": "app"}}]
    ),
    "map of a sidecar": lambda pod: sidecar(pod).update(envFrom=[{"secretRef": {"name": "token"}}]),
}
