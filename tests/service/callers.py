"""Who calls the service in the tests of its REST interface, and what a notebook sends."""

from __future__ import annotations

READ = "custom:aliquot:read"
MORE = """
c.JupyterHub.services += [{"name": "prometheus", "api_token": "a-token-of-prometheus-0000000001"}]
c.JupyterHub.load_roles += [{
    "name": "prometheus", "services": ["prometheus"],
    "scopes": ["custom:aliquot:read", "access:services!service=aliquot"],
}]
"""
PROMETHEUS = "a-token-of-prometheus-0000000001"


def receipt_for(lease_id: str) -> dict:
    return {
        "version": 1,
        "lease_id": lease_id,
        "verdict": "not_verifiable",
        "checked_at": "2026-11-23T05:00:00Z",
        "reason": "This machine is simulated.",
        "checks": [
            {
                "what": "devices visible",
                "expected": "1 GPU",
                "seen": None,
                "result": "unknown",
                "reason": "there is no driver",
                "enforced_by": "simulated",
            }
        ],
        "simulated": True,
        "seen": None,
    }
