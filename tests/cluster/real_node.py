"""A real node: containerd, runc, CNI and the pinned kubelet, at a test's control plane.

    node = start(cluster, folder)      Ready, with the images of tests/cluster/images.py
    node.offer_gpus(scenario)          a device plugin hands out the scenario's devices
    node.offer_claims(shape)           or a DRA driver prepares claims on the shape's cards
    node.close()                       everything is gone

containerd, kubelet and all containers live in one pid namespace with mounts of its own.
Ending its first process, kept by its handle, ends them all, and their mounts with them: also
when this process is killed. The bridge and the cgroups, which a namespace does not take along,
are removed by ``close``; the folder stays for its logs. ``leftovers`` looks for each.

No pytest here; tests/fixtures/real_node.py is for tests.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.cluster import binaries, dra_devices, images, node_files
from tests.cluster.api_client import ApiError, Json
from tests.cluster.control_plane import ControlPlane, free_port
from tests.cluster.node_files import CNI_PLUGINS, NodePlan
from tests.cluster.node_shapes import Kind, NodeShape
from tests.cluster.object_nodes import CLASSES, SLICES
from tests.cluster.offered_devices import devices_of
from tests.cluster.shape_scenario import scenario_of
from tests.nvml_standin import library

READY_SECONDS = 60.0
# A socket's path is at most 107 characters, and the longest name here has 63.
LONGEST_FOLDER = 44
CGROUPS = Path("/sys/fs/cgroup")
# A killed run must not leave a node behind: the kernel ends these with their parent's thread.
_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
_PROGRAMS = {
    "containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2",
    "unshare": "util-linux", "setpriv": "util-linux", "mount": "mount",
}  # fmt: skip


class CannotRun(Exception):
    """This machine cannot have a real node; the text is one sentence with the remedy."""


class NodeFailed(Exception):
    """The node did not start; the text ends with its logs' last lines."""


def check_machine() -> None:
    """Whether the programs, the rights and the kernel's features are here.

    Raises:
        CannotRun: Something is missing. Fixtures skip with its text.
    """
    if os.geteuid() != 0:
        raise CannotRun("A real node needs root (namespaces, mounts, a bridge): run as root.")
    needed = [(shutil.which(name), package) for name, package in _PROGRAMS.items()]
    needed += [
        (CNI_PLUGINS.joinpath("bridge").exists(), "containernetworking-plugins"),
        (images.BUSYBOX.exists(), "busybox-static"),
    ]
    if missing := sorted({package for found, package in needed if not found}):
        names = " ".join(missing)
        raise CannotRun(f"A real node needs {names}: install with `apt-get install {names}`.")
    for what, command in (
        ("pid and mount namespaces", ["unshare", "--mount", "--pid", "--fork", "true"]),
        ("network namespaces", ["unshare", "--net", "true"]),
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CannotRun(
                f"This kernel or container does not allow {what} ({done.stderr.strip()}): "
                "run the tests in a virtual machine, or a privileged container."
            )


class RealNode:
    """One node that is registered and Ready. Made by ``start``.

    ``address`` is how pods reach servers on this machine that listen on 0.0.0.0;
    ``seconds`` tells how long each part of the start took.
    """

    def __init__(self, cluster: ControlPlane, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.name = f"real-{secrets.token_hex(3)}"
        self.path = f"/api/v1/nodes/{self.name}"
        self.seconds: dict[str, float] = {}
        self.plan: NodePlan | None = None
        self._began = time.monotonic()
        self._node: subprocess.Popen[bytes] | None = None
        self._plugin: subprocess.Popen[bytes] | None = None
        self._published: list[str] = []
        self._forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()

    @property
    def address(self) -> str:
        assert self.plan is not None
        return self.plan.address

    @property
    def scenario(self) -> Path:
        """The machine's GPUs, to be changed while it runs (by replacing the file)."""
        return self.folder / "machine" / "scenario.txt"

    # Start

    def start(self) -> None:
        """Start everything and wait until pods would be scheduled here.

        Raises:
            CannotRun: The kernel lacks bridges, no subnet is free, or the folder's path is long.
            NodeFailed: A program ended, or the node was not Ready in READY_SECONDS.
        """
        if len(str(self.folder)) > LONGEST_FOLDER:
            raise CannotRun(
                f"Sockets in {self.folder} would have too long names: set TMPDIR to a folder "
                "with a short name."
            )
        for name in ("cni", "kubelet/device-plugins", "run", "machine"):
            (self.folder / name).mkdir(parents=True)
        self.plan = plan = self._take_network()
        archives = images.write_images(self.folder)
        kubelet = binaries.find_binaries() / "kubelet"
        kubeconfig = self.cluster.node_kubeconfig(self.name)
        for name, text in (
            ("base-spec.json", node_files.base_spec()),
            ("containerd.toml", node_files.containerd_config(plan)),
            ("runc", node_files.runtime_script(plan)),
            ("cni/10-test.conflist", node_files.cni_config(plan)),
            ("kubelet.json", node_files.kubelet_config(plan, self.cluster.ca_file)),
            # No name server: a name that is not in /etc/hosts fails at once.
            ("resolv.conf", ""),
            ("start.sh", node_files.start_script(plan, kubelet, kubeconfig, archives)),
        ):
            (self.folder / name).write_text(text)
        (self.folder / "runc").chmod(0o755)
        self._time("files and bridge")
        self._node = self._run("start", [
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            "/bin/sh", str(self.folder / "start.sh"),
        ])  # fmt: skip
        self._wait("containerd", (self.folder / "containerd-answers").exists)
        self._wait("images", (self.folder / "images-are-there").exists)
        self._wait("registered", lambda: self.cluster.api.find(self.path) is not None)
        self._wait("ready", self.is_ready)

    def is_ready(self) -> bool:
        """Whether the node says so and the scheduler may use it."""
        node = self.cluster.api.find(self.path) or {}
        conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def _take_network(self) -> NodePlan:
        """Make a bridge. Its name takes the subnet too: the kernel refuses a second of a name."""
        routes = _ip("-4", "route", "show", "table", "all")
        for number in random.sample(range(1, 250), 249):
            subnet, bridge = f"10.213.{number}", f"aliquot{number}"
            if f"{subnet}." in routes:
                continue
            try:
                _ip("link", "add", bridge, "type", "bridge")
            except subprocess.CalledProcessError as error:
                if "File exists" in error.stderr:
                    continue
                raise CannotRun(
                    f"This kernel makes no bridge ({error.stderr.strip()}): load its module, "
                    "or run the tests in a virtual machine."
                ) from error
            plan = NodePlan(self.name, self.folder, bridge, subnet, free_port(), free_port())
            self.plan = plan  # from here on, close() removes it
            _ip("addr", "add", f"{plan.address}/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            return plan
        raise CannotRun("No subnet of 10.213.1.0 to 10.213.249.0 is free: remove old bridges.")

    def _run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*_WITH_PARENT, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=images.ROOT,
                start_new_session=True,
            )  # fmt: skip

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + READY_SECONDS
        while not holds():
            for process in (self._node, self._plugin):
                if process is not None and process.poll() is not None:
                    raise NodeFailed(
                        f"{self.name} ended before '{what}' with status {process.returncode}."
                        f"\n{self.log_tails()}"
                    )
            if time.monotonic() > give_up_at:
                raise NodeFailed(
                    f"{self.name}: no '{what}' after {READY_SECONDS:.0f} s.\n{self.log_tails()}"
                )
            time.sleep(0.05)
        self._time(what)

    def _time(self, what: str) -> None:
        self.seconds[what] = time.monotonic() - self._began
        self._began = time.monotonic()

    # GPUs

    def become(self, shape: NodeShape) -> Json:
        """Take the labels and the devices of a shape of NVIDIA's device plugin, and return the
        node. UUIDs are ``gpu_models.mig_uuid(node.name, …)`` and the like.

        Raises:
            ValueError: The shape is of another engine.
        """
        scenario = scenario_of(shape, self.name)
        self.cluster.api.patch(self.path, {"metadata": {"labels": shape.labels()}})
        single = shape.kind is Kind.PLUGIN_MIG_SINGLE
        return self.offer_gpus(scenario, single=single, replicas=shape.replicas)

    def offer_gpus(self, scenario: str, *, single: bool = False, replicas: int = 1) -> Json:
        """Hand out the devices of an NVML scenario (its text); returns the node once it shows
        them all as allocatable. See ``devices_of`` for ``single`` and ``replicas``."""
        self._stop_plugin()
        library.build()
        self._began = time.monotonic()
        self.change_gpus(scenario)
        options = ["--single"] * single + [f"--replicas={replicas}"] * (replicas > 1)
        self._plugin = self._run("device-plugin", [
            sys.executable, "-m", "tests.cluster.device_plugin",
            str(self.folder / "kubelet" / "device-plugins"), str(self.scenario), *options,
        ])  # fmt: skip
        offered = devices_of(scenario, single=single, replicas=replicas)
        wanted = {resource: len(ids) for resource, ids in offered.items()}
        # What an earlier plugin offered stays in the node's status for a while, with 0.
        self._wait("GPUs", lambda: _same_but_for_zeros(self.gpus(), wanted))
        return self.cluster.api.get(self.path)

    def offer_claims(self, shape: NodeShape) -> None:
        """Give out the cards of a shape of HAMi's DRA driver by claims (see dra_plugin.py)."""
        self._stop_plugin()
        library.build()
        self._began = time.monotonic()
        self.change_gpus(scenario_of(shape, self.name))
        (self.folder / "claims").mkdir(exist_ok=True)
        (self.folder / "claims" / "registered").unlink(missing_ok=True)
        kubeconfig = self.cluster.node_kubeconfig(self.name)
        self._plugin = self._run("dra-plugin", [
            sys.executable, "-m", "tests.cluster.dra_plugin", str(self.folder), str(kubeconfig),
        ])  # fmt: skip
        self._wait("claims", (self.folder / "claims" / "registered").exists)
        # Only now: a kubelet removes what is published for a driver that it does not know.
        self._publish(CLASSES, dra_devices.device_classes())
        self._publish(SLICES, shape.slices(self.name))

    def _publish(self, path: str, objects: list[Json]) -> None:
        for made in objects:
            place = f"{path}/{made['metadata']['name']}"
            if self.cluster.api.find(place) is None:
                self.cluster.api.post(path, made)
                self._published.append(place)

    def change_gpus(self, scenario: str) -> None:
        """Replace the scenario at once; containers see it at their next call of NVML."""
        fresh = self.scenario.with_suffix(".fresh")
        fresh.write_text(scenario, "utf-8")
        fresh.replace(self.scenario)

    def gpus(self) -> dict[str, int]:
        """What the node offers now: allocatable devices by resource."""
        status = self.cluster.api.get(self.path)["status"]
        found = status.get("allocatable", {}).items()
        return {name: int(count) for name, count in found if name.startswith("nvidia.com/")}

    def report_unhealthy(self, *uuids: str) -> None:
        """The device plugin says Unhealthy of these devices, and Healthy of all others."""
        fresh = self.folder / "machine" / "unhealthy.fresh"
        fresh.write_text("\n".join(uuids))
        fresh.replace(self.folder / "machine" / "unhealthy")

    def _stop_plugin(self) -> None:
        if self._plugin is None:
            return
        self._plugin.terminate()
        try:
            self._plugin.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._plugin.kill()
            self._plugin.wait()
        self._plugin = None

    # Pods

    def pod_log(self, namespace: str, pod: str, container: str = "notebook") -> str:
        """What a container wrote, through the API server and the kubelet.

        Raises:
            ApiError: There is no log (yet).
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        answer = self.cluster.api.session.get(
            self.cluster.url + path, params={"container": container}, timeout=30
        )
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, "", answer.text[:600])
        return answer.text

    # End

    def close(self) -> None:
        """End everything and remove what a namespace does not take along. May be repeated."""
        self._stop_plugin()
        if self._node is not None:
            _end_namespace(self._node)
        for place in (*self._published, self.path):
            with suppress(Exception):
                self.cluster.api.delete(place)
        if self.plan is None:
            return
        if Path("/sys/class/net", self.plan.bridge).exists():
            _ip("link", "del", self.plan.bridge)
        for folder in _cgroups_of(self.folder):
            with suppress(OSError):
                folder.rmdir()
        # The bridge plugin turns forwarding on for the whole machine.
        Path("/proc/sys/net/ipv4/ip_forward").write_text(self._forwarding)

    def leftovers(self) -> list[str]:
        """What still exists of a closed node, in words; empty when all is gone.

        Looks at processes, mounts, network devices and cgroups. Network namespaces are held
        by processes and mounts only, so none outlives those.
        """
        assert self.plan is not None
        found = [str(folder) for folder in _cgroups_of(self.folder)]
        found += [f"mount {m}" for m in _mounts() if str(self.folder) in m]
        links = _ip("-o", "link")
        # Ends of veth pairs say which bridge they were on, in the line of each.
        found += [line for line in links.splitlines() if self.plan.bridge in line]
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if str(self.folder) in words and process.pid != os.getpid():
                found.append(f"process {process.pid} {words[:120]}")
        return found

    def log_tails(self, lines: int = 15) -> str:
        """The end of each log."""
        parts = []
        for place in sorted(self.folder.glob("*.log")):
            tail = place.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {place.name}", *(line[:600] for line in tail)]))
        return "\n".join(parts)


def start(cluster: ControlPlane, folder: Path) -> RealNode:
    """A node that is Ready, in ``folder``, which must exist and be empty.

    Call from a thread that lives as long as the node is wanted.

    Raises:
        CannotRun: This machine lacks something.
        NodeFailed: It does not start.
    """
    check_machine()
    node = RealNode(cluster, folder)
    try:
        node.start()
    except BaseException:
        node.close()
        raise
    return node


def _same_but_for_zeros(seen: dict[str, int], wanted: dict[str, int]) -> bool:
    others = {count for resource, count in seen.items() if resource not in wanted}
    return others <= {0} and wanted.items() <= seen.items()


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _cgroups_of(node: Path) -> Iterator[Path]:
    """Cgroups of the node's containers, in every hierarchy, the innermost first.

    containerd names them by the container, as it does the folders of what it runs; of a
    container that was killed with its runtime both stay.
    """
    roots = {p.resolve() for p in (CGROUPS, *CGROUPS.iterdir()) if p.is_dir()}
    for container in node.glob("state/io.containerd.runtime.v2.task/k8s.io/*"):
        for root in roots:
            top = root / "k8s.io" / container.name
            if top.is_dir():
                yield from sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True)
                yield top


def _end_namespace(unshare: subprocess.Popen[bytes]) -> None:
    """Kill process 1 of the namespace. The kernel then kills all others, and lets it be waited
    for only when they are gone."""
    with suppress(psutil.NoSuchProcess):
        for first in psutil.Process(unshare.pid).children():
            first.kill()
    try:
        unshare.wait(timeout=20)
    except subprocess.TimeoutExpired:
        unshare.kill()
        unshare.wait()
