"""Run all benchmarks, or those that are named, and print one table.

Exit status 1 when a promise is not kept.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module

from rich.console import Console
from rich.table import Table

from bench.rows import Row

# Each module has `run() -> Sequence[Row]`.
BENCHMARKS = ("spawn", "reservations", "sampler", "picker_page", "inventory", "kubernetes")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"No benchmark '{unknown[0]}'; there are: {', '.join(BENCHMARKS)}.")
        return 2
    # As in the tests: servers started from a background job would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(width=150)
    rows: list[Row] = []
    for name in names or BENCHMARKS:
        with console.status(f"{name} …"):
            rows.extend(import_module(f"bench.{name}").run())
    table = Table("what", "value", "promise", "kept", "ours", "against")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.value:.3g} {row.unit}".strip(),
            f"{row.promise} {row.target:g}",
            "yes" if row.is_kept else "NO",
            row.ours,
            row.other,
        )
    console.print(table)
    return 0 if all(row.is_kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
