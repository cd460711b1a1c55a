"""Swap: JupyterHub's own tests start their servers through our spawner.

A pytest plugin (`-p swapped_spawner`), loaded before any test module. Every mock spawner of
JupyterHub's suite inherits from ``jupyterhub.spawner.SimpleLocalProcessSpawner``, which is
therefore replaced before ``jupyterhub.tests.mocking`` is imported.

The starts that went through ours are counted into the file named by
``ALIQUOT_COUNTED_STARTS``: a swap that did not take would pass every test too.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import jupyterhub.spawner
from traitlets import default

# "aliquot.spawners.local:SimpleLocalShareSpawner"
module_name, class_name = os.environ["ALIQUOT_SWAPPED_SPAWNER"].split(":")
ours = getattr(importlib.import_module(module_name), class_name)

starts = 0


class CountedSpawner(ours):
    """Ours, counting the starts it was asked for.

    Configured as an admin would who has a form and options of their own, since the suite
    expects the Hub's behaviour where ours is stricter on purpose: no form is served, unknown
    options pass to the Hub's own hook, and links start servers.
    """

    @default("options_form")
    def _no_form(self):
        return ""

    @default("other_options")
    def _all_options(self):
        return ["*"]

    @default("links_start_servers")
    def _links_start(self):
        return True

    def start(self):
        global starts
        starts += 1
        return super().start()


# The suite's class names appear in what the hub prints and in URLs of none of its tests.
CountedSpawner.__name__ = class_name

if "jupyterhub.tests.mocking" in sys.modules:
    raise RuntimeError("the swap came too late: jupyterhub.tests.mocking is already imported")
jupyterhub.spawner.SimpleLocalProcessSpawner = CountedSpawner


def pytest_sessionfinish():
    Path(os.environ["ALIQUOT_COUNTED_STARTS"]).write_text(str(starts))
