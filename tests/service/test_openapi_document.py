"""The OpenAPI document: generated, up to date in the documentation, and kept by the service.

Schemathesis reads the document and sends what it allows and what it does not, to the service
of a real Hub; every answer must be one that the document tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

from aliquot.service.endpoints import ENDPOINTS
from aliquot.service.openapi import as_text, document
from tests.fixtures.hub import RunningHub, hub_factory
from tests.fixtures.sharing_hub import SharingHub, sharing_hub_starter

IN_THE_DOCUMENTATION = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
THOROUGHLY = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def sharing(tmp_path_factory) -> Iterator[SharingHub]:
    folder = tmp_path_factory.mktemp("openapi")
    factory = hub_factory(folder)
    start_hub = next(factory)
    try:
        sharing = sharing_hub_starter(start_hub, folder)(
            'c.JupyterHub.load_roles = c.JupyterHub.load_roles + [{"name": "reader", '
            '"users": ["ada"], "scopes": ["custom:aliquot:read"]}]'
        )
        sharing.hub.wait_for_service()
        sharing.hub.start_server("ada", options={"share": "30 blocks"})
        yield sharing
    finally:
        factory.close()


@pytest.fixture(scope="module")
def hub(sharing) -> RunningHub:
    return sharing.hub


@pytest.fixture(scope="module")
def headers(hub) -> dict[str, str]:
    return {"Authorization": f"token {hub.token_of('ada')}"}


@pytest.fixture(scope="module")
def told_by_the_service(hub, headers):
    """The document as the service gives it."""
    schema = schemathesis.openapi.from_dict(hub.service("GET", "api/openapi.json").json())
    schema.config.update(base_url=f"{hub.url}services/aliquot", headers=headers)
    # What is wrong and too large as well may be refused for its size.
    rejection = schema.config.checks.negative_data_rejection
    rejection.expected_statuses = [*rejection.expected_statuses, "413"]
    return schema


def takes_anything(path: str, method: str) -> bool:
    item = document()["paths"][path]
    operation = item[method]
    return bool(operation["parameters"] or item.get("parameters") or "requestBody" in operation)


# Where nothing is taken, nothing that is sent can be wrong.
ATTEMPTS = [
    pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
    for path, item in document()["paths"].items()
    for method in item
    for mode in GenerationMode
    if method != "parameters" and (mode is GenerationMode.POSITIVE or takes_anything(path, method))
]
BOTH = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)


def test_the_documentation_holds_the_present_document():
    assert IN_THE_DOCUMENTATION.read_text("utf-8") == as_text(), (
        "run: python -m aliquot.service.openapi > docs/reference/openapi.json"
    )


def test_every_endpoint_and_method_is_in_the_document():
    paths = document()["paths"]
    for endpoint in ENDPOINTS:
        told = set(paths[f"/{endpoint.path}"]) - {"parameters"}
        assert told == {operation.method for operation in endpoint.operations}
        handled = {name.lower() for name in endpoint.handler.methods()}
        assert told == handled, f"{endpoint.path}: the handler takes {handled}"


def test_the_service_gives_the_document_with_its_own_address(hub):
    told = hub.service("GET", "api/openapi.json").json()

    assert told["servers"] == [{"url": "/services/aliquot"}]
    assert told["paths"] == json.loads(as_text())["paths"]


@pytest.mark.slow
@pytest.mark.parametrize("path, method, mode", ATTEMPTS)
def test_every_answer_is_one_that_the_document_tells(told_by_the_service, path, method, mode):
    operation = told_by_the_service[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not takes_anything(path, method):
        pytest.skip("nothing that is sent to it can be wrong")

    statuses = set()

    @THOROUGHLY
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        answer = case.call(timeout=30)
        statuses.add(answer.status_code)
        # A share is text whose grammar a schema cannot hold, so allowed values may be refused.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    send()
    if mode is GenerationMode.POSITIVE and "lease_id" not in path:
        assert 200 in statuses


@pytest.mark.slow
@BOTH
def test_a_receipt_for_an_open_lease_is_kept_or_refused_as_the_document_tells(
    told_by_the_service, sharing, mode
):
    lease_id = sharing.store.open_leases()[0].id
    operation = told_by_the_service["/api/receipts/{lease_id}"]["PUT"]
    statuses = set()

    @THOROUGHLY
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        case.path_parameters = {"lease_id": lease_id}
        if isinstance(case.body, dict) and "lease_id" in case.body:
            case.body["lease_id"] = lease_id
        answer = case.call(timeout=30)
        statuses.add(answer.status_code)
        case.validate_response(
            answer,
            checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
        )

    send()
    assert (200 if mode is GenerationMode.POSITIVE else 400) in statuses
