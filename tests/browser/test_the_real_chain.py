"""One real chain: browser, Hub, spawner, API server, scheduler, kubelet, container, JupyterLab,
pynvml, widget. Only the card is a stand-in.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.lab_page import LabPage
from tests.cluster.gpu_models import mig_uuid
from tests.cluster.node_shapes import SHAPES
from tests.cluster.pod_hub import PodHub, start_pod_hub
from tests.cluster.real_node import RealNode
from tests.fixtures.hub import PASSWORD, StartHub

# Thirty seconds on an idle machine; two busy cores take several times that.
pytestmark = [
    pytest.mark.browser, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600),
]  # fmt: skip
PATIENCE_SECONDS = 120
WHICH_SLICE = """\
import pynvml
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)
print(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, 0)))"""


@pytest.fixture
def here(real_node: RealNode, start_hub: StartHub, tmp_path: Path) -> PodHub:
    real_node.become(SHAPES["plugin-mig-a100-80"])
    return start_pod_hub(start_hub, real_node, {"vision": ["ada"]}, tmp_path)


@pytest.fixture
def ada(chromium: Browser, here: PodHub) -> Iterator[Page]:
    """Logged in, on her spawn page."""
    context = chromium.new_context(locale="en-GB", viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    tab = context.new_page()
    tab.goto(f"{here.hub.url}hub/login?next=%2Fhub%2Fspawn")
    tab.get_by_label("Username").fill("ada")
    tab.get_by_label("Password").fill(PASSWORD)
    tab.get_by_role("button", name="Sign in").click()
    tab.wait_for_selector("#aliquot-picker.aliquot-enhanced")
    yield tab
    expect.set_options(timeout=None)
    context.close()


def test_a_slice_goes_from_the_picker_through_the_kubelet_to_the_widget_and_back(
    here: PodHub, real_node: RealNode, ada: Page
):
    began = time.monotonic()
    ada.locator(".aliquot-card[data-share='1g.10gb']").click()
    expect(ada.locator("#aliquot-summary")).to_contain_text("1g.10gb")
    ada.get_by_role("button", name="Start", exact=True).click()
    ada.wait_for_url("**/user/ada/lab**")
    lab = LabPage(ada)
    expect(lab.status).to_contain_text(re.compile(r"GPU [\d.]+/9\.6 GiB"))
    print(f"JupyterLab {time.monotonic() - began:.1f} s after the picker was touched")

    (pod,) = here.pods()
    (lease,) = here.store.open_leases()
    assert pod["spec"]["nodeName"] == real_node.name
    assert lease.placement.words == "1g.10gb"

    lab.new_notebook()
    lab.run("from aliquot_lab import Usage; Usage()")
    expect(lab.widget.locator(".aliquot-piece-name")).to_contain_text("1g.10gb")
    expect(lab.widget.locator(".aliquot-clock")).to_have_text("Live")
    printed = lab.run(WHICH_SLICE).locator(".jp-OutputArea-output")
    expect(printed).to_contain_text("MIG-")
    # What the kubelet has handed out, the real pynvml finds in a cell, and nothing else.
    (allocation,) = (real_node.folder / "machine" / "allocations.jsonl").read_text().splitlines()
    assert json.loads(allocation)["devices"] == [printed.inner_text().strip()]
    assert printed.inner_text().strip() in {mig_uuid(real_node.name, 0, n) for n in range(7)}

    ada.goto(f"{here.hub.url}hub/home")
    ada.get_by_role("button", name="Stop My Server").click()
    expect(ada.get_by_role("button", name="Start My Server")).to_be_visible()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any((left := here.left()).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert set(left.values()) == {0}, left
