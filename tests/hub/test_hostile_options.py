"""Whatever comes as options, by whichever way: one sentence, no 500, no lease."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fixtures.hub import Browser
from tests.fixtures.sharing_hub import SharingHub
from tests.hub.test_start_and_stop import error_of

# Values that are not a share that ada could start. Sizes that she could are kept out by
# `is_harmless`, so that every example has one right answer: no.
TEXTS = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["0 blocks", "101 blocks", "-1", "1e9", "nan", "inf", "0x10", "٣", "1g.10gb+1g.10gb",
         "9g.99gb", "2x1g.10gb", "' OR 1=1 --", "<script>alert(1)</script>", "../../etc/passwd",
         "1" * 5000, "ࠀ" * 64, "\x00", "1g.10gb\n", "99999999999999999999 blocks", "0.001 gpus"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        TEXTS, st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = st.one_of(
    st.sampled_from(["share", "amount", "unit", "group", "model", "isolation"]),
    st.text(max_size=12),
)
OPTIONS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4)
# The names of a form's fields travel in headers, where the Hub itself refuses control characters.
FIELD_NAMES = KEYS.filter(lambda key: key and key.isprintable() and '"' not in key)
FIELDS = st.dictionaries(FIELD_NAMES, TEXTS, min_size=1, max_size=4)

PATIENT = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def end(shared: SharingHub, user: str = "ada") -> None:
    for name in list(shared.hub.api("GET", f"users/{user}").json().get("servers", {})):
        shared.hub.stop_server(user, name)


def check(shared: SharingHub, status: int, text: str, user: str = "ada") -> None:
    """Refused in a sentence, or a start that the books allow; never a fault."""
    assert status < 500, text[:2000]
    assert "Traceback" not in text
    held = shared.store.open_leases()
    if status >= 400:
        assert held == [], text[:2000]
    else:
        assert all(lease.charge.blocks <= 100 for lease in held)
        end(shared, user)


def by_rest(path: str, wrap: Callable[[Any], Any]) -> Callable[[SharingHub, Any, str], None]:
    def send(shared: SharingHub, options: Any, token: str) -> None:
        answer = shared.hub.api("POST", path, token=token, json=wrap(options))
        check(shared, answer.status_code, answer.text)
        if answer.status_code >= 400 and "refused" in answer.text:
            assert len(answer.json()["message"]) < 1500

    return send


@pytest.fixture(scope="module")
def tokens(sharing_hub: SharingHub) -> dict[str, str]:
    """Who may ask for ada's server: she, an admin, and a service (the fixture's own token)."""
    from tests.fixtures.hub import ADMIN_TOKEN

    return {
        "user": sharing_hub.hub.token_of("ada"),
        "admin": sharing_hub.hub.token_of("admin"),
        "service": ADMIN_TOKEN,
    }


@pytest.mark.parametrize("who", ["user", "admin", "service"])
@PATIENT
@given(options=OPTIONS)
@example(options={"share": "1g.10gb" + "x" * 1_000_000})
@example(options={"share": 10**400})
@example(options={"share": True})
@example(options={"share": 1.5})
@example(options={"share": "10 blocks", "group": "nlp"})
def test_options_by_rest_for_the_default_server(sharing_hub, tokens, who, options):
    send = by_rest("users/ada/server", lambda given: {"user_options": given})
    send(sharing_hub, options, tokens[who])


@PATIENT
@given(options=OPTIONS)
def test_options_as_the_whole_body_as_older_clients_send_them(sharing_hub, tokens, options):
    by_rest("users/ada/server", lambda given: given)(sharing_hub, options, tokens["user"])


@PATIENT
@given(options=OPTIONS)
def test_options_by_rest_for_a_named_server(sharing_hub, tokens, options):
    send = by_rest("users/ada/servers/odd", lambda given: {"user_options": given})
    send(sharing_hub, options, tokens["user"])


@pytest.mark.parametrize(
    "body", ["NaN", "[1]", '"x"', '{"share": NaN}', '{"share": Infinity}', "{"]
)
def test_a_body_that_is_no_json_object(sharing_hub, tokens, body):
    answer = sharing_hub.hub.api(
        "POST", "users/ada/server", token=tokens["user"], data=body,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    check(sharing_hub, answer.status_code, answer.text)


@PATIENT
@given(options=OPTIONS)
def test_options_that_were_stored_first_and_started_later(sharing_hub, tokens, options):
    hub = sharing_hub.hub
    hub.api("POST", "users/ada/servers/kept", json={"share": "cpu"})
    hub.wait_for_server("ada", "kept")
    hub.stop_server("ada", "kept")
    stored = hub.api("PATCH", "users/ada/servers/kept", json={"user_options": options})
    assert stored.status_code < 500

    answer = hub.api("POST", "users/ada/servers/kept", token=tokens["admin"])

    check(sharing_hub, answer.status_code, answer.text)


@pytest.fixture(scope="module")
def ada(sharing_hub: SharingHub) -> Browser:
    return sharing_hub.hub.login("ada")


@PATIENT
@given(fields=FIELDS)
def test_options_by_form(sharing_hub, ada, fields):
    answer = ada.submit_spawn_form("ada", fields)

    check(sharing_hub, answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert error_of(answer.text)
        assert "<script>alert" not in answer.text


@PATIENT
@given(fields=FIELDS)
def test_options_by_link(sharing_hub, ada, fields):
    query = urlencode({f"opt-{key}": value for key, value in fields.items()})

    answer = ada.open(f"hub/spawn/ada?{query}", headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code < 500
    assert "<script>alert" not in answer.text
    assert not sharing_hub.hub.server("ada")
    assert sharing_hub.store.open_leases() == []


def test_json_numbers_that_are_none_are_shown_as_text():
    """What the Hub's JSON reader lets through must not break the sentence."""
    from aliquot.domain.asks import read_ask
    from aliquot.domain.refusals import Refusal
    from aliquot.domain.wording import say_refusal

    for value in (math.nan, math.inf, json.loads("1e999")):
        refusal = read_ask({"share": value})
        assert isinstance(refusal, Refusal)
        assert say_refusal(refusal).sentence
