"""The spawn page as a real Hub serves it: choosing, being refused, starting."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.hub import PASSWORD
from tests.fixtures.sharing_hub import SharingHub

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OpenSpawnPage = Callable[..., Page]


@pytest.fixture
def open_spawn_page(chromium: Browser, sharing_hub: SharingHub) -> Iterator[OpenSpawnPage]:
    """Log a person in and open their spawn page: ``open_spawn_page("ada", locale="ko-KR")``."""
    contexts = []

    def open_page(user: str, query: str = "", **context_options: object) -> Page:
        context = chromium.new_context(**{"locale": "en-GB", **context_options})  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        contexts.append(context)
        tab = context.new_page()
        tab.goto(f"{sharing_hub.hub.url}hub/login?next=%2Fhub%2Fhome")
        tab.get_by_label("Username").fill(user)
        tab.get_by_label("Password").fill(PASSWORD)
        tab.get_by_role("button", name="Sign in").click()
        tab.wait_for_url("**/hub/home")
        tab.goto(f"{sharing_hub.hub.url}hub/spawn/{user}{query}")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    for user in ("ada", "lin"):
        if sharing_hub.hub.server(user) is not None:
            sharing_hub.hub.stop_server(user)
    assert sharing_hub.store.open_leases() == []


@pytest.mark.parametrize("javascript", [True, False])
def test_a_custom_size_is_chosen_and_held(sharing_hub, open_spawn_page, javascript):
    tab = open_spawn_page("lin", java_script_enabled=javascript)
    tab.get_by_role("radio", name="nlp:").check()
    tab.get_by_role("radio", name="Custom size").check()
    tab.locator("#aliquot-amount").fill("30")
    tab.get_by_role("button", name="Start", exact=True).click()

    sharing_hub.hub.wait_for_server("lin")
    (lease,) = sharing_hub.store.open_leases()
    assert (lease.group, lease.charge.blocks, lease.placement.words) == ("nlp", 30, "30 blocks")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_refused_start_is_explained_on_the_form_and_its_remedy_starts_with_one_press(
    sharing_hub, open_spawn_page, javascript
):
    sharing_hub.hub.start_server("lin", options={"share": "40 blocks", "group": "vision"})
    tab = open_spawn_page("ada", java_script_enabled=javascript)
    # Told to be unavailable, and still to be chosen.
    tab.get_by_role("radio", name="100 blocks").check(force=True)
    # With the script, Start asks for another size already; the form is sent all the same.
    if javascript:
        expect(tab.get_by_role("button", name="Choose another size to start")).to_be_visible()
        tab.evaluate("document.querySelector('#spawn_form').submit()")
    else:
        tab.get_by_role("button", name="Start", exact=True).click()

    refusal = tab.locator("#aliquot-refusal")
    expect(refusal).to_be_focused()
    expect(refusal).to_contain_text("Group 'vision' holds 40 of its 100 blocks.")
    expect(tab.locator(".spawn-error-msg")).to_be_hidden()
    expect(tab.get_by_role("radio", name="100 blocks")).to_be_checked()
    refusal.get_by_role("button", name=re.compile("Start with 60 blocks")).click()

    sharing_hub.hub.wait_for_server("ada")
    held = {lease.user_name: lease.charge.blocks for lease in sharing_hub.store.open_leases()}
    assert held == {"lin": 40, "ada": 60}


def test_an_open_page_sees_what_others_take(sharing_hub, open_spawn_page):
    tab = open_spawn_page("ada")
    card = tab.locator(".aliquot-card[data-share='100 blocks']")
    expect(card).to_have_attribute("data-state", "now")

    sharing_hub.hub.start_server("lin", options={"share": "10 blocks", "group": "vision"})

    expect(card).to_have_attribute("data-state", "no", timeout=30_000)
    expect(card).to_contain_text("group 'vision' holds 10 of its 100 blocks")
    expect(tab.locator("#aliquot-size")).to_contain_text("vision: 90 of 100 blocks free")


def test_a_link_fills_in_the_form_and_starts_nothing(sharing_hub, open_spawn_page):
    tab = open_spawn_page("ada", "?opt-share=50%20blocks")

    expect(tab.get_by_role("radio", name="50 blocks")).to_be_checked()
    assert sharing_hub.store.open_leases() == []
    assert sharing_hub.hub.server("ada") is None


def test_a_korean_browser_gets_the_page_in_korean(open_spawn_page):
    tab = open_spawn_page("ada", locale="ko-KR")

    expect(tab.locator("#aliquot-picker")).to_have_attribute("lang", "ko")
    expect(tab.get_by_role("radio", name="25블록")).to_be_visible()


@pytest.mark.parametrize("user", ["ada", "lin", "eve"])
def test_axe_finds_nothing_on_the_page_of_a_real_hub(open_spawn_page, user):
    tab = open_spawn_page(user)

    found = Axe().run(tab, context="#aliquot-picker").response["violations"]
    assert [rule["id"] for rule in found] == []
