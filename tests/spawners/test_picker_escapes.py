"""Foreign text on the spawn page: names and options are shown as text, never run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup

from aliquot.domain.asks import KEYS
from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.judging import Situation
from aliquot.domain.leases import Person
from aliquot.domain.quota import GroupTree, Quota, ResourceGroup
from aliquot.spawners.picker import PickerPage, render_picker
from tests.browser.picker_states import busy, empty, machine, page

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)><!--"


def soup(page: PickerPage) -> BeautifulSoup:
    return BeautifulSoup(render_picker(page), "html.parser")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("hostile", [HOSTILE, 7, True, None, ["25 blocks"], {"a": 1}, "\0\x1b[1m"])
def test_hostile_options_are_shown_as_text_or_not_at_all(key, hostile):
    chosen = {"share": "custom", "amount": "3", "unit": "blocks", key: hostile}
    shown = replace(page(busy(), "en", chosen), last_used=chosen)
    refused = page(busy(), "en", {**chosen, key: HOSTILE, "x": HOSTILE}, refused=True)

    for made in (shown, refused):
        html = soup(made)
        assert_only_our_code(html)


def test_hostile_names_are_shown_as_text():
    tree = GroupTree.of(
        [ResourceGroup(name, Quota(cost_of_blocks(10))) for name in (HOSTILE, "vision")]
    )
    situation = Situation(tree, busy().books, machine())
    person = Person(7, HOSTILE, frozenset({HOSTILE, "vision"}))
    chosen = {"share": "25 blocks", "group": HOSTILE}
    html = soup(page(situation, "en", chosen, refused=True, person=person))

    assert_only_our_code(html)
    assert HOSTILE in [radio["value"] for radio in html.select("[name=group]")]
    assert_only_our_code(soup(page(empty(), "en", person=Person(7, HOSTILE, frozenset()))))


def assert_only_our_code(html: BeautifulSoup) -> None:
    assert html.select("img") == []
    scripts = [(tag.get("type"), tag.get("id")) for tag in html.select("script")]
    ours = [("application/json", "aliquot-runs"), ("application/json", "aliquot-strings")]
    assert scripts in (ours, [*ours, (None, None)])
    for tag in html.find_all(True):
        assert not any(name.lower().startswith("on") for name in tag.attrs)
    for data in html.select("script[type]"):
        json.loads(data.get_text())
