"""Lists are read object by object, and what is no list is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.discovery.kubernetes.list_page import read_page

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    fields=st.dictionaries(st.text(), values, max_size=4),
    items=st.lists(values, max_size=4),
    indent=st.sampled_from([None, 1]),
)
def test_a_page_says_the_same_as_when_it_is_parsed_whole(fields, items, indent):
    fields.pop("items", None)
    found: list[Any] = []
    text = json.dumps({**fields, "items": items, "zz": 1}, indent=indent)

    assert read_page(text.encode(), found.append) == {**fields, "zz": 1}
    assert found == items


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"items":[', b'{"items":[1', b'{"items":[1 2]}', b"\xff", b"null"]
)
def test_what_is_no_object_is_refused(body):
    with pytest.raises(ValueError, match=r"expected|Expecting|decode"):
        read_page(body, lambda _item: None)


def test_items_that_are_none_are_a_field():
    assert read_page(b'{"items":null}', print) == {"items": None}
