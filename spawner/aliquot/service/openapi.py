"""OpenAPI: the document of the REST API, generated from the endpoints and their models.

``python -m aliquot.service.openapi`` prints it; a test holds the copy in the documentation
to it.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from aliquot.service.endpoints import ENDPOINTS, Endpoint, ErrorModel, Operation
from aliquot.service.models import LEASE_ID_PATTERN, Received

_REFERENCES = "#/components/schemas/{model}"
_OPEN = "health"


def document(server_url: str = "/services/aliquot") -> dict[str, Any]:
    """The document for a service at this address."""
    models = _models()
    _, schemas = models_json_schema(models, ref_template=_REFERENCES)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Aliquot",
            "version": version("aliquot"),
            "description": (
                "GPU sharing for JupyterHub. Times are UTC, memory is MiB, a block is 1/100 of "
                "one GPU. Send a Hub API token as `Authorization: token …`; pages use the "
                "login cookie with the `X-XSRFToken` header. Every error is an ErrorModel."
            ),
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": server_url.rstrip("/")}],
        "security": [{"token": []}],
        "paths": {f"/{endpoint.path}": _path(endpoint) for endpoint in ENDPOINTS}
        | {"/api/openapi.json": _own_path()},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token <a Hub API token>`",
                }
            },
        },
    }


def _models() -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    found: dict[type[BaseModel], JsonSchemaMode] = {ErrorModel: "serialization"}
    for endpoint in ENDPOINTS:
        for operation in endpoint.operations:
            for model in (operation.answer, operation.body, *operation.other_answers.values()):
                if isinstance(model, type):
                    # What comes in and goes out again is described as what may come in.
                    taken = issubclass(model, Received)
                    found[model] = "validation" if taken else "serialization"
    return list(found.items())


def _path(endpoint: Endpoint) -> dict[str, Any]:
    item: dict[str, Any] = {
        operation.method: _operation(endpoint, operation) for operation in endpoint.operations
    }
    if "{lease_id}" in endpoint.path:
        item["parameters"] = [
            {
                "name": "lease_id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": LEASE_ID_PATTERN},
            }
        ]
    return item


def _operation(endpoint: Endpoint, operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _answer(200, operation.answer)}
    for status, model in operation.other_answers.items():
        responses[str(status)] = _answer(status, model)
    for status in operation.errors:
        responses[str(status)] = _answer(status, ErrorModel)
    words = endpoint.path.replace("{", "").replace("}", "").replace("/", "_")
    spoken: dict[str, Any] = {
        "operationId": f"{operation.method}_{words}",
        "summary": operation.summary,
        "description": operation.description,
        "parameters": _parameters(operation.query),
        "responses": dict(sorted(responses.items())),
    }
    if operation.body is not None:
        spoken["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    if endpoint.path == _OPEN:
        spoken["security"] = []
    return spoken


def _parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    schema = query.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": properties.pop("description", ""),
            "schema": _without_null(properties),
        }
        for name, properties in schema.get("properties", {}).items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not given is absent; there is no null in a query."""
    schema = {k: v for k, v in schema.items() if k not in ("title", "default")}
    choices = [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]
    return schema | (choices[0] if choices else {})


def _answer(status: int, model: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(model, str):
        content = {model: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _reference(model)}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCES.format(model=model.__name__)}


def _own_path() -> dict[str, Any]:
    answer = {"application/json": {"schema": {"type": "object"}}}
    return {
        "get": {
            "operationId": "get_openapi",
            "summary": "This document",
            "description": "Without login.",
            "parameters": [],
            "security": [],
            "responses": {
                "200": {"description": "OK", "content": answer},
                "400": _answer(400, ErrorModel),
            },
        }
    }


def as_text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_text(), end="")
