"""JupyterHub on one machine with NVIDIA GPUs, for a lab's workstation or server.

    jupyterhub -f hub_config/one_machine/jupyterhub_config.py
    aliquot check -f hub_config/one_machine/jupyterhub_config.py    says what is missing

Users are the machine's own (PAM), so the Hub runs as root. Give the groups their quotas with
`aliquot apply`; without a quota a group's members start notebooks without a GPU.
"""

from pathlib import Path

from aliquot.setup import setup_aliquot

c = get_config()  # type: ignore[name-defined]  # noqa: F821

state = Path("/var/lib/jupyterhub")
c.JupyterHub.bind_url = "http://127.0.0.1:8000"  # put a proxy with TLS before it
c.JupyterHub.db_url = f"sqlite:///{state}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.Authenticator.allow_existing_users = True
c.Spawner.default_url = "/lab"

# Which Hub groups exist and who is in them; quotas refer to these names.
c.JupyterHub.load_groups = {
    "vision": {"users": []},
    "nlp": {"users": []},
}

c.Aliquot.database_url = f"sqlite:///{state}/aliquot.sqlite"
# Blocks are shared by CUDA MPS. Its control daemon is started by the machine, as root and
# with -multiuser-server, and listens here.
c.Aliquot.mps_pipe_directory = "/run/nvidia-mps"

setup_aliquot(c, spawner="aliquot-local")
