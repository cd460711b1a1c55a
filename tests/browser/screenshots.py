"""Pictures of the pages: ``python -m tests.browser.screenshots [words]``.

Writes .cache/screenshots/picker-<state>-<language>.png for every state of the spawn page, in
English and Korean, and one in dark and at 320 px for the busy one. Words narrow the states.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aliquot.domain.wording import LANGUAGES
from aliquot.spawners.picker import render_picker
from tests.browser.chromium import open_chromium
from tests.browser.hub_page import hub_spawn_page, serve_pages
from tests.browser.picker_states import STATES

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "screenshots"
_EXTRAS = {"busy": (("dark", 1100, "dark"), ("320", 320, "light"))}


def main(words: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serve_pages() as server, open_chromium() as browser:
        for state, make in STATES.items():
            if words and not any(word in state for word in words):
                continue
            for language in LANGUAGES:
                server.page = hub_spawn_page(render_picker(make(language)))
                for name, width, theme in (("", 1100, "light"), *_EXTRAS.get(state, ())):
                    page = browser.new_page(
                        viewport={"width": width, "height": 800},
                        color_scheme="dark" if theme == "dark" else "light",
                        timezone_id="UTC",
                    )
                    page.goto(server.url)
                    page.wait_for_load_state("networkidle")
                    file = FOLDER / f"picker-{state}-{language}{'-' + name if name else ''}.png"
                    page.screenshot(path=file, full_page=True)
                    page.close()
                    print(file.relative_to(FOLDER.parents[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
