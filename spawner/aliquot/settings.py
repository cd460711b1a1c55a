"""Settings: the facts of a deployment, set once by its admin.

``Aliquot`` holds the traits (``c.Aliquot.…`` in ``jupyterhub_config.py``); ``Settings`` is
their frozen value, which the hub's spawners, the service and the command line share. The
service is another process, so it gets the value as JSON in ``ALIQUOT_SETTINGS``.

Groups, quotas and sizes are not here: they belong to admins at run time, in the database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Config, Configurable

from aliquot.bindings.pods import PodPolicy
from aliquot.domain.engines import Engine

ENVIRONMENT = "ALIQUOT_SETTINGS"


@dataclass(frozen=True)
class Settings:
    """See the trait of the same name for what each means."""

    database_url: str = "sqlite:///aliquot.sqlite"
    gpu_source: str = "auto"
    simulated_machine: str = ""
    allow_advisory_blocks: bool = False
    mps_pipe_directory: str = "/tmp/nvidia-mps"
    database_wait_seconds: float = 5.0
    inventory_max_age_seconds: float = 2.0
    service_url: str = ""
    reconcile_seconds: float = 60.0
    binding: str = "auto"
    strict_compute: bool = False
    hami_scheduler: str = PodPolicy.hami_scheduler
    kai_scheduler: str = PodPolicy.kai_scheduler
    kai_queue: str = PodPolicy.kai_queue
    kai_priority_class: str = PodPolicy.kai_priority_class

    @property
    def pod_policy(self) -> PodPolicy:
        names = PodPolicy.__dataclass_fields__
        return PodPolicy(**{name: getattr(self, name) for name in names})

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """What the hub told its service. Raises KeyError outside of a service."""
        return cls(**json.loads(environ[ENVIRONMENT]))


class Aliquot(Configurable):
    """GPU sharing: where the books are and where GPUs are looked for."""

    database_url = Unicode(
        Settings.database_url,
        help="""
        Where the ledger is kept, as a SQLAlchemy URL.

        SQLite on a local volume is right for one hub; network file systems lose its locks.
        For more, PostgreSQL: ``postgresql+psycopg://user:password@host/aliquot``. It is not
        the Hub's own database. The schema is made and upgraded at start.
        """,
    ).tag(config=True)

    gpu_source = Enum(
        ["auto", "nvml", "simulated", "kubernetes"],
        "auto",
        help="""
        Where the inventory of GPUs comes from.

        ``nvml`` asks NVIDIA's driver on this machine. ``simulated`` reads a file that
        describes a machine that does not exist; every page says so. ``auto`` is ``nvml``; a
        machine without a driver then has no GPUs, and notebooks start without.
        ``kubernetes`` watches the nodes and pods of the cluster that the hub runs in, or that
        ``KUBECONFIG`` names.
        """,
    ).tag(config=True)

    simulated_machine = Unicode(
        "",
        help="""
        The TOML file that describes the simulated machine; empty for the one that ships:
        2 x A100-80GB in MIG mode and 2 x H100-80GB for blocks.
        """,
    ).tag(config=True)

    allow_advisory_blocks = Bool(
        False,
        help="""
        Give out blocks on GPUs that no MPS daemon serves.

        Nothing then holds a notebook to its part: it is an agreement between users, and is
        called "not enforced" in the picker, on the receipt and in the notebook.
        """,
    ).tag(config=True)

    mps_pipe_directory = Unicode(
        Settings.mps_pipe_directory,
        help="""
        Where the CUDA MPS control daemon listens.

        Blocks are offered when it answers there. The hub never starts it: that is a decision
        about the whole machine. Notebooks of several Unix users need a daemon run by root
        with ``-multiuser-server``, or each waits for the other's to end.
        """,
    ).tag(config=True)

    database_wait_seconds = Float(
        Settings.database_wait_seconds,
        min=0.0,
        help="""
        Seconds to wait for another writer of the database before a GPU start is refused with
        a sentence. 0 refuses at once.
        """,
    ).tag(config=True)

    inventory_max_age_seconds = Float(
        Settings.inventory_max_age_seconds,
        min=0.0,
        help="""
        Seconds for which the list of GPUs may be shown before it is read again. A start
        always reads it anew.
        """,
    ).tag(config=True)

    service_url = Unicode(
        "",
        help="""
        Where notebooks reach Aliquot's Hub service, up to its prefix. ``setup_aliquot`` sets
        it; empty means that there is no service, and receipts stay in the notebook.
        """,
    ).tag(config=True)

    reconcile_seconds = Float(
        Settings.reconcile_seconds,
        min=0.1,
        help="""
        Seconds between two comparisons of books, servers and GPUs by the Hub service. A lease
        whose server is gone is released at the second that misses it. Each lists the Hub's
        active users once.
        """,
    ).tag(config=True)

    binding = Enum(
        ["auto", *(engine.value for engine in Engine if engine is not Engine.LOCAL)],
        "auto",
        help="""
        Which engines of the cluster may be used. ``auto`` takes what each node offers;
        the name of one engine leaves the nodes of all others alone.
        """,
    ).tag(config=True)

    strict_compute = Bool(
        False,
        help="""
        Hold blocks under HAMi to their part of compute also while nobody else computes on the
        GPU. Off, a lone notebook may use all of it, as HAMi does by itself.
        """,
    ).tag(config=True)

    hami_scheduler = Unicode(
        Settings.hami_scheduler, help="The scheduler that HAMi's chart installs."
    ).tag(config=True)

    kai_scheduler = Unicode(
        Settings.kai_scheduler, help="The scheduler that KAI's chart installs."
    ).tag(config=True)

    kai_queue = Unicode(
        Settings.kai_queue,
        help="""
        The KAI queue of a pod; ``{group}`` stands for the resource group that pays. It must
        be a leaf queue, and one that exists.
        """,
    ).tag(config=True)

    kai_priority_class = Unicode(
        Settings.kai_priority_class,
        help="""
        The priority class of pods that KAI schedules. ``build`` is not preempted; with
        another, KAI may end notebooks without a warning.
        """,
    ).tag(config=True)

    def settings(self) -> Settings:
        """The value of the traits. A relative SQLite path is taken from the hub's folder."""
        fields = {name: getattr(self, name) for name in Settings.__dataclass_fields__}
        prefix = "sqlite:///"
        url = fields["database_url"]
        if url.startswith(prefix) and not url.startswith((prefix + "/", prefix + ":")):
            path = url.removeprefix(prefix)
            if path and not path.startswith("file:"):
                fields["database_url"] = f"{prefix}{Path(path).absolute()}"
        return Settings(**fields)


def settings_of(config: Config) -> Settings:
    """The settings that a Hub's configuration holds."""
    return Aliquot(config=config).settings()
