"""A real Hub and proxy, with the service where a pod of a cluster has it: at an address of the
pod's own, which is another one after the pod was replaced.

The addresses are of the loopback network; the GPUs are simulated. What a cluster's Service does
(the Hub's name leads to the pod of today) is not there, so notebooks' own way is not walked.
"""

from __future__ import annotations

import pytest
import requests

from tests.fixtures.hub import free_port

CONFIG = """
from pathlib import Path
from aliquot.setup import setup_aliquot

pod = {{"KUBERNETES_SERVICE_HOST": "10.96.0.1", "POD_IP": Path("pod_ip").read_text()}}
c.JupyterHub.hub_connect_url = f"http://127.0.0.1:{{c.JupyterHub.hub_port}}"
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.Aliquot.gpu_source = "simulated"
setup_aliquot(c, spawner="aliquot-kubernetes", service_port={port}, environ=pod)
Path("told").write_text(c.Aliquot.service_url)
"""


pytestmark = pytest.mark.slow


def test_the_proxy_leads_to_the_pod_s_address_also_after_the_pod_was_replaced(start_hub):
    port = free_port()
    hub = start_hub(
        "from pathlib import Path; Path('pod_ip').write_text('127.0.0.2')\n"
        + CONFIG.format(port=port)
    )
    hub.wait_for_service()
    hub.add_user("ada")
    asked = {"headers": {"Authorization": f"token {hub.token_of('ada')}"}, "timeout": 10}
    mine = f"127.0.0.2:{port}/services/aliquot/api/leases/mine"

    assert hub.api("GET", "proxy").json()["/services/aliquot/"]["target"] == (
        f"http://127.0.0.2:{port}"
    )
    through_the_proxy = requests.get(f"{hub.url}services/aliquot/api/leases/mine", **asked)
    assert requests.get(f"http://{mine}", **asked).json() == through_the_proxy.json()
    assert through_the_proxy.status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/services/aliquot/health", timeout=10)
    # What notebooks are told does not name the pod's address.
    assert (hub.directory / "told").read_text() == f"http://127.0.0.1:{port}/services/aliquot"

    hub.kill()
    config = hub.directory / "jupyterhub_config.py"
    config.write_text(config.read_text().replace("127.0.0.2", "127.0.0.3"))
    hub.start()
    hub.wait_for_service()

    assert hub.api("GET", "proxy").json()["/services/aliquot/"]["target"] == (
        f"http://127.0.0.3:{port}"
    )
