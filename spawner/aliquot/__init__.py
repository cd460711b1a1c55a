"""Aliquot: GPUs shared from JupyterHub, the hub's side. `domain` decides, the rest acts."""
