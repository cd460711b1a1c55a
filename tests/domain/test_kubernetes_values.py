"""Fields and quantities as they stand in objects of Kubernetes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain.kubernetes_values import (
    array,
    decimal,
    full_name,
    mapping,
    number,
    rows,
    text,
    whole_number,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b"]), inner),
)


@pytest.mark.parametrize(
    "written, number",
    [
        ("7", 7), ("80Gi", 80 << 30), ("1k", 1000), ("2e3", 2000), ("500m", 1), ("0.5Ki", 512),
        (3, 3), ("-1", None), ("", None), ("1e999999999", None), ("9" * 40, None), ("7 ", None),
        ("٧", None), (True, None), (1.0, None), (None, None), ("1Zi", None), ("0", 0),
    ],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_writes_them(written, number):
    assert whole_number(written) == number


@given(
    count=st.integers(0, 999), suffix=st.sampled_from(["m", "", "k", "M", "G", "Ki", "Mi", "Gi"])
)
def test_a_quantity_is_rounded_up_and_never_down(count, suffix):
    units = {"m": Decimal("0.001"), "": 1, "k": 10**3, "M": 10**6, "G": 10**9}
    units |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

    read = whole_number(f"{count}{suffix}")

    assert read is not None
    assert read - 1 < count * units[suffix] <= read


@pytest.mark.parametrize(
    ("written", "read"),
    [("7", 7), ("0", 0), ("123456789", 123456789), ("1" * 10, None), ("-1", None), ("", None),
     ("٧", None), ("1.0", None), (7, None), (None, None)],
)  # fmt: skip
def test_a_label_says_a_number_in_digits_alone(written, read):
    assert decimal(written) == read


def test_a_path_ends_at_an_object_or_at_nothing():
    pod = {"metadata": {"annotations": {"a": "1"}, "labels": ["a"]}}

    assert mapping(pod, "metadata", "annotations") == {"a": "1"}
    assert mapping(pod, "metadata", "labels") == {}
    assert mapping(pod, "spec", "containers", "env") == {}


def test_rows_of_a_list_are_its_objects_also_in_a_tuple_of_a_hook():
    assert list(rows({"a": [{"b": 1}, None, "x", {}]}, "a")) == [{"b": 1}, {}]
    assert list(rows({"a": ({"b": 1},)}, "a")) == [{"b": 1}]
    assert list(rows({"a": {"b": 1}}, "a")) == []


def test_a_name_stands_behind_its_namespace():
    assert full_name({"metadata": {"name": "p", "namespace": "n"}}) == "n/p"
    assert full_name({"metadata": {"name": "p"}}) == "p"


@pytest.mark.parametrize("written", ["", "{}", "7", "[", "[" * 100_000])
def test_what_is_no_json_array_is_none(written):
    assert array(written) is None


@given(anything)
def test_a_field_of_whatever_type_reads_as_its_own_or_as_empty(holder):
    assert isinstance(mapping(holder, "a", "b"), dict)
    assert all(isinstance(row, dict) for row in rows(holder, "a"))
    assert isinstance(text(holder, "a"), str)
    assert number(holder, "a") >= 0
    assert isinstance(full_name(holder), str)
    assert whole_number(holder) is None or type(whole_number(holder)) is int
