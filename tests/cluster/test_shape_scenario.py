"""What a node of a shape says to Kubernetes and what its driver says are the same."""

from __future__ import annotations

import pytest

from tests.cluster.gpu_models import mig_uuid
from tests.cluster.node_shapes import SHAPES, Kind
from tests.cluster.offered_devices import devices_of
from tests.cluster.shape_scenario import scenario_of

SERVED = [name for name in SHAPES if name.startswith("plugin-")]


@pytest.mark.parametrize("name", SERVED)
def test_the_plugin_offers_from_the_scenario_what_the_shape_says(name):
    shape = SHAPES[name]

    offered = devices_of(
        scenario_of(shape, "gpu-1"),
        single=shape.kind is Kind.PLUGIN_MIG_SINGLE,
        replicas=shape.replicas,
    )

    assert {resource: len(ids) for resource, ids in offered.items()} == shape.resources()


@pytest.mark.parametrize("name", SERVED)
def test_the_standin_understands_the_scenario(name, nvml_scenario):
    shape = SHAPES[name]
    machine = nvml_scenario("no-gpu")
    machine.rewrite(scenario_of(shape, "gpu-1"))

    count = "import pynvml; pynvml.nvmlInit(); result = pynvml.nvmlDeviceGetCount()"
    assert machine.python(count) == shape.gpus


def test_an_instance_is_named_alike_by_the_node_and_by_its_driver():
    offered = devices_of(scenario_of(SHAPES["plugin-mig-a100-80"], "gpu-1"))

    assert offered["nvidia.com/mig-1g.10gb"] == [mig_uuid("gpu-1", 0, n) for n in range(7)]


def test_a_shape_of_another_engine_has_no_such_scenario():
    with pytest.raises(ValueError, match="hami-a100-40 is not served by"):
        scenario_of(SHAPES["hami-a100-40"], "gpu-1")
