"""Aliquot's notebook side: live figures of the GPU piece that this server holds.

    from aliquot_lab import Usage
    Usage()             # a widget that ticks while a cell computes
    %gpu                # the same as text, after this import or %load_ext aliquot_lab

The Jupyter server imports this module too, so nothing here may import widgets, the
driver's binding or IPython before somebody asks for them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from jupyter_server.serverapp import ServerApp

    from aliquot_lab.widget import Usage

__all__ = ["Usage", "load_ipython_extension"]


def __getattr__(name: str) -> Any:
    if name == "Usage":
        try:
            from aliquot_lab.widget import Usage
        except ModuleNotFoundError as error:
            if error.name not in ("anywidget", "ipywidgets"):
                raise
            raise ImportError(
                f"Usage() needs {error.name}, which this kernel's environment lacks. Install it "
                "with: pip install 'aliquot[widget]'. %gpu prints the same figures as text."
            ) from error
        return Usage
    raise AttributeError(f"module 'aliquot_lab' has no attribute '{name}'")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """For `%load_ext aliquot_lab`: adds `%gpu`."""
    from aliquot_lab.magic import register

    register(shell)


def _register_in_running_shell() -> None:
    """Add `%gpu` when imported by a notebook; a module that IPython never loaded has none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and hasattr(ipython, "get_ipython") else None
    if shell is not None:
        load_ipython_extension(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "@aliquot/lab"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "aliquot_lab"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    from aliquot_lab.extension import load

    load(server)


_register_in_running_shell()
