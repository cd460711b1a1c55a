"""A real Hub with the service on the simulated machine, for all tests of its REST interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.hub import RunningHub, hub_factory
from tests.fixtures.sharing_hub import SharingHub, sharing_hub_starter
from tests.service.callers import MORE


@pytest.fixture(scope="package")
def sharing(tmp_path_factory) -> Iterator[SharingHub]:
    folder = tmp_path_factory.mktemp("rest")
    factory = hub_factory(folder)
    start_hub = next(factory)
    try:
        sharing = sharing_hub_starter(start_hub, folder)(MORE)
        sharing.hub.wait_for_service()
        yield sharing
    finally:
        factory.close()


@pytest.fixture(scope="package")
def hub(sharing) -> RunningHub:
    return sharing.hub


@pytest.fixture(scope="package")
def ada(hub) -> str:
    return hub.token_of("ada")


@pytest.fixture
def adas_notebook(sharing) -> Iterator[str]:
    """Ada's server with 30 blocks; gives the id of its lease."""
    assert sharing.hub.start_server("ada", options={"share": "30 blocks"}).status_code == 201
    yield sharing.store.open_leases()[0].id
    sharing.hub.stop_server("ada")
