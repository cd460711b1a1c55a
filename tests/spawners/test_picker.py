"""The spawn page's form as HTML, in every state, and what it sends back."""

from __future__ import annotations

import gzip
import json
import re
from urllib.parse import parse_qs

import pytest
from bs4 import BeautifulSoup, Tag

from aliquot.domain.admission import decide
from aliquot.domain.asks import read_ask
from aliquot.domain.judging import Grant
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks, Slice, read_share
from aliquot.spawners.picker import PickerPage, form_options, render_picker, was_offered
from tests.browser.picker_states import ADA, STATES, busy, empty, full, page

LANGUAGES = ("en", "ko")


def soup(page: PickerPage) -> BeautifulSoup:
    return BeautifulSoup(render_picker(page), "html.parser")


def cards(html: BeautifulSoup) -> dict[str, Tag]:
    return {str(card["data-share"]): card for card in html.select(".aliquot-card")}


def text(tag: Tag | None) -> str:
    assert tag is not None
    return " ".join(tag.get_text().split())


def checked(html: BeautifulSoup, name: str = "share") -> str | None:
    (found,) = html.select(f'input[name="{name}"][checked]') or [None]
    return None if found is None else str(found["value"])


def fields(html: BeautifulSoup) -> dict[str, list[str]]:
    """What a browser sends of the form when Start is pressed."""
    sent: dict[str, list[str]] = {}
    for control in html.select("input[name], select[name]"):
        name, kind = str(control["name"]), control.get("type", "text")
        if control.name == "select":
            option = control.select_one("option[selected]") or control.select_one("option")
            assert option is not None
            value = str(option["value"])
        elif kind in ("radio", "checkbox") and not control.has_attr("checked"):
            continue
        else:
            value = str(control.get("value", ""))
        sent.setdefault(name, []).append(value)
    return sent


def test_each_size_says_memory_isolation_model_charge_and_verdict():
    found = cards(soup(page(empty(), "en")))

    assert list(found) == [
        "cpu", "10 blocks", "25 blocks", "50 blocks", "100 blocks",
        "1g.10gb", "2g.20gb", "3g.40gb", "custom",
    ]  # fmt: skip
    assert text(found["25 blocks"].select_one(".aliquot-facts")) == (
        "19.9 GiB memory, H100-80GB shared GPU, memory-capped by MPS "
        "charged 25 of the 40 blocks free in nlp"
    )
    assert text(found["1g.10gb"].select_one(".aliquot-facts")) == (
        "9.5 GiB memory, A100-80GB hardware slice (MIG) charged 15 of the 40 blocks free in nlp"
    )
    assert text(found["25 blocks"].select_one(".aliquot-verdict")) == "Starts now"


def test_a_size_that_does_not_start_says_why_and_what_would():
    found = cards(soup(page(busy(), "en")))

    slice_ = found["3g.40gb"]
    assert slice_["data-state"] == "later"
    said = text(slice_.select_one(".aliquot-verdict"))
    assert said.startswith("Not now: 0 of 1 slices that would do are free.")
    assert "Start with 2g.20gb (19.5 GiB) now." in said
    assert "Try again at 14:22 UTC" in said


def test_a_size_that_does_not_start_stays_focusable_and_is_described():
    for card in cards(soup(page(full(), "en"))).values():
        radio = card.select_one("input[type=radio]")
        assert radio is not None
        assert not radio.has_attr("disabled")
        if card["data-share"] in ("cpu", "custom"):
            continue
        assert radio["aria-disabled"] == "true"
        assert (
            f"{str(radio['aria-describedby']).split()[-1]}"
            == card.select(".aliquot-verdict")[0]["id"]
        )


def test_more_than_one_person_may_ever_hold_is_not_possible_rather_than_not_now():
    found = cards(soup(page(empty(), "en")))

    assert text(found["100 blocks"].select_one(".aliquot-word")) == "Not possible"


def test_a_used_up_quota_is_not_now_since_it_ends_when_somebody_stops():
    found = cards(soup(page(full(), "en", {"share": "25 blocks", "group": "vision"})))

    assert text(found["25 blocks"].select_one(".aliquot-verdict")).startswith(
        "Not now: group 'vision' holds 288 of its 300 blocks."
    )


def test_groups_are_radios_with_balances_where_there_are_several():
    html = soup(page(busy(), "en", {"share": "10 blocks", "group": "vision"}))

    labels = [text(label) for label in html.select("#aliquot-group label")]
    assert labels == [
        "Whichever of my groups can pay",
        "nlp: 40 of 40 blocks free, you 0",
        "vision: 127 of 300 blocks free, you 0 of 60",
    ]
    assert checked(html, "group") == "vision"


def test_a_single_group_is_no_question_and_its_balance_is_told():
    html = soup(STATES["one-group"]("en"))

    assert html.select_one("[name=group]") is None
    assert "vision: 127 of 300 blocks free, you 0 of 60." in text(html.select_one("#aliquot-size"))


def test_no_gpu_is_chosen_until_somebody_chooses():
    assert checked(soup(page(empty(), "en"))) == "cpu"


def test_the_last_used_size_comes_first_and_is_named():
    html = soup(STATES["last-used"]("en"))

    assert list(cards(html))[:2] == ["cpu", "30 blocks"]
    assert text(cards(html)["30 blocks"].select_one(".aliquot-name")) == "30 blocks last used"
    assert checked(html) == "30 blocks"


@pytest.mark.parametrize(
    ("chosen", "amount", "unit"),
    [
        ({"share": "custom", "amount": "55", "unit": "blocks"}, "55", "blocks"),
        ({"share": "custom", "amount": "12.5", "unit": "gb"}, "12.5", "gb"),
        ({"share": "37 blocks"}, "37", "blocks"),
        ({"share": "12 GB"}, "12", "gb"),
        ({"share": "custom", "amount": "lots", "unit": "gpus"}, "lots", "gpus"),
        ({"share": "7g.80gb"}, "7g.80gb", "blocks"),
    ],
)
def test_a_size_without_a_card_is_kept_in_the_custom_fields(chosen, amount, unit):
    html = soup(page(busy(), "en", chosen))

    assert checked(html) == "custom"
    field = html.select_one("#aliquot-amount")
    assert field is not None
    assert field["value"] == amount
    selected = html.select_one("#aliquot-unit option[selected]")
    assert selected is not None
    assert selected["value"] == unit


def test_a_custom_amount_says_its_verdict_without_javascript():
    html = soup(STATES["custom"]("en"))

    assert text(html.select_one("#aliquot-custom-verdict")).startswith(
        "Not now: 90 blocks are free, but the largest single piece is 50 blocks."
    )
    assert [text(item.strong) for item in html.select(".aliquot-ranges li")] == [
        "1 to 50 blocks", "51 to 60 blocks", "61 to 200 blocks",
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["refused-quota", "refused-full", "refused-group", "race-lost"])
def test_every_button_of_a_refusal_sends_a_request_that_is_granted(state):
    shown = STATES[state]("en")
    situation = full() if state in ("refused-full", "race-lost") else busy()
    buttons = soup(shown).select("button[name=instead]")

    assert buttons
    for button in buttons:
        options = form_options({**fields(soup(shown)), "instead": [str(button["value"])]})
        ask = read_ask(options)
        assert isinstance(ask, Ask)
        assert isinstance(decide(ask, ADA, situation), Grant), text(button)


def test_a_refusal_tells_what_why_and_ways_out_and_takes_the_focus():
    html = soup(STATES["refused-quota"]("en"))

    box = html.select_one("#aliquot-refusal")
    assert box is not None
    assert box.has_attr("autofocus")
    assert text(box.h2) == "✗50 blocks refused"
    assert text(html.select_one("#aliquot-refusal-why")) == (
        "Group 'nlp' has 40 blocks in all. Your choices are kept."
    )
    assert [text(way) for way in html.select(".aliquot-ways li")] == [
        "Start with 40 blocks (31.9 GiB) now",
        "Let group 'vision' pay: it starts now",
        "Start without a GPU",
    ]
    assert checked(html) == "50 blocks"


@pytest.mark.parametrize(
    ("chosen", "field"),
    [
        ({"share": "custom", "amount": "lots", "unit": "blocks"}, "aliquot-amount"),
        ({"share": "custom", "amount": "3", "unit": "stone"}, "aliquot-unit"),
        ({"share": "25 blocks", "group": "others"}, "aliquot-group"),
        ({"share": "25 blocks", "model": "TPU"}, "aliquot-model"),
        ({"share": "50 blocks", "isolation": "mig"}, "aliquot-isolation"),
        ({"share": "25 blocks", "isolation": "please"}, "aliquot-isolation"),
        ({"share": "100 blocks"}, "aliquot-size"),
        ({"share": "25 blocks", "gres": "gpu:8"}, "aliquot-size"),
    ],
)
def test_a_refusal_links_to_the_field_that_caused_it_and_the_field_points_back(chosen, field):
    html = soup(page(busy(), "en", chosen, refused=True))

    link = html.select_one("#aliquot-refusal-why a")
    assert link is not None
    assert link["href"] == f"#{field}"
    target = html.find(id=field)
    assert isinstance(target, Tag)
    assert "aliquot-refusal-why" in str(target["aria-describedby"])


def test_a_lost_race_says_so():
    assert "somebody was faster" in text(
        soup(STATES["race-lost"]("en")).select_one("#aliquot-refusal")
    )
    assert "somebody was faster" not in soup(STATES["refused-full"]("en")).get_text()


def test_a_form_remembers_what_its_page_had_promised():
    sent = fields(soup(page(busy(), "en")))

    assert was_offered(sent, Blocks(50))
    assert was_offered(sent, Slice("1g.10gb"))
    assert not was_offered(sent, Blocks(51))
    assert not was_offered(sent, Slice("3g.40gb"))
    assert not was_offered({"seen": ["1-,x-9,-5,²"]}, Blocks(3))
    assert not was_offered({}, Blocks(3))


@pytest.mark.parametrize(
    ("state", "title"),
    [
        ("gpus-unreadable", "GPU launches are paused."),
        ("books-unreadable", "GPU launches are paused."),
        ("no-group", "No GPU for newcomer."),
        ("no-gpus", "No GPU to give."),
    ],
)
def test_where_no_gpu_can_start_a_notebook_without_one_still_can(state, title):
    html = soup(STATES[state]("en"))

    assert text(html.select_one(".aliquot-banner strong")) == title
    assert list(cards(html)) == ["cpu"]
    assert checked(html) == "cpu"
    assert form_options(fields(html)) == {"share": "cpu"}


def test_an_old_reading_says_how_old_it_is():
    assert text(soup(STATES["stale"]("en")).select_one(".aliquot-banner")).startswith(
        "⚠As of 13:59 UTC."
    )


def test_a_simulated_machine_is_called_so_on_the_page_and_on_each_gpu_size():
    html = soup(STATES["simulated"]("en"))

    assert "Simulated machine." in text(html.select_one(".aliquot-banner"))
    for share, card in cards(html).items():
        if share not in ("cpu", "custom"):
            assert "(simulated)" in text(card.select_one(".aliquot-facts"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", STATES)
def test_every_id_is_there_once_and_every_reference_leads_somewhere(state, language):
    html = soup(STATES[state](language))

    ids = [str(tag["id"]) for tag in html.select("[id]")]
    assert len(ids) == len(set(ids))
    for tag in html.select("[aria-describedby], [aria-labelledby], label[for]"):
        for attribute in ("aria-describedby", "aria-labelledby", "for"):
            assert set(str(tag.get(attribute, "")).split()) <= set(ids)
    for link in html.select("a[href^='#']"):
        assert str(link["href"])[1:] in ids


@pytest.mark.parametrize("state", STATES)
def test_both_languages_show_the_same_page_in_other_words(state):
    def bones(language: str) -> list[object]:
        html = soup(STATES[state](language))
        kept = ("name", "value", "data-share", "data-state", "id", "aria-disabled", "checked")
        return [
            (tag.name, [(key, tag.get(key)) for key in kept])
            for tag in html.find_all(True)
            if tag.name != "script"
        ]

    assert bones("en") == bones("ko")
    korean = soup(STATES[state]("ko"))
    root = korean.select_one("#aliquot-picker")
    assert root is not None
    assert root["lang"] == "ko"
    assert re.search("[가-힣]", text(korean.select_one("#aliquot-summary")))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", STATES)
def test_what_the_untouched_form_sends_is_understood_or_is_what_was_refused(state, language):
    shown = STATES[state](language)
    ask = read_ask(form_options(fields(soup(shown))))

    if state in ("refused-amount",):
        assert shown.refusal == ask
    else:
        assert isinstance(ask, Ask)
        if state not in ("books-unreadable", "refused-group"):
            before = read_ask(shown.chosen)
            assert isinstance(before, Ask)
            assert ask == before


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", STATES)
def test_the_page_adds_at_most_30_kb_compressed(state, language):
    assert len(gzip.compress(render_picker(STATES[state](language)).encode())) <= 30_000


def test_the_runs_cover_every_block_count_once():
    data = soup(page(busy(), "en")).select_one("#aliquot-runs")
    assert data is not None
    runs = json.loads(data.get_text())["blocks"]

    assert [run["from"] for run in runs] == [1, *[run["to"] + 1 for run in runs[:-1]]]
    assert runs[-1]["to"] == 200
    assert runs[0]["memory_text_per_block_mib"] == 815.59


def test_a_form_sends_no_amount_beside_a_preset():
    sent = {"share": ["25 blocks"], "amount": ["55"], "unit": ["blocks"], "group": [""]}

    assert form_options({**sent, "seen": ["1-50"], "model": ["any"]}) == {
        "share": "25 blocks",
        "model": "any",
    }


def test_fields_that_repeat_or_are_unknown_are_left_for_the_reader_of_options_to_refuse():
    options = form_options({"share": ["25 blocks", "50 blocks"], "gres": ["gpu:8"]})

    assert options == {"share": ["25 blocks", "50 blocks"], "gres": "gpu:8"}


def test_every_card_sends_a_size_that_can_be_read():
    for share in cards(soup(page(empty(), "en"))):
        assert share == "custom" or str(read_share(share)) == share


def test_a_remedys_button_carries_the_whole_request():
    button = soup(STATES["refused-quota"]("en")).select("button[name=instead]")[1]

    assert parse_qs(str(button["value"])) == {"share": ["50 blocks"], "group": ["vision"]}


@pytest.mark.parametrize("chosen", [{"isolation": "please"}, {"model": "TPU"}])
def test_advanced_choices_are_unfolded_where_one_of_them_was_refused(chosen):
    html = soup(page(busy(), "en", {"share": "25 blocks", **chosen}, refused=True))

    assert html.select_one("details[open]") is not None
    assert soup(page(busy(), "en")).select_one("details[open]") is None
