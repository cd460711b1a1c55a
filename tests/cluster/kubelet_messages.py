"""Messages of the kubelet's gRPC interfaces, described here and built by protobuf at run time.

So no generated code and no compiler is needed. Field names and numbers are copied from the
.proto files; fields that a test's plugin never sends or reads may be left out, which protobuf
allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: field: (number, type). "[…]" is repeated, "{…}" a map from text; inside of them and
# bare, "string", "bool", or a name with a capital letter: another message.
Messages = Mapping[str, Mapping[str, tuple[int, str]]]
_Field = descriptor_pb2.FieldDescriptorProto


def build(package: str, messages: Messages) -> dict[str, Any]:
    """A class for each message, by its name."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"aliquot-tests/{package}.proto", package=package, syntax="proto3"
    )
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _describe(package, message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _describe(
    package: str, message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str
) -> None:
    repeated = kind.startswith(("[", "{"))
    field = message.field.add(
        name=name,
        number=number,
        label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
    )
    if kind.startswith("{"):
        # On the wire a map is a repeated message of a key and a value.
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _describe(package, entry, "key", 1, "string")
        _describe(package, entry, "value", 2, kind.strip("{}"))
        kind = f"{message.name}.{entry.name}"
    kind = kind.strip("[]")
    if kind == "string":
        field.type = _Field.TYPE_STRING
    elif kind == "bool":
        field.type = _Field.TYPE_BOOL
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"
