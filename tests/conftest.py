"""Shared fixtures live in tests/fixtures, one subject a file; this only loads them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"

# A shell that starts a job in the background has it ignore SIGINT, and everything below it
# too. The hub stops servers by SIGINT: each stop would then take 10 s longer.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    f"tests.fixtures.{path.stem}" for path in sorted(FIXTURES.glob("*.py")) if path.stem[0] != "_"
]
# Before the first of them is loaded, since some import others.
pytest.register_assert_rewrite(*pytest_plugins)
