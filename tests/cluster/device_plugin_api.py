"""The kubelet's device plugin API, v1beta1, as messages and method names.

Field names and numbers are those of api.proto in k8s.io/kubelet v0.36.3,
pkg/apis/deviceplugin/v1beta1; topology, CDI and preferred allocation are left out.
"""

from __future__ import annotations

from tests.cluster.kubelet_messages import Messages, build

VERSION = "v1beta1"
HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"
REGISTER = "/v1beta1.Registration/Register"
PLUGIN_SERVICE = "v1beta1.DevicePlugin"

_MESSAGES: Messages = {
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
    "ContainerAllocateResponse": {"envs": (1, "{string}"), "mounts": (2, "[Mount]")},
    "AllocateResponse": {"container_responses": (1, "[ContainerAllocateResponse]")},
}
_BUILT = build("v1beta1", _MESSAGES)
Empty = _BUILT["Empty"]
DevicePluginOptions = _BUILT["DevicePluginOptions"]
RegisterRequest = _BUILT["RegisterRequest"]
Device = _BUILT["Device"]
ListAndWatchResponse = _BUILT["ListAndWatchResponse"]
AllocateRequest = _BUILT["AllocateRequest"]
ContainerAllocateResponse = _BUILT["ContainerAllocateResponse"]
AllocateResponse = _BUILT["AllocateResponse"]
Mount = _BUILT["Mount"]
