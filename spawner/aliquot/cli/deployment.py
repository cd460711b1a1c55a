"""Deployment: which one a command is about.

``--config`` names a ``jupyterhub_config.py``, which is executed as the Hub would, so that
its ``c.Aliquot`` counts; ``--database`` names a ledger alone. Without either, the environment
of a service (``ALIQUOT_SETTINGS``) counts, then ``jupyterhub_config.py`` in the current
folder, then the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from aliquot.settings import ENVIRONMENT, Settings, settings_of

CONFIG_NAME = "jupyterhub_config.py"


@dataclass(frozen=True, slots=True)
class Deployment:
    """``config`` is None when no configuration file was read."""

    settings: Settings
    config: Config | None
    source: str


def deployment_options(*flags: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options as a decorator; ``flags`` are the spellings of ``--config``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--database",
            "database",
            metavar="URL",
            default=None,
            help="The ledger alone, as a SQLAlchemy URL; overrides the configuration's.",
        )(command)
        return click.option(
            *flags,
            "config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            default=None,
            help=f"The Hub's configuration; ./{CONFIG_NAME} when it is there.",
        )(command)

    return add


with_deployment = deployment_options("-c", "--config")


def read_deployment(config: Path | None = None, database: str | None = None) -> Deployment:
    """Raises click.ClickException, one sentence, when the configuration cannot be read."""
    here = Path(CONFIG_NAME)
    if config is None and ENVIRONMENT in os.environ:
        deployment = Deployment(Settings.from_environment(), None, ENVIRONMENT)
    elif config is not None or here.exists():
        deployment = _read_config((config or here).absolute())
    else:
        deployment = Deployment(Settings(), None, "the defaults")
    if database is None:
        return deployment
    settings = replace(deployment.settings, database_url=database)
    return replace(deployment, settings=settings)


def settings_from_options(config: Path | None = None, database: str | None = None) -> Settings:
    return read_deployment(config, database).settings


def _read_config(path: Path) -> Deployment:
    before = Path.cwd()
    try:
        # The Hub reads it in its own folder, and relative paths in it mean that.
        os.chdir(path.parent)
        config = PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
        settings = settings_of(config)
    except Exception as error:
        # The file is the admin's program: whatever it raises is theirs to see, as one line.
        raise click.ClickException(
            f"{path.name} cannot be read: {type(error).__name__}: {error}. "
            "Start the Hub with it to see where, then correct it."
        ) from error
    finally:
        os.chdir(before)
    return Deployment(settings, config, str(path))
