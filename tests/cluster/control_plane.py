"""Control plane: a real etcd, API server, scheduler and controller manager on loopback.

``start(folder)`` gives a ControlPlane that is ready for pods; ``close()`` ends what was
started, by its own process handles. Each has its folder, its free ports and its certificates,
so several run side by side. Logs are kept as ``folder/NAME.log``.

RBAC and the node authorizer are on. The admin's token is for the tests' own hands; what the
tests are about talks with a service account's token (``kubeconfig_for``), whose requests are
written to an audit log and can be counted (``requests_of``).

A *program* is one of the four, by its name: "etcd", "kube-apiserver", "kube-scheduler",
"kube-controller-manager". ``stop`` and ``start_program`` take one away and bring it back at
the same address.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.cluster import binaries
from tests.cluster.api_client import ApiClient, ApiError
from tests.cluster.certificates import Authority, write_signing_key

ISSUER = "https://kubernetes.default.svc"
READY_SECONDS = 60.0
# Longer than any test: nodes that are only objects send no heartbeat.
NO_HEARTBEAT_SECONDS = 86_400
ADMIN = "test-admin"

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class StartFailed(Exception):
    """A program ended or did not become ready; the text ends with its log's last lines."""


@dataclass(frozen=True, slots=True)
class AuditedRequest:
    """One request of a service account. ``code`` is the HTTP status."""

    user: str
    verb: str
    resource: str
    name: str
    code: int
    uri: str


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Loaded before any fork: the child of a process with threads may not load a library.
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """For ``preexec_fn``: a test run that is killed must not leave its programs behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class ControlPlane:
    """Four running programs. Made by ``start``.

    ``url`` and ``ca_file`` are for clients; ``admin_token`` may do everything;
    ``kubeconfig`` is a file with both; ``api`` a client as admin.
    """

    def __init__(self, folder: Path, heartbeat_seconds: int = NO_HEARTBEAT_SECONDS) -> None:
        """``heartbeat_seconds``: a node that was silent for so long becomes Unknown."""
        self.folder = folder
        self.heartbeat_seconds = heartbeat_seconds
        self.authority = Authority(folder)
        self.ca_file = self.authority.ca_file
        self.admin_token = secrets.token_hex(16)
        self.ports = {
            name: free_port()
            for name in ("etcd", "etcd-peer", "api", "kube-scheduler", "kube-controller-manager")
        }
        self.url = f"https://127.0.0.1:{self.ports['api']}"
        self.api = ApiClient(self.url, self.admin_token, self.ca_file)
        self.kubeconfig = self._write_kubeconfig("admin", {"token": self.admin_token})
        self._commands = self._prepare()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._namespaces = 0

    # Identities

    def token_for(self, account: str, *, seconds: int = 3600) -> str:
        """A token of the service account "namespace/name", made if it is not there."""
        namespace, name = account.split("/")
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        if self.api.find(f"{accounts}/{name}") is None:
            self.api.post(accounts, {"metadata": {"name": name}})
        asked = {"spec": {"expirationSeconds": seconds}}
        return self.api.post(f"{accounts}/{name}/token", asked)["status"]["token"]

    def client_for(self, account: str) -> ApiClient:
        """A client with that service account's rights and no others."""
        return ApiClient(self.url, self.token_for(account), self.ca_file)

    def kubeconfig_for(self, account: str, *, seconds: int = 3600) -> Path:
        """A kubeconfig file of the service account "namespace/name", its namespace the default.

        The hub of a test gets this one: it may do what its Role says and nothing else.
        """
        namespace, name = account.split("/")
        user = {"token": self.token_for(account, seconds=seconds)}
        return self._write_kubeconfig(f"{namespace}-{name}", user, namespace)

    def node_kubeconfig(self, node: str) -> Path:
        """A kubeconfig file by which a kubelet is the node of this name, and only that."""
        certificate, key = self.authority.client(f"system:node:{node}", ["system:nodes"])
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        return self._write_kubeconfig(f"node-{node}", user)

    # The world

    def namespace(self, prefix: str = "test") -> str:
        """A new namespace whose default service account exists, so that pods are admitted."""
        self._namespaces += 1
        name = f"{prefix}-{self._namespaces}-{secrets.token_hex(2)}"
        self.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        self.api.wait_until(account, bool)
        return name

    def remove_namespace(self, name: str) -> None:
        """End its pods without grace and ask for its deletion; does not wait for the end."""
        with suppress(ApiError):
            self.api.request(
                "DELETE", f"/api/v1/namespaces/{name}/pods", params={"gracePeriodSeconds": 0}
            )
        self.api.delete(f"/api/v1/namespaces/{name}")

    def requests_of(self, account: str) -> list[AuditedRequest]:
        """What the service account "namespace/name" has asked of the API server, in order.

        A watch counts once, when it is opened. Requests without a token of a service account
        (the admin's, a kubelet's) are not recorded.
        """
        user = f"system:serviceaccount:{account.replace('/', ':')}"
        path = self.folder / "audit.log"
        found = []
        for line in path.read_text().splitlines() if path.exists() else ():
            event = json.loads(line)
            watching = event["verb"] == "watch"
            counted = event["stage"] == ("ResponseStarted" if watching else "ResponseComplete")
            if event["user"]["username"] != user or not counted:
                continue
            about = event.get("objectRef", {})
            resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
            found.append(AuditedRequest(
                user, event["verb"], resource, about.get("name", ""),
                event.get("responseStatus", {}).get("code", 0), event["requestURI"],
            ))
        return found

    # Programs

    def start(self) -> None:
        """Start everything and wait until pods would be admitted and scheduled."""
        for name in self._commands:
            self.start_program(name)
        self.api.wait_until("/api/v1/namespaces/default/serviceaccounts/default", bool)

    def start_program(self, name: str) -> None:
        """Start one program and wait until it says that it is ready.

        Raises:
            StartFailed: It ended, or was not ready within READY_SECONDS.
        """
        with self.log_file(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True, preexec_fn=die_with_parent,
            )
        give_up_at = time.monotonic() + READY_SECONDS
        while not self._is_ready(name):
            ended = self._running[name].poll()
            if ended is not None:
                raise StartFailed(f"{name} ended with status {ended}:\n{self.log_tail(name)}")
            if time.monotonic() > give_up_at:
                raise StartFailed(
                    f"{name} was not ready after {READY_SECONDS:.0f} s:\n{self.log_tail(name)}"
                )
            time.sleep(0.05)

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End one program, as a crash would with ``kill``."""
        process = self._running.pop(name, None)
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End what runs, the API server before its etcd. Nothing needs its data again."""
        for name in reversed(list(self._running)):
            self.stop(name, kill=True)
        self.api.session.close()

    def log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log_tail(self, name: str, lines: int = 20) -> str:
        return "\n".join(self.log_file(name).read_text(errors="replace").splitlines()[-lines:])

    def _is_ready(self, name: str) -> bool:
        if name == "etcd":
            return _answers_ok("http", self.ports["etcd"], "/health")
        if name == "kube-apiserver":
            with suppress(requests.RequestException, ApiError):
                return bool(self.api.get("/readyz"))
            return False
        return _answers_ok("https", self.ports[name], "/healthz")

    # Files and command lines

    def _write_kubeconfig(
        self, name: str, user: Mapping[str, str], namespace: str = "default"
    ) -> Path:
        place = self.folder / f"{name}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        context = {"cluster": "test", "user": name, "namespace": namespace}
        place.write_text(json.dumps({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }))
        place.chmod(0o600)
        return place

    def _write_json(self, name: str, content: Any) -> Path:
        place = self.folder / name
        place.write_text(json.dumps(content))
        return place

    def _prepare(self) -> dict[str, list[str]]:
        """Write what the programs read; return their command lines in the order of starting."""
        folder, ports = self.folder, self.ports
        programs = binaries.find_binaries()
        certificate, key = self.authority.server(
            "apiserver", ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1"]
        )
        # How a real kubelet knows who asks it for a pod's log.
        kubelet_certificate, kubelet_key = self.authority.client("kube-apiserver-kubelet-client")
        signing_key = folder / "service-accounts.key"
        write_signing_key(signing_key)
        tokens = folder / "tokens.csv"
        tokens.write_text(f'{self.admin_token},{ADMIN},{ADMIN},"system:masters"\n')
        tokens.chmod(0o600)
        audit = self._write_json("audit-policy.json", _AUDIT_POLICY)
        scheduling = self._write_json("scheduler.json", {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": str(self.kubeconfig), "qps": 1000, "burst": 2000},
            "leaderElection": {"leaderElect": False},
            # A waiting pod is looked at again after at most 2 s, not 10.
            "podMaxBackoffSeconds": 2,
        })
        etcd_url = f"http://127.0.0.1:{ports['etcd']}"
        peer_url = f"http://127.0.0.1:{ports['etcd-peer']}"
        loopback = "--bind-address=127.0.0.1"
        return {
            "etcd": [
                str(binaries.find_etcd()), f"--data-dir={folder / 'etcd'}", "--name=test",
                f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}",
                f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=test={peer_url}", "--unsafe-no-fsync",
                "--log-level=warn", "--logger=zap",
            ],
            "kube-apiserver": [
                str(programs / "kube-apiserver"), f"--etcd-servers={etcd_url}", loopback,
                f"--secure-port={ports['api']}", f"--cert-dir={folder}",
                f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
                f"--client-ca-file={self.ca_file}", f"--token-auth-file={tokens}",
                f"--kubelet-client-certificate={kubelet_certificate}",
                f"--kubelet-client-key={kubelet_key}",
                "--kubelet-preferred-address-types=InternalIP",
                "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
                f"--service-account-issuer={ISSUER}", "--allow-privileged=true",
                f"--service-account-key-file={signing_key}",
                f"--service-account-signing-key-file={signing_key}",
                "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
                f"--audit-policy-file={audit}", f"--audit-log-path={folder / 'audit.log'}",
                # Ends watches soon, so that close() and a stop do not wait for them.
                "--shutdown-delay-duration=0s",
            ],
            "kube-controller-manager": [
                str(programs / "kube-controller-manager"), f"--kubeconfig={self.kubeconfig}",
                loopback, f"--secure-port={ports['kube-controller-manager']}",
                f"--cert-dir={folder / 'kube-controller-manager'}", "--leader-elect=false",
                f"--service-account-private-key-file={signing_key}",
                f"--root-ca-file={self.ca_file}", "--kube-api-qps=1000", "--kube-api-burst=2000",
                f"--node-monitor-grace-period={self.heartbeat_seconds}s",
                # Lost nodes are not dealt with one in ten seconds, but at once.
                "--node-eviction-rate=100", "--secondary-node-eviction-rate=100",
            ],
            "kube-scheduler": [
                str(programs / "kube-scheduler"), f"--config={scheduling}", loopback,
                f"--secure-port={ports['kube-scheduler']}",
                f"--cert-dir={folder / 'kube-scheduler'}",
            ],
        }


def _answers_ok(scheme: str, port: int, path: str) -> bool:
    """Whether a program on loopback answers 200. Its certificate is its own and not looked at."""
    if scheme == "https":
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        there = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=unverified)
    else:
        there = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        there.request("GET", path)
        return there.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        there.close()


def start(folder: Path, *, heartbeat_seconds: int = NO_HEARTBEAT_SECONDS) -> ControlPlane:
    """A running control plane in ``folder``, which must exist and be empty.

    Call from a thread that lives as long as the cluster is wanted: the kernel ends the
    programs with the thread that started them.

    Raises:
        binaries.CannotBuild: A program cannot be had.
        StartFailed: One does not start.
    """
    os.chmod(folder, 0o700)
    for tries_left in (2, 1, 0):
        cluster = ControlPlane(folder, heartbeat_seconds)
        try:
            cluster.start()
        except BaseException as failure:
            cluster.close()
            # Somebody else may take a free port between our looking and our listening.
            if not tries_left or "address already in use" not in str(failure):
                raise
            shutil.rmtree(folder / "etcd", ignore_errors=True)
        else:
            break
    return cluster
