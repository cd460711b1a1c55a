"""Shared fixtures live in tests/fixtures, one subject a file; this only loads them."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"

pytest_plugins = [
    f"tests.fixtures.{path.stem}" for path in sorted(FIXTURES.glob("*.py")) if path.stem[0] != "_"
]
