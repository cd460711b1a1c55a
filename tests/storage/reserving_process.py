"""A process that starts and stops servers on a ledger as fast as it can, for tests.

``python -m tests.storage.reserving_process URL FIRST_SERVER SECONDS GPUS`` prints what came
of it as one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import UTC, datetime

from aliquot.domain.judging import Grant
from aliquot.storage import LedgerUnavailable, Store
from tests.storage.ledger_cases import ADA, LIN, attempt, decide_on, ledger_id, machine


def main(url: str, first_server: int, seconds: float, gpus: int) -> None:
    choose = random.Random(first_server)
    inventory = machine(gpus)
    granted = refused = 0
    faults: list[str] = []
    ledger = None
    try:
        store = Store.open(url)
        ledger = ledger_id(url)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            spawner_id = first_server + choose.randrange(6)
            now = datetime.now(UTC)
            if choose.random() < 0.35:
                store.release_server(spawner_id, "stopped", now)
                continue
            person = choose.choice([ADA, LIN])
            share = f"{choose.choice([10, 20, 35, 60, 110])} blocks"
            outcome = store.reserve(
                attempt(spawner_id, person, at=now), decide_on(share, person, inventory)
            )
            if isinstance(outcome, Grant):
                granted += 1
            else:
                refused += 1
    except LedgerUnavailable as fault:
        faults.append(str(fault))
    print(
        json.dumps(
            {
                "granted": granted,
                "refused": refused,
                "faults": faults,
                "ledger": ledger,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
