"""Needs: what a test of KubeSpawner's suite wants that it has not got here, by its fixtures.

The suite skips every test whose ``kube_client`` finds no cluster, so its own reason says less.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

# By the suite's conftest.py, the strongest first.
_NEEDS = {
    "exec_python_pod": "runs Python in a pod by pods/exec, from an image of a registry",
    "exec_python": "runs Python in a pod by pods/exec, from an image of a registry",
    "hub_pod_ssl": "starts a hub with certificates in a pod, from an image of a registry",
    "hub_pod": "starts a hub in a pod, from an image of a registry",
    "hub_ssl": "starts a hub with certificates in a pod, from an image of a registry",
    "hub": "starts a hub in a pod, from an image of a registry",
    "kube_client": "asks a cluster; --kubeconfig names one",
}


@cache
def _arguments(module: Path) -> dict[str, set[str]]:
    """The fixtures of each test in a module."""
    return {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def why(name: str, tests: Path) -> str:
    """``name`` is ``package.module::test[case]``."""
    module, _, test = name.partition("::")
    fixtures = _arguments(tests / f"{module.rpartition('.')[2]}.py").get(test.partition("[")[0], ())
    for fixture, need in _NEEDS.items():
        if fixture in fixtures:
            return need
    return "the suite's own, stock as well"
