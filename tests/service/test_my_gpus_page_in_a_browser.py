"""The service's page in a real browser, logged in through the Hub."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("language, theme, width", [("en", "light", 1100), ("ko", "dark", 320)])
def test_axe_finds_nothing_and_the_policy_is_kept(
    sharing_hub, chromium: Browser, language, theme, width
):
    hub = sharing_hub.hub
    hub.wait_for_service()
    hub.start_server("ada", options={"share": "30 blocks"})
    session = hub.login("ada")
    context = chromium.new_context(viewport={"width": width, "height": 640}, color_scheme=theme)
    context.add_cookies(
        [
            {"name": c.name, "value": c.value or "", "domain": "127.0.0.1", "path": c.path}
            for c in session.cookies
        ]
    )
    tab = context.new_page()
    told: list[str] = []
    tab.on("console", lambda message: told.append(message.text))

    tab.goto(f"{hub.url}services/aliquot/?lang={language}")

    assert tab.locator("h1").inner_text() == {"en": "My GPUs", "ko": "내 GPU"}[language]
    assert tab.locator("table").count() == 2
    # The page itself never scrolls sideways; its tables do, within themselves.
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    faults = Axe().run(tab).response["violations"]
    assert [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in faults] == []
    assert [text for text in told if "Content Security Policy" in text] == []
    context.close()
    hub.stop_server("ada")
