"""Pictures of JupyterLab, the second part of ``python -m tests.browser.screenshots``.

Writes .cache/screenshots/lab-<state>-<language>-<theme>.png with the status item and the
widget, and the same with ``-details`` once the status item was pressed. English is light,
Korean dark. JupyterLab's own menus are Korean only where its language pack is installed
(jupyterlab-language-pack-ko-KR); the widget follows the browser and needs none.

The simulated machine is the product's own; the others are scenarios of the NVML stand-in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.lab_page import DARK, LIGHT, LabPage, write_settings
from tests.lab.lab_server import (
    LabServer,
    block_piece,
    lease_text,
    slice_piece,
    start_lab_server,
    whole_piece,
)
from tests.nvml_standin import library

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "screenshots"
_H100 = "NVIDIA H100 80GB HBM3"
_FIRST, _SECOND = (f"GPU-b1000000-{n}000-4000-8000-000000000000" for n in (0, 1))
_A100 = "NVIDIA A100-SXM4-80GB"
_A100_UUID = "GPU-a1000000-0000-4000-8000-000000000000"
_SLICE_UUID = "MIG-a1000000-0003-5000-8000-000000000000"
_SLICE = lease_text(
    slice_piece(_A100_UUID, _SLICE_UUID, "1g.10gb", 9856, _A100),
    kind="slice",
    by="mig",
    memory="hardware",
    compute="hardware",
    notes=["note.visible_by_environment"],
)

BUSY_CELL = "sum(range(10**12))"


@dataclass(frozen=True, slots=True)
class LabState:
    """What a server was given, and the machine that it looks at.

    ``scenario`` is the name of a scenario of the stand-in, with ``edit`` put in (old, new);
    ``cell`` is run below the widget and may still run when the picture is taken.
    """

    lease: str | None
    scenario: str | None = None
    edit: tuple[str, str] = ("", "")
    environment: Mapping[str, str] = field(default_factory=dict)
    cell: str = "%gpu"


_SIMULATED = lease_text(
    block_piece("GPU-sim-0", 25, 20389, _H100),
    kind="blocks",
    by="simulated",
    memory="none",
    compute="none",
    simulated=True,
    notes=["note.simulated"],
)
_THIRTY_BLOCKS = {
    "CUDA_VISIBLE_DEVICES": _FIRST,
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=24467M",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
}
STATES: dict[str, LabState] = {
    "simulated": LabState(_SIMULATED),
    "busy-cell": LabState(_SIMULATED, cell=BUSY_CELL),
    "two-pieces": LabState(
        lease_text(
            whole_piece("GPU-sim-0", 81559, _H100),
            block_piece("GPU-sim-1", 10, 8155, _H100),
            kind="mixed",
            by="simulated",
            memory="none",
            compute="none",
            simulated=True,
            notes=["note.simulated"],
        )
    ),
    "h100-mps": LabState(
        lease_text(
            block_piece(_FIRST, 30, 24467, _H100),
            kind="blocks",
            by="mps",
            memory="soft",
            compute="soft",
            thread_percentage=30,
            notes=["note.mps_per_process", "note.mps_soft", "note.visible_by_environment"],
        ),
        scenario="h100-mps-blocks",
        environment=_THIRTY_BLOCKS,
    ),
    "h100-hami": LabState(
        lease_text(
            block_piece(_FIRST, 30, 24467, _H100),
            kind="blocks",
            by="hami",
            memory="soft",
            compute="soft",
            notes=["note.hami_soft", "note.hami_contended"],
        ),
        scenario="h100-mps-blocks",
        environment={"CUDA_VISIBLE_DEVICES": _FIRST},
    ),
    "h100-kai": LabState(
        lease_text(
            block_piece(_FIRST, 30, 24467, _H100),
            kind="blocks",
            by="kai",
            memory="none",
            compute="none",
            notes=["note.kai_counted"],
        ),
        scenario="h100-mps-blocks",
        environment={"CUDA_VISIBLE_DEVICES": _FIRST},
    ),
    "a100-slice": LabState(
        _SLICE, scenario="a100-mig-mixed", environment={"CUDA_VISIBLE_DEVICES": _SLICE_UUID}
    ),
    "near-cap": LabState(
        lease_text(
            whole_piece(_SECOND, 81559, _H100),
            kind="whole",
            by="driver",
            memory="hardware",
            compute="hardware",
        ),
        scenario="h100-mps-blocks",
        edit=("  used_mib 0\n", "  used_mib 78500\n"),
        environment={"CUDA_VISIBLE_DEVICES": _SECOND},
    ),
    "no-gpu": LabState(None),
}


def lab_screenshots(browser: Browser, words: list[str]) -> None:
    """One server a state, one visit a language. Words narrow the states, as ``lab-<state>``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, state in STATES.items():
        if words and not any(word in f"lab-{name}" for word in words):
            continue
        with tempfile.TemporaryDirectory(prefix="aliquot-lab-") as folder:
            server = _start(Path(folder), state)
            try:
                for language, theme in (("en", LIGHT), ("ko", DARK)):
                    _visit(browser, server, state, f"lab-{name}-{language}", theme, language)
            finally:
                server.stop()


def _start(folder: Path, state: LabState) -> LabServer:
    environment = dict(state.environment)
    if state.scenario is not None:
        machine = folder / "machine.txt"
        text = (library.SCENARIOS / f"{state.scenario}.txt").read_text("utf-8")
        machine.write_text(text.replace(*state.edit, 1), "utf-8")
        environment |= library.environment(machine)
    return start_lab_server(folder, state.lease, environment, jupyterlab=True)


def _visit(
    browser: Browser, server: LabServer, state: LabState, name: str, theme: str, language: str
) -> None:
    korean = language == "ko"
    packed = find_spec("jupyterlab_language_pack_ko_KR") is not None
    write_settings(
        server.directory / "lab" / "user-settings",
        theme=theme,
        locale="ko_KR" if korean and packed else "default",
    )
    context = browser.new_context(
        viewport={"width": 1280, "height": 900},
        locale="ko-KR" if korean else "en-GB",
        color_scheme="dark" if theme == DARK else "light",
    )
    context.set_default_timeout(120_000)
    tab = context.new_page()
    lab = LabPage(tab)
    tab.goto(f"{server.base}lab?reset&token={server.token}")
    lab.new_notebook()
    lab.hide_files()
    lab.run("from aliquot_lab import Usage\nUsage()")
    lab.widget.wait_for()
    cell = lab.run(f"%gpu {language}" if state.cell == "%gpu" else state.cell)
    if state.lease is not None:
        lab.widget.locator(".aliquot-receipt-verdict").filter(has_text="…").wait_for(state="hidden")
        _three_more_samples(lab)
    if state.cell == BUSY_CELL:
        lab.expect_running(cell)
    else:
        lab.expect_done(cell)
    shade = "dark" if theme == DARK else "light"
    _take(lab, FOLDER / f"{name}-{shade}.png")
    lab.status.click()
    lab.popup.wait_for()
    if state.lease is not None:
        lab.popup.locator("summary").click()
    _take(lab, FOLDER / f"{name}-{shade}-details.png")
    context.close()
    server.end_kernels()


def _three_more_samples(lab: LabPage) -> None:
    wanted = len(lab.sequences) + 3
    # The waiting is what lets playwright hand over the messages that came.
    while len(lab.sequences) < wanted:
        lab.tab.wait_for_timeout(200)


def _take(lab: LabPage, file: Path) -> None:
    lab.tab.screenshot(path=file)
    print(file.relative_to(FOLDER.parents[1]))
