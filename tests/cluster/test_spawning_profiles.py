"""Profiles: KubeSpawner's profile_list beside the picker, at a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.object_nodes import ObjectNodes
from tests.cluster.spawning import SpawningHub, notebook_of, notebooks, start_spawning_hub
from tests.fixtures.hub import StartHub

pytestmark = pytest.mark.cluster

PROFILES = """
c.KubeSpawner.profile_list = [
    {"display_name": "Plain", "slug": "plain", "profile_options": {
        "image": {"display_name": "Image", "choices": {
            "small": {"display_name": "Small", "kubespawner_override": {"image": "small"}},
            "large": {"display_name": "Large", "kubespawner_override": {"image": "large"}}}}}},
    {"display_name": "Own GPU", "slug": "own-gpu", "kubespawner_override": {
        "extra_resource_limits": {"nvidia.com/mig-1g.10gb": "1"}}},
]
"""


def test_a_profile_and_a_size_are_posted_together_and_both_hold(
    profiles_hub: SpawningHub,
):
    here = profiles_hub
    ada = here.hub.login("ada")

    page = ada.open("hub/spawn/ada").text
    answer = ada.submit_spawn_form(
        "ada",
        {"share": "1g.10gb", "profile": "plain", "profile-option-plain--image": "large"},
    )

    assert 'id="aliquot-picker"' in page
    assert 'value="own-gpu"' in page
    assert answer.status_code == 200
    here.hub.wait_for_server("ada")
    (pod,) = here.pods()
    assert notebook_of(pod)["image"] == "large"
    assert notebook_of(pod)["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    here.hub.stop_server("ada")
    here.wait_until(here.is_empty)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"share": "1g.10gb", "profile": "own-gpu"},
            "Start refused: the finished pod asks for a GPU outside of the books",
        ),
        ({"profile": "own-gpu"}, "offer that GPU as a size instead."),
        (
            {"profile": "none-such"},
            "Option 'profile' refused: it cannot be 'none-such'; it takes plain, own-gpu.",
        ),
        (
            {"profile": "plain", "image": "huge"},
            "Option 'image' refused: it cannot be 'huge'; it takes small, large.",
        ),
        ({"profile": ["plain"]}, "Option 'profile' refused: it cannot be 'a list'"),
        ({"profile": "plain", "cake": "yes"}, "Option 'cake' refused: nothing here knows it"),
    ],
)
def test_what_a_profile_may_not_do_is_one_sentence_and_leaves_nothing(
    profiles_hub: SpawningHub, options: dict, said: str
):
    answer = profiles_hub.hub.start_server("lin", options=options, wait=False)

    assert answer.status_code in (400, 409), answer.text
    assert said in answer.json()["message"]
    profiles_hub.wait_until(profiles_hub.is_empty)


@pytest.fixture(scope="module")
def profiles_hub(
    start_module_hub: StartHub,
    control_plane: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SpawningHub]:
    nodes = ObjectNodes(control_plane)
    nodes.add("plugin-mig-a100-80", "gpu-of-profiles")
    folder = tmp_path_factory.mktemp("profiles")
    with notebooks() as port:
        name = control_plane.namespace()
        yield start_spawning_hub(start_module_hub, control_plane, name, folder, port, PROFILES)
        control_plane.remove_namespace(name)
    nodes.close()
