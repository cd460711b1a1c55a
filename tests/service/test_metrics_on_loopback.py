"""Metrics without a token: only where the admin allows it, and never through the proxy."""

from __future__ import annotations

import psutil
import pytest
import requests

# The Hub's configuration calls ``setup_aliquot`` at its end.
OPEN = """
add_the_service = setup_aliquot
def setup_aliquot(c):
    add_the_service(c)
    service = next(s for s in c.JupyterHub.services if s["name"] == "aliquot")
    service["environment"]["ALIQUOT_OPEN_METRICS_ON_LOOPBACK"] = "1"
    service["environment"]["JUPYTERHUB_METRICS_PREFIX"] = "lab"
"""


@pytest.mark.slow
def test_a_scraper_on_this_machine_needs_no_token_where_the_admin_allows_it(start_sharing_hub):
    hub = start_sharing_hub(OPEN).hub
    hub.wait_for_service()
    # The service's own port, as a scraper beside it reaches it.
    [service] = [p for p in psutil.Process(hub.pid).children() if "aliquot.service" in p.cmdline()]
    [port] = {c.laddr.port for c in service.net_connections("tcp") if c.status == "LISTEN"}
    direct = f"http://127.0.0.1:{port}/services/aliquot/metrics"

    by_scraper = requests.get(direct, timeout=20)
    by_proxy = hub.service("GET", "metrics")

    assert by_scraper.status_code == 200
    assert "lab_aliquot_held_blocks" in by_scraper.text
    # The proxy is on loopback as well, and so would everybody be who comes through it.
    assert by_proxy.status_code == 401
