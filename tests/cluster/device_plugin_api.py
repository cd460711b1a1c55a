"""The kubelet's device plugin API, v1beta1, as messages and method names.

The messages are described here and built by protobuf at run time, so no generated code and
no compiler is needed. Field names and numbers are those of api.proto in
k8s.io/kubelet v0.36.3, pkg/apis/deviceplugin/v1beta1; fields that a test plugin never sends
or reads (topology, CDI, preferred allocation) are left out, which protobuf allows.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION = "v1beta1"
HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"
REGISTER = "/v1beta1.Registration/Register"
PLUGIN_SERVICE = "v1beta1.DevicePlugin"

# message: field: (number, type). "[...]" is repeated, "{}" a map of text to text, a name with
# a capital letter another message.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Empty": {},
    "DevicePluginOptions": {
        "pre_start_required": (1, "bool"),
        "get_preferred_allocation_available": (2, "bool"),
    },
    "RegisterRequest": {
        "version": (1, "string"),
        "endpoint": (2, "string"),
        "resource_name": (3, "string"),
        "options": (4, "DevicePluginOptions"),
    },
    "Device": {"ID": (1, "string"), "health": (2, "string")},
    "ListAndWatchResponse": {"devices": (1, "[Device]")},
    "ContainerAllocateRequest": {"devices_ids": (1, "[string]")},
    "AllocateRequest": {"container_requests": (1, "[ContainerAllocateRequest]")},
    "Mount": {
        "container_path": (1, "string"),
        "host_path": (2, "string"),
        "read_only": (3, "bool"),
    },
    "ContainerAllocateResponse": {"envs": (1, "{}"), "mounts": (2, "[Mount]")},
    "AllocateResponse": {"container_responses": (1, "[ContainerAllocateResponse]")},
}
_Field = descriptor_pb2.FieldDescriptorProto


def _describe(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    repeated = kind.startswith(("[", "{"))
    field = message.field.add(
        name=name,
        number=number,
        label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
    )
    kind = kind.strip("[]")
    if kind == "{}":
        # On the wire a map is a repeated message of a key and a value.
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _describe(entry, "key", 1, "string")
        _describe(entry, "value", 2, "string")
        kind = f"{message.name}.{entry.name}"
    if kind == "string":
        field.type = _Field.TYPE_STRING
    elif kind == "bool":
        field.type = _Field.TYPE_BOOL
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".v1beta1.{kind}"


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="aliquot-tests/deviceplugin.proto", package="v1beta1", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _describe(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1beta1.{name}"))
        for name in _MESSAGES
    }


_BUILT = _build()
Empty = _BUILT["Empty"]
DevicePluginOptions = _BUILT["DevicePluginOptions"]
RegisterRequest = _BUILT["RegisterRequest"]
Device = _BUILT["Device"]
ListAndWatchResponse = _BUILT["ListAndWatchResponse"]
AllocateRequest = _BUILT["AllocateRequest"]
ContainerAllocateResponse = _BUILT["ContainerAllocateResponse"]
AllocateResponse = _BUILT["AllocateResponse"]
Mount = _BUILT["Mount"]
