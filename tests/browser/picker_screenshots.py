"""Pictures of the spawn page: ``python -m tests.browser.picker_screenshots [words]``.

Writes .cache/screenshots/picker-<state>-<language>.png for every state of the spawn page, in
English and Korean, and one in dark and at 320 px for the busy one. Words narrow the states.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser

from aliquot.domain.wording import LANGUAGES
from aliquot.spawners.picker import render_picker
from tests.browser.chromium import open_chromium
from tests.browser.hub_page import hub_spawn_page, serve_pages
from tests.browser.picker_states import STATES

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "screenshots"
_EXTRAS = {"busy": (("dark", 1100, "dark"), ("320", 320, "light"))}


def picker_screenshots(browser: Browser, words: list[str]) -> None:
    """Every state, or those whose names contain one of the words."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serve_pages() as server:
        for state, make in STATES.items():
            if words and not any(word in f"picker-{state}" for word in words):
                continue
            for language in LANGUAGES:
                server.page = hub_spawn_page(render_picker(make(language)))
                for name, width, theme in (("", 1100, "light"), *_EXTRAS.get(state, ())):
                    file = FOLDER / f"picker-{state}-{language}{'-' + name if name else ''}.png"
                    _shoot(browser, server.url, width, theme, file)
                    print(file.relative_to(FOLDER.parents[1]), flush=True)


def _shoot(browser: Browser, url: str, width: int, theme: str, file: Path) -> None:
    page = browser.new_page(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if theme == "dark" else "light",
        timezone_id="UTC",
    )
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=file, full_page=True)
    page.close()


if __name__ == "__main__":
    with open_chromium() as chromium:
        picker_screenshots(chromium, sys.argv[1:])
