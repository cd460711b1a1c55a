"""Asks: whatever comes as user options is an Ask or a worded Refusal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.domain.asks import KEYS, MAX_NAME, read_ask
from aliquot.domain.refusals import Ask, Reason, Refusal
from aliquot.domain.shares import Blocks, CpuOnly, Memory, Slice
from aliquot.domain.wording import LANGUAGES, say_refusal
from tests.domain.machines import shares

nasty_texts = st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "30\n",
        "30 blocks\r\nX: 1",
        "{share}",
        "{0}",
        "%s",
        "<script>",
        "​30",
        "‮blocks 03",
        "3" * 5000,
        "é" * 300,
        "custom",
        "any",
        "mig",
        "nan",
        "1e400",
        "1g.10gb+2g.20gb",
        "\ud800",
        "x" * (1 << 20),
    ]
)
json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4299, -(10**15), 2**63])
    | st.floats()
    | st.text(max_size=20)
    | nasty_texts
    | st.sampled_from(["30 blocks", "20 GB", "gb", "gpus", "310", "vision"])
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | nasty_texts, inner, max_size=3)
    ),
    max_leaves=5,
)
options = st.dictionaries(st.sampled_from(KEYS), json_like, max_size=6) | st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=8) | nasty_texts | st.integers(), json_like, max_size=4
)


def the_refusal(given_options) -> Refusal:
    answer = read_ask(given_options)
    assert isinstance(answer, Refusal), answer
    return answer


def assert_worded_short_and_printable(refusal: Refusal) -> None:
    for language in LANGUAGES:
        sentence = say_refusal(refusal, language).sentence
        assert sentence.isprintable(), sentence
        assert 20 <= len(sentence) <= 400, sentence


@settings(max_examples=600)
@given(options | json_like)
def test_any_options_are_an_ask_or_a_short_printable_refusal(given_options):
    answer = read_ask(given_options)

    if isinstance(answer, Ask):
        assert read_ask(answer.to_options()) == answer
    else:
        assert answer.reason.is_users_mistake
        assert_worded_short_and_printable(answer)


@pytest.mark.parametrize("depth", [900, 990, 100_000])
def test_options_nested_deeper_than_python_recurses_are_refused(depth):
    nested: list = []
    for _ in range(depth):
        nested = [nested]

    for hostile in (nested, {"share": nested}, {"share": {"a": nested}}):
        refusal = the_refusal(hostile)
        assert refusal.reason is Reason.BAD_OPTION_VALUE
        assert_worded_short_and_printable(refusal)


def test_a_number_too_long_to_print_is_refused_also_inside_a_list():
    for hostile in (10**5000, [10**5000], {"a": -(10**5000)}):
        assert_worded_short_and_printable(the_refusal({"share": hostile}))
        assert_worded_short_and_printable(the_refusal(hostile))


@given(
    st.builds(
        Ask,
        shares | st.just(CpuOnly()),
        group=st.none() | st.sampled_from(["vision", "연구실", "a" * MAX_NAME, "42", "30 blocks"]),
        model=st.none() | st.sampled_from(["H100-80GB", "A100-80GB"]),
        isolated=st.booleans(),
    )
)
def test_an_ask_reads_back_from_its_own_options(ask):
    expected = ask if not isinstance(ask.share, CpuOnly) else Ask()

    assert read_ask(ask.to_options()) == expected


@pytest.mark.parametrize(
    ("given_options", "ask"),
    [
        ({}, Ask()),
        ({"share": "cpu", "group": "vision"}, Ask()),
        ({"share": ""}, Ask()),
        ({"share": "", "amount": "", "unit": "gb"}, Ask()),
        ({"share": None, "group": None}, Ask()),
        ({"share": 30}, Ask(Blocks(30))),
        ({"share": "custom", "amount": "30"}, Ask(Blocks(30))),
        ({"share": "custom", "amount": "3.1", "unit": "gpus"}, Ask(Blocks(310))),
        ({"share": "custom", "amount": 20, "unit": "gb"}, Ask(Memory(20_000))),
        ({"amount": "20", "unit": "gb"}, Ask(Memory(20_000))),
        # A form sends all its fields; the amount belongs to "custom" alone.
        ({"share": "1g.10gb", "amount": "30", "unit": "blocks"}, Ask(Slice("1g.10gb"))),
        ({"share": "10 blocks", "isolation": "mig"}, Ask(Blocks(10), isolated=True)),
        ({"share": "10 blocks", "model": "any", "group": ""}, Ask(Blocks(10))),
        ({"share": "10 blocks", "group": " vision "}, Ask(Blocks(10), group="vision")),
    ],
)
def test_options_of_the_form_and_of_rest_are_understood(given_options, ask):
    assert read_ask(given_options) == ask


@pytest.mark.parametrize(
    ("given_options", "reason", "part"),
    [
        ({"shares": "30"}, Reason.UNKNOWN_OPTION, "shares"),
        ({"share": True}, Reason.BAD_OPTION_VALUE, "True"),
        ({"share": 0.5}, Reason.BAD_OPTION_VALUE, "0.5"),
        ({"share": math.nan}, Reason.BAD_OPTION_VALUE, "nan"),
        ({"share": ["30"]}, Reason.BAD_OPTION_VALUE, "a list"),
        ({"share": {"a": 1}}, Reason.BAD_OPTION_VALUE, "an object"),
        ({"share": 10**20}, Reason.BAD_OPTION_VALUE, "a huge number"),
        ({"share": -1}, Reason.UNREADABLE_SHARE, "-1"),
        ({"share": "0"}, Reason.UNREADABLE_SHARE, "'0'"),
        ({"share": "0.305 gpus"}, Reason.UNREADABLE_SHARE, "0.305 gpus"),
        ({"share": "custom"}, Reason.BAD_OPTION_VALUE, "Option 'amount'"),
        ({"share": "custom", "amount": "3", "unit": "tb"}, Reason.BAD_OPTION_VALUE, "'tb'"),
        ({"share": "30", "isolation": "yes"}, Reason.BAD_OPTION_VALUE, "any, mig"),
        ({"share": "30", "group": "g" * 256}, Reason.BAD_OPTION_VALUE, "255"),
        ({"share": "2 x 1g.10gb"}, Reason.MIG_NOT_COMBINABLE, "2 x 1g.10gb"),
        ({"share": "1g.10gb+100 blocks"}, Reason.MIG_NOT_COMBINABLE, "one MIG slice"),
        ([], Reason.BAD_OPTION_VALUE, "an object with share"),
        (None, Reason.BAD_OPTION_VALUE, "user_options"),
    ],
)
def test_a_refused_option_is_named_with_its_value(given_options, reason, part):
    refusal = the_refusal(given_options)

    assert refusal.reason is reason
    assert part in say_refusal(refusal).sentence


def test_options_that_another_form_knows_are_passed_over_but_not_read():
    assert read_ask({"share": "30", "image": ["x"]}, also_known={"image"}) == Ask(Blocks(30))


def test_a_megabyte_of_text_is_refused_in_one_short_sentence():
    for key in KEYS:
        assert_worded_short_and_printable(the_refusal({key: "9" * (1 << 20)}))
    assert_worded_short_and_printable(the_refusal({"k" * (1 << 20): 1}))
