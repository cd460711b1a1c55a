"""JupyterLab as its user handles it: settings, cells, the status item and the widget."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, WebSocket, expect

# The prompt of a cell that the kernel has got: "[*]:" or "[3]:".
_WAS_TAKEN = re.compile(r"\[(\*|\d+)\]:")
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


def write_settings(folder: Path, *, theme: str = LIGHT, locale: str = "default") -> None:
    """A user's settings. ``folder`` is JupyterLab's, in a home ``.jupyter/lab/user-settings``.

    News would be a dialogue over the page, and a request to the world outside.
    """
    apputils = folder / "@jupyterlab" / "apputils-extension"
    translation = folder / "@jupyterlab" / "translation-extension"
    apputils.mkdir(parents=True, exist_ok=True)
    translation.mkdir(parents=True, exist_ok=True)
    for file, settings in {
        apputils / "notification": {"fetchNews": "false", "checkForUpdates": False},
        apputils / "themes": {"theme": theme},
        translation / "plugin": {"locale": locale},
    }.items():
        file.with_suffix(".jupyterlab-settings").write_text(json.dumps(settings), "utf-8")


class LabPage:
    """A tab with JupyterLab in it. Notes the sequence of every sample that the page gets."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab
        self.sequences: list[int] = []
        tab.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        if "/aliquot/api/stream" in socket.url:
            socket.on("framereceived", lambda text: self.sequences.append(_sequence(text)))

    # -- the notebook ----------------------------------------------------------------------

    def new_notebook(self) -> None:
        """By the launcher's first card, whatever language that is in; with its kernel."""
        self.tab.locator(".jp-LauncherCard").first.click()
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.tab.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()

    def run(self, code: str) -> Locator:
        """Write into the last cell and run it; the cell, which may still be running."""
        cells = self.tab.locator(".jp-Notebook .jp-CodeCell")
        cell = cells.nth(cells.count() - 1)
        cell.locator(".cm-content").click()
        self.tab.keyboard.insert_text(code)
        expect(cell.locator(".cm-content")).to_contain_text(code.strip().splitlines()[-1])
        self.tab.keyboard.press("Shift+Enter")
        # JupyterLab drops a run while its kernel is still connecting; people press again.
        for _ in range(10):
            if _becomes(cell.locator(".jp-InputPrompt"), _WAS_TAKEN):
                break
            cell.locator(".cm-content").click()
            self.tab.keyboard.press("Control+Enter")
        return cell

    def hide_files(self) -> None:
        """The panel at the left, so that the notebook has the window's width."""
        self.tab.keyboard.press("Control+b")
        self.tab.locator(".jp-FileBrowser").wait_for(state="hidden")

    def expect_running(self, cell: Locator) -> None:
        expect(cell.locator(".jp-InputPrompt")).to_have_text("[*]:")

    def expect_done(self, cell: Locator) -> None:
        expect(cell.locator(".jp-InputPrompt")).not_to_have_text("[*]:")

    # -- what is ours ----------------------------------------------------------------------

    @property
    def status(self) -> Locator:
        return self.tab.locator(".aliquot-status-button")

    @property
    def popup(self) -> Locator:
        return self.tab.locator(".aliquot-popup")

    @property
    def widget(self) -> Locator:
        return self.tab.locator(".jp-OutputArea .aliquot-card")


def _becomes(place: Locator, text: re.Pattern[str]) -> bool:
    try:
        expect(place).to_have_text(text, timeout=5000)
    except AssertionError:
        return False
    return True


def _sequence(frame: str | bytes) -> int:
    return json.loads(frame)["sequence"]
