"""Swap: KubeSpawner's own tests make their spawners of our class.

A pytest plugin (``-p swapped_kubespawner``), loaded before any test module, which all import
``KubeSpawner`` from ``kubespawner``. Configuration of ``c.KubeSpawner`` reaches subclasses.

The spawners that were made are counted into the file named by ``ALIQUOT_COUNTED_SPAWNERS``: a
swap that did not take would pass every test too.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace

import kubespawner
import kubespawner.spawner
from traitlets import default

module_name, class_name = os.environ["ALIQUOT_SWAPPED_SPAWNER"].split(":")
ours = getattr(importlib.import_module(module_name), class_name)

made = 0


class CountedSpawner(ours):
    """Ours, counted.

    The suite makes spawners without a Hub, so it has no row of the Hub's database; and it looks
    at KubeSpawner's own form, which an admin keeps by setting ``options_form``.
    """

    def __init__(self, *args, **kwargs):
        global made
        made += 1
        kwargs.setdefault(
            "orm_spawner", SimpleNamespace(id=made, server=None, name="", user_options={}, state={})
        )
        super().__init__(*args, **kwargs)

    @default("options_form")
    def _form_of_kubespawner(self):
        return self._options_form_default()


CountedSpawner.__name__ = "KubeSpawner"
kubespawner.KubeSpawner = kubespawner.spawner.KubeSpawner = CountedSpawner


def pytest_sessionfinish():
    Path(os.environ["ALIQUOT_COUNTED_SPAWNERS"]).write_text(str(made))
