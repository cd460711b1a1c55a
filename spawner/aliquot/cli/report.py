"""``aliquot report``: who holds what, read from the ledger; the Hub does not have to run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aliquot.allocator import Allocator
from aliquot.cli.deployment import deployment_options, read_deployment
from aliquot.cli.findings import sqlite_path
from aliquot.domain.inventory import Gpu, Inventory
from aliquot.domain.judging import Unreadable
from aliquot.domain.lease_json import utc_text
from aliquot.domain.leases import Lease, Placement
from aliquot.domain.receipts import Verdict, judge_receipt
from aliquot.domain.uncertain import GrantDoubt, differing, doubted, gone
from aliquot.domain.wording import say
from aliquot.settings import Settings
from aliquot.storage import Ledger, LedgerUnavailable, Store


@click.command()
@deployment_options("-f", "-c", "--config")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def report(config: Path | None, database: str | None, as_json: bool) -> None:
    """Show who holds which GPU, and what groups and GPUs have left."""
    deployment = read_deployment(config, database)
    settings = deployment.settings
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        raise click.ClickException(
            f"There is no ledger at {path} ({deployment.source}). Name the Hub's configuration "
            "(aliquot report -f jupyterhub_config.py), or start the Hub once: it makes it."
        )
    try:
        store = Store.open(
            settings.database_url, busy_wait_seconds=settings.database_wait_seconds, migrate=False
        )
        ledger, receipts = store.ledger(), store.open_receipts()
        grants, doubts = store.differing_grants(), store.grant_doubts()
    except LedgerUnavailable as error:
        raise click.ClickException(str(error)) from error
    now = datetime.now(UTC)
    found = report_of(ledger, _inventory(settings), now, receipts, grants, doubts)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print(found)


def _inventory(settings: Settings) -> Inventory | Unreadable:
    return Allocator.from_settings(settings).inventory()


def report_of(
    ledger: Ledger,
    inventory: Inventory | Unreadable,
    now: datetime,
    receipts: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    grants: Mapping[str, tuple[Placement, Placement]] = MappingProxyType({}),
    doubts: Mapping[str, GrantDoubt] = MappingProxyType({}),
) -> dict[str, Any]:
    """The report as JSON has it. ``gpus`` is None when they cannot be read.

    ``findings`` are those that need no Hub: whether a pod's server is known, only the service
    can tell.
    """
    readable = isinstance(inventory, Inventory)
    leases = sorted(ledger.books.leases, key=lambda lease: lease.reserved_at)
    found = [*differing(leases, grants), *doubted(leases, doubts)]
    found += gone(leases, inventory) if readable else ()
    return {
        "at": utc_text(now),
        "simulated": readable and inventory.simulated,
        "gpu_state": None if readable else inventory.why,
        "leases": [_lease(lease, now, inventory, receipts.get(lease.id)) for lease in leases],
        "findings": [
            {"kind": one.kind.value, "lease_id": one.about, "message": one.sentence()}
            for one in found
        ],
        "groups": [_group(name, ledger) for name in sorted(ledger.tree.groups)],
        "gpus": [_gpu(gpu, ledger) for gpu in inventory.gpus] if readable else None,
    }


def _lease(
    lease: Lease,
    now: datetime,
    inventory: Inventory | Unreadable,
    receipt: Mapping[str, Any] | None,
) -> dict[str, Any]:
    since = lease.active_at or lease.reserved_at
    known = inventory.by_uuid if isinstance(inventory, Inventory) else {}
    gpus = [known[p.gpu_uuid] for p in lease.placement.pieces if p.gpu_uuid in known]
    judged = None if receipt is None else judge_receipt(lease, inventory, receipt)
    return {
        "lease_id": lease.id,
        "user": lease.user_name,
        "server": lease.server.name,
        "group": lease.group,
        "share": lease.placement.words,
        "charged_blocks": lease.charge.blocks,
        "memory_mib": lease.placement.memory_mib,
        "gpus": [
            {"uuid": p.gpu_uuid, "model": p.gpu_model, "blocks": p.blocks, "mig_uuid": p.mig_uuid}
            for p in lease.placement.pieces
        ],
        "nodes": sorted({gpu.node for gpu in gpus if gpu.node}),
        "engines": sorted({gpu.engine.value for gpu in gpus}),
        "verdict": judged and judged.verdict.value,
        "verdict_reason": judged and judged.why(),
        "state": lease.state.value,
        "since": utc_text(since),
        "age_seconds": max(0, round((now - since).total_seconds())),
        "until": utc_text(lease.until),
    }


def _group(name: str, ledger: Ledger) -> dict[str, Any]:
    group = ledger.tree.groups[name]
    nominal = group.quota.nominal.whole_blocks_within
    held = ledger.books.held_by_group(name).blocks
    return {
        "name": name,
        "parent": group.parent,
        "held_blocks": held,
        "nominal_blocks": nominal,
        "free_blocks": max(0, nominal - held),
    }


def _gpu(gpu: Gpu, ledger: Ledger) -> dict[str, Any]:
    use = ledger.books.use_of(gpu.uuid)
    profiles = Counter(device.profile for device in gpu.mig_devices)
    taken = Counter(d.profile for d in gpu.mig_devices if d.uuid in use.mig_uuids)
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "model": gpu.model,
        "node": gpu.node,
        "engine": gpu.engine.value,
        "mode": "mig" if gpu.mig_enabled else "blocks" if gpu.blocks_by else "whole",
        "held_blocks": None if gpu.mig_enabled else use.blocks,
        "sharers": use.sharers,
        "slices": [
            {"profile": profile, "held": taken[profile], "all": count}
            for profile, count in profiles.items()
        ],
    }


def _print(found: dict[str, Any]) -> None:
    console = Console()
    # A pipe has no width of its own; a table cut to 80 columns would lose what it is for.
    if not console.is_terminal:
        console = Console(width=200)
    mark = " (simulated)" if found["simulated"] else ""
    columns = ("User", "Server", "Group", "Size", "GPU", "Node", "State", "For", "Receipt")
    leases = _table(f"Leases{mark}", *columns)
    for lease in found["leases"]:
        models = dict.fromkeys(gpu["model"] for gpu in lease["gpus"])
        _add_row(
            leases,
            lease["user"],
            lease["server"] or "(default)",
            lease["group"],
            f"{lease['share']}, {lease['memory_mib'] / 1024:.1f} GiB",
            ", ".join(models),
            ", ".join(lease["nodes"]) or "-",
            lease["state"],
            age(lease["age_seconds"]),
            say(f"receipt.verdict.{lease['verdict']}") if lease["verdict"] else "-",
        )
    if found["leases"]:
        console.print(leases)
    else:
        console.print("Nobody holds a GPU.")
    for lease in found["leases"]:
        if lease["verdict"] == Verdict.MISMATCH:
            told = f"{lease['user']}: {lease['verdict_reason']}"
            console.print(told, markup=False, highlight=False)
    for one in found["findings"]:
        console.print(one["message"], markup=False, highlight=False)
    groups = _table("Groups, in blocks", "Group", "Under", "Held", "Quota", "Free")
    for group in found["groups"]:
        numbers = (group["held_blocks"], group["nominal_blocks"], group["free_blocks"])
        _add_row(groups, group["name"], group["parent"] or "", *map(str, numbers))
    if found["groups"]:
        console.print(groups)
    else:
        console.print("No group has GPU quota yet.")
    if found["gpus"] is None:
        console.print(f"GPUs cannot be read: {found['gpu_state']}", markup=False)
        return
    gpus = _table(f"GPUs{mark}", "Node", "GPU", "Model", "Engine", "Held", "UUID")
    for gpu in found["gpus"]:
        slices = (f"{s['held']} of {s['all']} {s['profile']}" for s in gpu["slices"])
        held = ", ".join(slices) or "no slices"
        if gpu["mode"] != "mig":
            held = f"{gpu['held_blocks']} of 100 blocks, {gpu['sharers']} notebooks"
        place = (gpu["node"] or "-", str(gpu["index"]))
        _add_row(gpus, *place, gpu["model"], gpu["engine"], held, gpu["uuid"])
    console.print(gpus)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add_row(table: Table, *cells: str) -> None:
    """As plain text: a name in brackets is no markup."""
    table.add_row(*map(Text, cells))


def age(seconds: int) -> str:
    """``2 d 3 h``, ``3 h 5 min``, ``5 min``, ``under a minute``: the two largest units."""
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86400
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n]
    return " ".join(parts[:2]) or "under a minute"
