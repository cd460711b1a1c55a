"""Pictures of all pages, into .cache/screenshots: ``python -m tests.browser.screenshots``.

Words narrow them: ``picker-full`` is one state of the spawn page, ``lab`` all of JupyterLab.
"""

from __future__ import annotations

import sys

from tests.browser.chromium import open_chromium
from tests.browser.lab_screenshots import lab_screenshots
from tests.browser.picker_screenshots import picker_screenshots

if __name__ == "__main__":
    with open_chromium() as chromium:
        for take in (picker_screenshots, lab_screenshots):
            take(chromium, sys.argv[1:])
