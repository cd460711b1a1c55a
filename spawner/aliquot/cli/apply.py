"""``aliquot apply``: put groups and sizes in force from a file, after showing the change."""

from __future__ import annotations

import difflib
import getpass
from dataclasses import replace
from pathlib import Path

import click

from aliquot.allocator import Allocator
from aliquot.cli.deployment import settings_from_options, with_deployment
from aliquot.cli.groups_file import GroupsFile, GroupsFileError, read_groups_file, write_groups
from aliquot.storage import LedgerUnavailable


@click.command()
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The groups file; hub_config/groups.yaml is an example.",
)
@click.option("--dry-run", is_flag=True, help="Show the change and leave all as it is.")
@click.option("--why", default="", help="The reason, for the audit.")
@with_deployment
def apply(path: Path, dry_run: bool, why: str, config: Path | None, database: str | None) -> None:
    """Put resource groups, weights and sizes in force from a YAML file."""
    try:
        wanted = read_groups_file(path.read_text("utf-8"))
        store = Allocator.from_settings(settings_from_options(config, database)).store
        ledger = store.ledger()
    except GroupsFileError as error:
        raise click.ClickException(f"{path}: {error}") from error
    except LedgerUnavailable as error:
        raise click.ClickException(str(error)) from error
    if not wanted.sizes:
        wanted = replace(wanted, sizes=ledger.presets)
    before = write_groups(GroupsFile(ledger.tree, ledger.weights, ledger.presets))
    after = write_groups(wanted)
    if before == after:
        click.echo("Nothing changes.")
        return
    for line in difflib.unified_diff(
        before.splitlines(), after.splitlines(), "in force", str(path), lineterm=""
    ):
        click.echo(line)
    if dry_run:
        click.echo("Dry run: nothing was changed.")
        return
    actor, reason = getpass.getuser(), why or f"applied {path.name}"
    try:
        store.save_groups(list(wanted.tree.groups.values()), wanted.weights, actor, reason)
        store.save_presets([str(size) for size in wanted.sizes], actor, reason)
    except LedgerUnavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo("In force.")
