"""`make demo-kubernetes`: a real cluster on this machine, and a real Hub that gives out its GPUs.

    python -m tests.cluster.demo [--check]

Everything is real but the GPUs: API server, scheduler, controller manager, kubelet, containers,
Hub, proxy, JupyterLab. The cards are the NVML stand-in of the tests. Runs until Ctrl-C or
SIGTERM; ``--check`` makes the whole trip over HTTP instead (demo_trip.py) and ends.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aliquot.cli.trip import TripFailed
from tests.cluster import binaries, control_plane, real_node
from tests.cluster.control_plane import ControlPlane
from tests.cluster.demo_trip import GROUPS, PROFILES, KubernetesTrip
from tests.cluster.gpu_models import H100_80
from tests.cluster.node_shapes import SHAPES, Kind, NodeShape
from tests.cluster.pod_hub import PodHub, start_pod_hub
from tests.cluster.real_node import RealNode
from tests.fixtures.hub import hub_factory

PASSWORD = "aliquot"
ONE_H100 = NodeShape("dra-hami-h100-80", Kind.DRA_HAMI, "One H100 by claims.", H100_80, 1)
_MORE = f"""
c.DummyAuthenticator.password = {PASSWORD!r}
c.KubeSpawner.profile_list = {PROFILES!r}
"""
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILURES = (
    binaries.CannotBuild, control_plane.StartFailed, real_node.CannotRun, real_node.NodeFailed,
    TripFailed, pytest.fail.Exception,
)  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make demo-kubernetes")
    arguments.add_argument("--check", action="store_true", help="make the whole trip and end")
    given = arguments.parse_args()
    # A shell starts background jobs with SIGINT ignored, which a Hub would inherit.
    for number in _ENDS:
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="aliquot-demo-"))
    status = 0
    try:
        with ExitStack() as ending:
            try:
                _run(folder, ending, check=given.check)
            finally:
                # A second Ctrl-C must not leave a node behind.
                for number in _ENDS:
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        _say("Hub, notebooks, nodes and control plane have ended.")
    except _FAILURES as failure:
        began = any(folder.iterdir())
        logs = f" Logs are kept in {folder}" if began else ""
        print(f"demo-kubernetes: {failure}{logs}", file=sys.stderr)
        status = 1
        if began:
            return status
    shutil.rmtree(folder, ignore_errors=True)
    return status


def _run(folder: Path, ending: ExitStack, *, check: bool) -> None:
    began = time.monotonic()
    # Asked first: the Go build takes minutes, and would be for nothing.
    real_node.check_machine()
    with _told("programs of Kubernetes"):
        binaries.find_etcd()
        binaries.find_binaries()
    with _told("control plane: etcd, API server, scheduler, controller manager"):
        cluster = control_plane.start(_made(folder / "cluster"))
    ending.callback(cluster.close)
    # Two nodes: one engine hands out a node's GPUs.
    slices = _node(cluster, folder / "slices", ending)
    with _told(f"node {slices.name}: one A100 as seven 1g.10gb, by a device plugin"):
        slices.become(SHAPES["plugin-mig-a100-80"])
    claims = _node(cluster, folder / "claims", ending)
    with _told(f"node {claims.name}: one H100 in blocks, by HAMi's DRA driver"):
        claims.offer_claims(ONE_H100)
    with _told("Hub with the shipped rights, outside of the cluster"):
        hubs = hub_factory(_made(folder / "hub"))
        start_hub = next(hubs)
        ending.callback(hubs.close)
        here = start_pod_hub(start_hub, slices, GROUPS, folder / "hub", _MORE)
        here.hub.wait_for_service()
    _greet(here, time.monotonic() - began)
    if check:
        KubernetesTrip(here, PASSWORD, _say).run()
    else:
        while here.hub.is_running:
            time.sleep(0.5)
        raise TripFailed("The Hub ended by itself.")


def _node(cluster: ControlPlane, folder: Path, ending: ExitStack) -> RealNode:
    with _told("a node: containerd and kubelet"):
        node = real_node.start(cluster, _made(folder))
    ending.callback(node.close)
    return node


def _greet(here: PodHub, seconds: float) -> None:
    _say(f"Aliquot on Kubernetes is ready after {seconds:.0f} s at {here.hub.url}")
    for group, users in GROUPS.items():
        _say(f"  group {group}: {', '.join(users)}")
    _say("  administrator: admin")
    _say(f"  the password of all of them: {PASSWORD}")
    _say(f"  export KUBECONFIG={here.cluster.kubeconfig}  (namespace {here.namespace})")
    _say("  the GPUs are stand-ins: notebooks see them, and nothing can compute on them")
    _say("Stop with Ctrl-C.")


@contextmanager
def _told(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    _say(f"{time.monotonic() - began:6.2f} s  {what}")


def _say(line: str) -> None:
    print(line, flush=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
