"""What a real node's programs read: configuration of containerd, CNI and kubelet, as text.

Pure, but for ``base_spec``, which asks `ctr` for its default. Every place is in the node's
own folder; every reason why a line is there stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import images

CNI_PLUGINS = Path("/usr/lib/cni")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What tells one node from another. ``subnet`` is its three first numbers, "10.213.7"."""

    name: str
    folder: Path
    bridge: str
    subnet: str
    kubelet_port: int
    health_port: int

    @property
    def address(self) -> str:
        """The bridge's address: the node's own, and the gateway of its pods."""
        return f"{self.subnet}.1"

    @property
    def containerd_socket(self) -> Path:
        return self.folder / "containerd.sock"


def base_spec() -> str:
    """The OCI specification that every container begins with: the default, and the machine's
    programs mounted read-only (see ``images.machine_mounts``)."""
    done = subprocess.run(["ctr", "oci", "spec"], capture_output=True, text=True, check=True)
    spec = json.loads(done.stdout)
    spec["mounts"] += [
        {
            "destination": path,
            "type": "bind",
            "source": path,
            "options": ["rbind", "ro", "rprivate"],
        }
        for path in images.machine_mounts()
    ]
    return json.dumps(spec)


def containerd_config(plan: NodePlan) -> str:
    folder = plan.folder
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    unused = [f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "zfs")]
    unused += ["io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
    unused += ["io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
    return f"""
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
disabled_plugins = {json.dumps(unused)}
[grpc]
  address = "{plan.containerd_socket}"
[{cri}]
  sandbox_image = "{images.PAUSE}"
  # CAP_SYS_RESOURCE may be missing; without this: "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  disable_apparmor = true
  # Else files of ended network namespaces would stay in /var/run/netns.
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [{cri}.cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{folder}/cni"
  [{cri}.containerd]
    # The images are a few kB, so copying them is as fast as laying them over each other.
    snapshotter = "native"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "{folder}/base-spec.json"
      [{cri}.containerd.runtimes.runc.options]
        # This containerd knows no CDI: what a claim's device adds comes by the runtime.
        BinaryName = "{folder}/runc"
"""


def runtime_script(plan: NodePlan) -> str:
    """runc, with what was prepared for a pod's claims put into its containers first."""
    edits = Path(__file__).with_name("claim_edits.py")
    claims = plan.folder / "claims"
    return f"""#!/bin/sh
case " $* " in
  *" create "*) [ ! -d {claims} ] || {sys.executable} -I {edits} {claims} "$@" || exit 1 ;;
esac
exec runc "$@"
"""


def cni_config(plan: NodePlan) -> str:
    """Pods get addresses behind the node's bridge, and reach the machine at ``plan.address``."""
    return json.dumps({
        "cniVersion": "0.4.0",
        "name": plan.bridge,
        "plugins": [{
            "type": "bridge",
            "bridge": plan.bridge,
            "isGateway": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": str(plan.folder / "addresses"),
                "ranges": [[{"subnet": f"{plan.subnet}.0/24", "gateway": plan.address}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })  # fmt: skip


def kubelet_config(plan: NodePlan, ca_file: Path) -> str:
    folder = plan.folder
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{plan.containerd_socket}",
        "podLogsDir": str(folder / "pod-logs"),
        "staticPodPath": "",
        "volumePluginDir": str(folder / "volume-plugins"),
        "resolvConf": str(folder / "resolv.conf"),
        # Asked for logs and exec by the API server, which shows a certificate of this authority.
        "address": plan.address,
        "port": plan.kubelet_port,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": plan.health_port,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(ca_file)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        # This kernel and its cgroups: version 1 is tolerated, nothing of the node is limited.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        # A full disk of the machine is no reason to end a test's pods or remove its images.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        # Tests wait for what a cluster's admin would not.
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "5s",
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "registryPullQPS": 0,
        "serializeImagePulls": False,
    }
    return json.dumps(config)


def start_script(plan: NodePlan, kubelet: Path, kubeconfig: Path, archives: list[Path]) -> str:
    """What process 1 of the node's namespaces runs: containerd, then kubelet.

    The mounts are the namespace's own. The kubelet listens for device plugins in
    /var/lib/kubelet/device-plugins whatever its root is (devicemanager/manager.go), and
    containerd's shims use /run/containerd; here both are in the node's folder.
    """
    folder = plan.folder
    ctr = f"ctr --address {plan.containerd_socket} --namespace k8s.io"
    imports = "\n".join(f"{ctr} images import --snapshotter native {a}" for a in archives)
    return f"""
set -e
cd {folder}
mkdir -p /var/lib/kubelet /run/containerd
mount --bind {folder}/kubelet /var/lib/kubelet
mount --bind {folder}/run /run/containerd
containerd --config {folder}/containerd.toml --log-level info >{folder}/containerd.log 2>&1 &
containerd=$!
until {ctr} version >{folder}/start.log 2>&1; do
  kill -0 $containerd
  sleep 0.05
done
: >{folder}/containerd-answers
({imports}
) >{folder}/start.log 2>&1
: >{folder}/images-are-there
{kubelet} --config={folder}/kubelet.json --kubeconfig={kubeconfig} \
  --root-dir={folder}/kubelet --cert-dir={folder}/certificates \
  --hostname-override={plan.name} --node-ip={plan.address} >{folder}/kubelet.log 2>&1 &
wait
"""
