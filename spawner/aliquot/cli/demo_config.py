"""The Hub's configuration of ``aliquot demo``. Read by JupyterHub, never imported."""

import json
import os

from aliquot.cli.demo import ADMIN, ENVIRONMENT, GROUPS, PASSWORD, DemoFacts
from aliquot.setup import setup_aliquot

c = get_config()  # type: ignore[name-defined]  # noqa: F821
facts = DemoFacts(**json.loads(os.environ[ENVIRONMENT]))

c.JupyterHub.bind_url = f"http://127.0.0.1:{facts.port}/"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = facts.hub_port
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{facts.proxy_port}"
c.ConfigurableHTTPProxy.pid_file = f"{facts.folder}/proxy.pid"
c.JupyterHub.db_url = f"sqlite:///{facts.folder}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{facts.folder}/cookie_secret"

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = PASSWORD
c.Authenticator.allowed_users = {name for users in GROUPS.values() for name in users}
c.Authenticator.admin_users = {ADMIN}
c.JupyterHub.load_groups = {group: {"users": users} for group, users in GROUPS.items()}
c.JupyterHub.allow_named_servers = True

c.SimpleLocalProcessSpawner.home_dir_template = f"{facts.folder}/home/{{username}}"
c.Spawner.default_url = "/lab"
if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]

c.Aliquot.database_url = f"sqlite:///{facts.folder}/aliquot.sqlite"
c.Aliquot.gpu_source = facts.gpu_source
setup_aliquot(c, spawner="aliquot-simple")
