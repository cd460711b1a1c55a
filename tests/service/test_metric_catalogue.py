"""The documentation's list of metrics is the list of metrics."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from aliquot.allocator import Allocator
from aliquot.service.metrics import exposition
from aliquot.service.reconciling import Reconciler
from aliquot.service.state import ServiceState
from aliquot.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rest.md"


async def test_every_metric_is_in_the_documentation_and_every_one_in_it_exists(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("JUPYTERHUB_METRICS_PREFIX", "hub")
    settings = Settings(database_url=f"sqlite:///{tmp_path}/books.sqlite", gpu_source="simulated")
    allocator = Allocator.from_settings(settings)

    async def no_servers():
        return ()

    reconciler = Reconciler(allocator, no_servers)
    await reconciler.one_pass()

    text = exposition(ServiceState(allocator, reconciler)).decode()

    exist = set()
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        name = family.name + ("_total" if family.type == "counter" else "")
        exist.add(name.removeprefix("hub_aliquot_"))
    section = PAGE.read_text("utf-8").split("## Metrics")[1]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert exist == set(re.findall(r"`(\w+)`", " ".join(rows)))
