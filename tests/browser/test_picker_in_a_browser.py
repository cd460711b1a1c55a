"""The spawn page in a real browser, inside the Hub's own page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from aliquot.domain.shares import Blocks
from aliquot.spawners.picker import form_options, render_picker
from tests.browser.hub_page import PageServer, hub_spawn_page, serve_pages
from tests.browser.picker_states import STATES, busy, empty, full, held, page

pytestmark = pytest.mark.browser

NARROW = {"width": 320, "height": 640}
WIDE = {"width": 1100, "height": 800}


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    with serve_pages() as server:
        yield server


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport=WIDE)
    yield opened
    opened.close()


@pytest.fixture
def tab_without_javascript(chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport=WIDE, java_script_enabled=False)
    yield opened
    opened.close()


def show(server: PageServer, tab: Page, state: str, language: str = "en") -> None:
    server.page = hub_spawn_page(render_picker(STATES[state](language)))
    server.sent.clear()
    tab.goto(server.url)
    tab.wait_for_selector("#aliquot-picker", state="attached")


def faults(tab: Page) -> list[str]:
    found = Axe().run(tab, context="#aliquot-picker").response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_in_any_state(server, tab, state, language):
    """English wide and in light, Korean narrow and in dark: both pages have the same bones."""
    theme, size = {"en": ("light", WIDE), "ko": ("dark", NARROW)}[language]
    tab.emulate_media(color_scheme=theme)
    tab.set_viewport_size(size)
    show(server, tab, state, language)

    assert tab.evaluate("document.documentElement.dataset.bsTheme") == theme
    assert faults(tab) == []


def test_axe_would_find_a_fault(server, tab):
    show(server, tab, "busy")
    tab.evaluate(
        "document.querySelector('#aliquot-amount').removeAttribute('aria-label');"
        "document.querySelector('.aliquot-facts').style.color = '#ccc'"
    )

    assert {fault.partition(":")[0] for fault in faults(tab)} >= {"label", "color-contrast"}


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("state", STATES)
def test_nothing_is_cut_off_or_scrolls_sideways_at_320_px(server, tab, state, language):
    tab.set_viewport_size(NARROW)
    show(server, tab, state, language)

    root = tab.locator("#aliquot-picker").bounding_box()
    assert root is not None
    assert root["x"] >= 0
    assert root["x"] + root["width"] <= 320
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    too_wide = """
        [...document.querySelectorAll('#aliquot-picker *')]
            .filter(one => one.scrollWidth > one.clientWidth + 1
                && getComputedStyle(one).display !== 'inline' && one.clientWidth > 0)
            .map(one => one.outerHTML.slice(0, 120))
    """
    assert tab.evaluate(too_wide) == []


def test_without_javascript_a_size_is_chosen_and_sent(server, tab_without_javascript):
    tab = tab_without_javascript
    show(server, tab, "busy")
    tab.get_by_role("radio", name="50 blocks").check()
    tab.get_by_role("button", name="Start", exact=True).click()

    tab.wait_for_url("**_xsrf=a-token")
    (sent,) = server.sent
    assert form_options(sent) == {"share": "50 blocks", "model": "any"}


def test_without_javascript_a_remedy_starts_with_one_press(server, tab_without_javascript):
    tab = tab_without_javascript
    show(server, tab, "refused-quota")
    tab.get_by_role("button", name="Start with 40 blocks (31.9 GiB) now").click()

    tab.wait_for_url("**_xsrf=a-token")
    (sent,) = server.sent
    assert form_options(sent) == {"share": "40 blocks", "group": "nlp"}


@pytest.mark.parametrize("javascript", [True, False])
def test_enter_in_the_amount_starts_that_amount_and_no_remedy(server, chromium, javascript):
    tab = chromium.new_page(java_script_enabled=javascript)
    show(server, tab, "refused-quota")
    tab.get_by_role("radio", name="Custom size").check()
    tab.get_by_label("Amount", exact=True).first.fill("33")
    tab.get_by_label("Amount", exact=True).first.press("Enter")

    tab.wait_for_url("**_xsrf=a-token")
    (sent,) = server.sent
    options = form_options(sent)
    assert (options["share"], options["amount"], options["unit"]) == ("custom", "33", "blocks")
    tab.close()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_refusal_has_the_focus_and_leads_to_its_field(server, chromium, javascript):
    tab = chromium.new_page(java_script_enabled=javascript)
    show(server, tab, "refused-amount")

    expect(tab.locator("#aliquot-refusal")).to_be_focused()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator("#aliquot-amount")).to_be_focused()
    expect(tab.locator("#aliquot-amount")).to_have_value("lots")
    tab.close()


def test_sizes_are_walked_with_the_arrow_keys_the_unavailable_ones_too(server, tab):
    show(server, tab, "full")
    tab.locator("input[name=share]:checked").focus()
    tab.keyboard.press("ArrowDown")

    radio = tab.get_by_role("radio", name="10 blocks")
    expect(radio).to_be_focused()
    described = tab.evaluate(
        "document.activeElement.getAttribute('aria-describedby').split(' ')"
        ".map(id => document.getElementById(id).textContent).join(' ')"
    )
    assert "Not now: 0 blocks are free on all GPUs together." in " ".join(described.split())


def test_the_hub_does_not_say_the_refusal_a_second_time(server, tab):
    form = render_picker(STATES["refused-quota"]("en"))
    server.page = hub_spawn_page(form, error="50 blocks refused: group 'nlp' has 40 blocks in all.")
    tab.goto(server.url)

    assert not tab.locator(".spawn-error-msg").is_visible()
    server.page = hub_spawn_page(render_picker(STATES["busy"]("en")), error="Something else.")
    tab.goto(server.url)
    assert tab.locator(".spawn-error-msg").is_visible()


def test_verdicts_and_balances_follow_the_machine_while_the_page_is_open(server, tab):
    server.page = hub_spawn_page(
        render_picker(page(busy(), "en", {"share": "25 blocks"})).replace(
            'data-refresh-seconds="10"', 'data-refresh-seconds="2"'
        )
    )
    tab.goto(server.url)
    card = tab.locator(".aliquot-card[data-share='25 blocks']")
    expect(card.locator(".aliquot-verdict")).to_contain_text("Starts now")
    tab.get_by_role("radio", name="50 blocks").check()

    server.page = hub_spawn_page(render_picker(page(full(), "en")))
    expect(card.locator(".aliquot-verdict")).to_contain_text("Not now", timeout=10_000)
    expect(tab.locator("#aliquot-group")).to_contain_text("vision: 12 of 300 blocks free")
    expect(tab.get_by_role("radio", name="50 blocks")).to_be_checked()
    expect(tab.locator("#aliquot-summary")).to_contain_text("50 blocks")
    expect(tab.locator("#aliquot-summary")).to_contain_text("Not now", ignore_case=True)
    assert faults(tab) == []


def test_another_group_is_considered_at_once(server, tab):
    show(server, tab, "busy")
    tab.get_by_role("radio", name="nlp: 40 of 40 blocks free, you 0").check()

    tab.wait_for_function("!document.querySelector('#aliquot-picker').hasAttribute('aria-busy')")
    expect(tab.locator("#aliquot-picker")).not_to_have_attribute("aria-busy", "true")
    assert "group=nlp" in server.asked_with[-1]


def test_gb_that_only_a_slice_has_free_start_now_also_in_the_script(server, tab):
    situation = empty()
    for user, blocks in (("lin", 55), ("grace", 55), ("kim", 40), ("mary", 40)):
        situation = held(situation, Blocks(blocks), "vision", user)
    server.page = hub_spawn_page(render_picker(page(situation, "en")))
    tab.goto(server.url)
    tab.locator("#aliquot-unit").select_option("gb")
    verdict = tab.locator("#aliquot-custom-verdict")

    for amount, said in (("9", "Starts now"), ("20", "Starts now"), ("43", "Not now")):
        tab.locator("#aliquot-amount").fill(amount)
        expect(verdict).to_contain_text(said)
    tab.locator("#aliquot-unit").select_option("blocks")
    tab.locator("#aliquot-amount").fill("24")
    expect(verdict).to_contain_text("Not now")
