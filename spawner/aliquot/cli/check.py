"""``aliquot check``: say in plain words what of a deployment will and will not work."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from aliquot.cli import cluster_findings, findings
from aliquot.cli.deployment import deployment_options, read_deployment
from aliquot.cli.findings import Finding
from aliquot.domain.inventory import KUBERNETES

_COLOURS = {"ok": "green", "warn": "yellow", "problem": "red"}


@click.command()
@deployment_options("-f", "-c", "--config")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.pass_context
def check(ctx: click.Context, config: Path | None, database: str | None, as_json: bool) -> None:
    """Look at a deployment and say what will not work, and what to do.

    The Hub does not have to run, and nothing is changed. Ends with 1 if there is a problem.
    """
    deployment = read_deployment(config, database)
    settings = deployment.settings
    in_cluster = settings.gpu_source == KUBERNETES
    found: list[Finding] = [
        Finding("settings", "ok", f"read from {deployment.source}"),
        *findings.versions(in_cluster=in_cluster),
        *(cluster_findings.cluster(settings) if in_cluster else findings.gpus(settings)),
        *findings.database(settings),
        *findings.hub(deployment.config),
        *findings.notebooks(deployment.config),
    ]
    counts = Counter(finding.level for finding in found)
    ok = not counts["problem"]
    if as_json:
        document = {"ok": ok, "findings": [asdict(finding) for finding in found]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for finding in found:
            click.echo(line(finding))
        click.echo(_summary(counts))
    ctx.exit(0 if ok else 1)


def line(finding: Finding) -> str:
    """``problem  hub: …. What to do.``"""
    level = click.style(f"{finding.level:8}", fg=_COLOURS[finding.level])
    remedy = f" {finding.remedy}" if finding.remedy else ""
    return f"{level} {finding.area}: {finding.message}.{remedy}"


def _summary(counts: Counter[str]) -> str:
    if counts["problem"]:
        return f"{counts['problem']} to solve, {counts['warn']} to know, {counts['ok']} fine."
    return f"Nothing to solve, {counts['warn']} to know, {counts['ok']} fine."
