"""Receipts across the border: what the notebook's side writes, the service takes."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from aliquot.service.models import ReceiptModel
from tests.lab.test_receipts import (
    A_SLICE,
    BOUND_TO_THIRTY_BLOCKS,
    SLICE,
    THIRTY_BLOCKS,
    receipt_of,
)


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(
    "scenario, lease, environment",
    [
        ("h100-mps-blocks", THIRTY_BLOCKS, BOUND_TO_THIRTY_BLOCKS),
        ("h100-mps-blocks", THIRTY_BLOCKS, {}),
        ("a100-mig-mixed", A_SLICE, {"CUDA_VISIBLE_DEVICES": SLICE}),
        ("a100-mig-mixed", A_SLICE, {"CUDA_VISIBLE_DEVICES": ""}),
    ],
    ids=["blocks", "not bound", "slice", "no device"],
)
def test_a_receipt_from_a_notebook_is_taken_word_for_word(
    nvml_scenario, scenario, lease, environment, language
):
    written = receipt_of(nvml_scenario(scenario), lease, **environment).document(language)

    taken = ReceiptModel.model_validate_json(json.dumps(written))

    kept = taken.model_dump(mode="json")
    # The same moment may be written with or without its milliseconds.
    moments = [datetime.fromisoformat(row.pop("checked_at")) for row in (kept, written)]
    assert moments[0] == moments[1]
    assert kept == written
