"""Cases for faults: acts that end in one, and how it must be told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, contextmanager

import pytest

from aliquot.storage import LedgerUnavailable, Store
from tests.storage.ledger_cases import attempt, decide_on, vision


def fault_of(act: Callable[[], object]) -> LedgerUnavailable:
    """The fault that an act ends with, after a look at how it is told."""
    with pytest.raises(LedgerUnavailable) as caught:
        act()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "sqlalche.me" not in sentence
    assert sentence == f"{caught.value.what}: {caught.value.why}. {caught.value.remedy}"
    assert sentence.endswith(".")
    return caught.value


def reserve(store: Store, spawner_id: int = 1, share: str = "30 blocks") -> Callable[[], object]:
    return lambda: store.reserve(attempt(spawner_id), decide_on(share))


@contextmanager
def opened(url: str, **options):
    with closing(Store.open(url, **options)) as store:
        store.save_groups([vision()], {}, "admin", "groups")
        yield store
