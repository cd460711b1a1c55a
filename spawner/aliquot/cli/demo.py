"""``aliquot demo``: a whole Hub on this machine, with users, groups and quotas.

Everything is real but the GPUs, where the machine has none: JupyterHub on loopback, its
proxy, SQLite, notebooks as processes. The demo keeps its files in one folder, so a second
start finds the same users and books; ``--fresh`` forgets them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import requests

from aliquot.allocator import Allocator
from aliquot.cli.trip import Trip, TripFailed
from aliquot.domain.currency import ONE_GPU
from aliquot.domain.inventory import Inventory
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.settings import Settings

ENVIRONMENT = "ALIQUOT_DEMO"
GROUPS = {"vision": ["ada", "lin"], "nlp": ["grace", "lin"]}
ADMIN = "manager"
PASSWORD = "aliquot"
_READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """What the Hub's configuration needs to know; travels as JSON in the environment."""

    folder: str
    port: int
    hub_port: int
    proxy_port: int
    gpu_source: str


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")) / "aliquot-demo",
    help="Where the demo keeps its files.",
)
@click.option("--port", default=0, help="Port of the address; 0 takes 8000 if it is free.")
@click.option("--fresh", is_flag=True, help="Forget users' files and books of earlier runs.")
@click.option("--check", is_flag=True, help="Make the whole trip, print each step, and end.")
@click.option(
    "--gpus",
    type=click.Choice(["auto", "nvml", "simulated"]),
    default="auto",
    help="auto: NVIDIA GPUs where there are some, else simulated ones.",
)
def demo(folder: Path, port: int, fresh: bool, check: bool, gpus: str) -> None:
    """Run a Hub that shares GPUs on this machine, until Ctrl-C."""
    # A shell starts background jobs with SIGINT ignored, which the Hub and its notebooks would
    # inherit: each stop would then wait until it is asked in another way.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A request to end, as from a closing terminal, stops the Hub too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folder = folder.expanduser().absolute()
    if fresh or check:
        shutil.rmtree(folder / "hub", ignore_errors=True)
    hub_folder = folder / "hub"
    (hub_folder / "home").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    source, machine = _machine(gpus)
    facts = _facts(hub_folder, port, source)
    settings = Settings(database_url=f"sqlite:///{hub_folder}/aliquot.sqlite", gpu_source=source)
    _seed(Allocator.from_settings(settings), machine)
    hub = _start(facts, hub_folder / "hub.log")
    address = f"http://127.0.0.1:{facts.port}/"
    try:
        _wait(hub, address, hub_folder / "hub.log")
        _greet(address, machine, time.monotonic() - began)
        if check:
            Trip(address, PASSWORD, click.echo).run()
        elif status := hub.wait():
            raise click.ClickException(
                f"The Hub ended by itself, with status {status}. Its log: {hub_folder / 'hub.log'}"
            )
    except KeyboardInterrupt:
        click.echo("\nStopping the Hub and its notebooks.")
    except TripFailed as error:
        raise click.ClickException(f"{error} The Hub's log: {hub_folder / 'hub.log'}") from error
    finally:
        _stop(hub)


def _facts(hub_folder: Path, port: int, source: str) -> DemoFacts:
    """The ports of the last run where there was one: its notebooks may still be running, and
    know the Hub by them. The Hub itself ends a proxy that a killed one has left."""
    kept = hub_folder / "ports.json"
    ports = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    address = f"http://127.0.0.1:{ports.get('port')}/"
    if ports and _answers(f"{address}hub/health"):
        raise click.ClickException(f"A demo of this folder is running already, at {address}")
    if not ports or port not in (0, ports["port"]):
        ports = {"port": port or _port(8000), "hub_port": _port(), "proxy_port": _port()}
        kept.write_text(json.dumps(ports), "utf-8")
    return DemoFacts(folder=str(hub_folder), gpu_source=source, **ports)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def _machine(gpus: str) -> tuple[str, Inventory]:
    """Which source to use, and what it shows."""
    if gpus != "simulated":
        found = Allocator.from_settings(Settings(gpu_source="auto")).inventory()
        if isinstance(found, Inventory) and found.gpus:
            return "nvml", found
        if gpus == "nvml":
            why = " ".join(found.notes) if isinstance(found, Inventory) else found.why
            raise click.ClickException(f"{why} Start with --gpus simulated to look around.")
    found = Allocator.from_settings(Settings(gpu_source="simulated")).inventory()
    if not isinstance(found, Inventory):
        raise click.ClickException(found.why)
    return "simulated", found


def _seed(allocator: Allocator, machine: Inventory) -> None:
    """Two groups under one root, each with half of the machine, on the first run."""
    if allocator.store.ledger().tree.groups:
        return
    whole = ONE_GPU * len(machine.gpus)
    half = Quota(nominal=type(whole)(whole.compute // 2, whole.memory // 2))
    groups = [ResourceGroup("lab", Quota(nominal=whole))]
    groups += [ResourceGroup(name, half, parent="lab") for name in GROUPS]
    allocator.store.save_groups(groups, {}, actor="demo", why="first run")


def _start(facts: DemoFacts, log_path: Path) -> subprocess.Popen[bytes]:
    binaries = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        ENVIRONMENT: json.dumps(asdict(facts)),
        "PATH": os.pathsep.join([binaries, os.environ.get("PATH", "")]),
    }
    config = Path(__file__).with_name("demo_config.py")
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(config)],
            cwd=facts.folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(hub: subprocess.Popen[bytes], address: str, log_path: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if hub.poll() is not None:
            tail = "\n".join(log_path.read_text("utf-8", "replace").splitlines()[-5:])
            raise click.ClickException(f"The Hub ended while starting. Its log says:\n{tail}")
        if _answers(f"{address}hub/health"):
            return
        time.sleep(0.1)
    raise click.ClickException(f"The Hub was not ready after {_READY_SECONDS} s. See {log_path}.")


def _greet(address: str, machine: Inventory, seconds: float) -> None:
    kind = "simulated GPUs" if machine.simulated else "GPUs"
    click.echo(f"Aliquot is ready after {seconds:.0f} s at {address}")
    models = ", ".join(
        f"{sum(gpu.model == model for gpu in machine.gpus)} x {model}" for model in machine.models
    )
    click.echo(f"  {kind}: {models}")
    for group, users in GROUPS.items():
        click.echo(f"  group {group}: {', '.join(users)}")
    click.echo(f"  administrator: {ADMIN}")
    click.echo(f"  the password of all of them: {PASSWORD}")
    click.echo("Stop with Ctrl-C.")


def _stop(hub: subprocess.Popen[bytes]) -> None:
    """Ask the Hub to end with its notebooks, proxy and service; insist after 30 seconds."""
    if hub.poll() is not None:
        return
    hub.send_signal(signal.SIGTERM)
    try:
        hub.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(hub.pid, signal.SIGKILL)
        hub.wait()


def _port(preferred: int = 0) -> int:
    for port in (preferred, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return listener.getsockname()[1]
    raise click.ClickException("No free port on 127.0.0.1.")
