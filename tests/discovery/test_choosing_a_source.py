"""Which source a setting means, and what `auto` does on a machine without GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from aliquot.discovery import InventorySource, source_for
from tests.discovery.reading import READ


def test_auto_finds_the_gpus_that_are_there(nvml_scenario):
    assert nvml_scenario("a30").python("result = told(source_for('auto'))", after=READ) == 1


@pytest.mark.parametrize(
    "scenario, note",
    [
        (
            "no-gpu",
            "No GPUs here: the NVIDIA driver is not loaded. Install or load the driver if this "
            "machine has NVIDIA GPUs.",
        ),
        (
            "no-device",
            "The NVIDIA driver is loaded and sees no GPU. Look at 'lspci' and the kernel log.",
        ),
    ],
)
def test_auto_on_a_machine_without_gpus_is_an_empty_inventory_that_says_why(
    nvml_scenario, scenario, note
):
    gpus, notes, simulated = nvml_scenario(scenario).python(
        """
        inventory = source_for("auto").read()
        result = [inventory.gpus, inventory.notes, inventory.simulated]
        """,
        after=READ,
    )
    assert (gpus, notes, simulated) == ([], [note], False)


def test_auto_without_nvidias_library_is_an_empty_inventory(tmp_path):
    inventory = _without_nvidia(tmp_path, "auto")

    assert inventory == [0, ["No GPUs here: NVIDIA's library libnvidia-ml.so.1 is not installed."]]


def test_auto_takes_a_driver_that_went_away_for_a_fault(nvml_scenario):
    """Otherwise a driver that was unloaded would look like a machine that never had GPUs."""
    scenario = nvml_scenario("h200")
    hub = scenario.session()
    hub.ask(READ + "source = source_for('auto')")
    assert hub.ask("result = told(source)") == 1

    scenario.become("no-gpu")
    assert hub.ask("result = told(source)").startswith("NoDriver: No GPUs here: the NVIDIA driver")


def test_auto_does_not_hide_a_driver_in_trouble(nvml_scenario):
    told = nvml_scenario("nvml-denied").python("result = told(source_for('auto'))", after=READ)

    assert told.startswith("GpuStateUnreadable: The GPUs cannot be read")


def test_an_unknown_source_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no source of GPUs is called 'cuda': auto, nvml, "):
        source_for("cuda")


WITHOUT_CLIENT = """
import sys
sys.modules["kubernetes_asyncio"] = None
from aliquot.discovery import GpuStateUnreadable, source_for
assert len(source_for("simulated").read().gpus) == 4
try:
    source_for("kubernetes", binding="hami", ledger_mark="0123456789abcdef").read()
except GpuStateUnreadable as error:
    print(error)
"""


def test_a_hub_without_the_kubernetes_client_starts_and_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLIENT], capture_output=True, text=True, timeout=60
    )

    assert done.stdout.startswith("The GPUs of the cluster cannot be read: the Kubernetes client")
    assert done.stdout.endswith("Install 'aliquot[kubernetes]'.\n")
    assert done.stderr == ""


def test_an_engine_that_nobody_knows_is_refused_before_anything_is_watched():
    with pytest.raises(ValueError, match="cuda"):
        source_for("kubernetes", binding="cuda")


def test_an_empty_path_means_the_machine_that_ships():
    source: InventorySource = source_for("simulated", simulated_machine="")

    assert len(source.read().gpus) == 4


def _without_nvidia(folder, name):
    """Read in a child whose loader finds an empty file where NVIDIA's library would be."""
    (folder / "libnvidia-ml.so.1").write_bytes(b"")
    code = (
        READ
        + f"import json; i = source_for('{name}').read()\n"
        + "print(json.dumps([len(i.gpus), [n.split('. ')[0] + '.' for n in i.notes]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
