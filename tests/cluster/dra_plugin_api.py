"""The kubelet's interfaces for DRA drivers: registration v1 and DRA v1, as messages and names.

Source: api.proto in k8s.io/kubelet v0.36.3, pkg/apis/pluginregistration/v1 and pkg/apis/dra/v1;
share ids are left out.
"""

from __future__ import annotations

from tests.cluster.kubelet_messages import build

PLUGIN_TYPE = "DRAPlugin"
SUPPORTED = ["v1.DRAPlugin"]
REGISTRATION = "pluginregistration.Registration"
DRA = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"

_REGISTRATION = build(
    "pluginregistration",
    {
        "InfoRequest": {},
        "PluginInfo": {
            "type": (1, "string"),
            "name": (2, "string"),
            "endpoint": (3, "string"),
            "supported_versions": (4, "[string]"),
        },
        "RegistrationStatus": {"plugin_registered": (1, "bool"), "error": (2, "string")},
        "RegistrationStatusResponse": {},
    },
)
_DRA = build(
    "k8s.io.kubelet.pkg.apis.dra.v1",
    {
        "Claim": {"namespace": (1, "string"), "uid": (2, "string"), "name": (3, "string")},
        "Device": {
            "request_names": (1, "[string]"),
            "pool_name": (2, "string"),
            "device_name": (3, "string"),
            "cdi_device_ids": (4, "[string]"),
        },
        "NodePrepareResourcesRequest": {"claims": (1, "[Claim]")},
        "NodePrepareResourceResponse": {"devices": (1, "[Device]"), "error": (2, "string")},
        "NodePrepareResourcesResponse": {"claims": (1, "{NodePrepareResourceResponse}")},
        "NodeUnprepareResourcesRequest": {"claims": (1, "[Claim]")},
        "NodeUnprepareResourceResponse": {"error": (1, "string")},
        "NodeUnprepareResourcesResponse": {"claims": (1, "{NodeUnprepareResourceResponse}")},
    },
)
InfoRequest = _REGISTRATION["InfoRequest"]
PluginInfo = _REGISTRATION["PluginInfo"]
RegistrationStatus = _REGISTRATION["RegistrationStatus"]
RegistrationStatusResponse = _REGISTRATION["RegistrationStatusResponse"]
Device = _DRA["Device"]
PrepareRequest = _DRA["NodePrepareResourcesRequest"]
Prepared = _DRA["NodePrepareResourceResponse"]
PrepareResponse = _DRA["NodePrepareResourcesResponse"]
UnprepareRequest = _DRA["NodeUnprepareResourcesRequest"]
Unprepared = _DRA["NodeUnprepareResourceResponse"]
UnprepareResponse = _DRA["NodeUnprepareResourcesResponse"]
