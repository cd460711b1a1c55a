"""Text view: the usage message as lines, for `%gpu` and for saved notebooks.

Pure. It reads the same message that pages read, so that text and pages cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from aliquot_lab.wording import Sentence, say

# What each name in a lease's ``enforcement.by`` can do, as in the pages (shared/holding.ts).
_STRENGTH = {
    "mig": "hardware",
    "driver": "hardware",
    "mps": "soft",
    "hami": "soft",
    "kai": "none",
    "shares": "none",
    "time_slicing": "none",
    "advisory": "none",
    "simulated": "none",
    "none": "none",
}


def lines(message: Mapping[str, Any], language: str) -> list[str]:
    """Two or more lines a piece; the reason for whatever is missing stands below it."""
    state, devices = message["state"], message["devices"]
    found: list[str] = []
    if message["simulated"]:
        found.append(say("simulated_note").text(language))
    if not devices:
        return [*found, message["state_reason"] or ""]
    if state == "stale":
        found.append(
            say(
                "age_line", seconds=round(message["age_seconds"]), reason=message["state_reason"]
            ).text(language)
        )
    for device in devices:
        found += _device_lines(device, language)
    if message["lease"]:
        found.append(_lease_line(message["lease"], language))
        found += message["lease"].get("notes") or []
    return found


def html(message: Mapping[str, Any], language: str) -> str:
    """The same lines for a page without scripts, such as a saved notebook."""
    stamp = message["sampled_at"]
    rows = lines(message, language)
    if stamp:
        rows = [*rows, say("snapshot_line", at=stamp).text(language)]
    return '<pre class="aliquot-usage">' + escape("\n".join(rows)) + "</pre>"


def _device_lines(device: Mapping[str, Any], language: str) -> list[str]:
    parts = [_memory(device, language), _busy(device, language)]
    if device["shared_with"]:
        parts[-1] += ", " + say("shared_with", others=device["shared_with"]).text(language)
    if device["power_watts"] is not None and device["temperature_celsius"] is not None:
        parts.append(
            say(
                "card_line", power=device["power_watts"], temperature=device["temperature_celsius"]
            ).text(language)
        )
    found = [f"{device['name']} · {device['piece']}", "  " + " · ".join(parts)]
    reasons = dict.fromkeys((device["memory_reason"], device["busy_reason"]))
    return [*found, *(f"  {reason}" for reason in reasons if reason)]


def _memory(device: Mapping[str, Any], language: str) -> str:
    return say(
        "memory_line",
        used=_gib(device["memory_used_mib"]),
        limit=_gib(device["memory_limit_mib"]),
        scope=_scope(device["memory_scope"]),
    ).text(language)


def _busy(device: Mapping[str, Any], language: str) -> str:
    if device["busy_percent"] is None:
        return say("busy_unknown").text(language)
    return say(
        "busy_line", percent=device["busy_percent"], scope=_scope(device["busy_scope"])
    ).text(language)


def _lease_line(lease: Mapping[str, Any], language: str) -> str:
    memory, compute, by = (lease["enforcement"][name] for name in ("memory", "compute", "by"))
    if by in _STRENGTH and memory == compute == _STRENGTH[by]:
        return say("held_line", held=say(f"held_{by}")).text(language)
    # What an engine does in part (CUDA MPS beside whole GPUs), or does unlike its kind.
    return say(
        "lease_line",
        memory=say(f"enforced_{memory}"),
        compute=say(f"enforced_{compute}"),
        by=say("verbatim", text="CUDA MPS" if by == "mps" else by),
    ).text(language)


def _scope(scope: str) -> Sentence:
    return say(f"scope_{scope}")


def _gib(mib: int | None) -> str:
    """GiB with one decimal; what is held is never shown as 0.0, as on the pages."""
    if mib is None:
        return "–"
    return f"{max(mib / 1024, 0.1) if mib > 0 else 0:.1f}"
