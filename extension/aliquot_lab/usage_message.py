"""Usage message: figures as the JSON that JupyterLab, the widget and scripts read.

Pure. One shape for every door: REST, WebSocket and the widget's kernel fallback. Unknown
numbers are null with a reason beside them; times are UTC and end in Z.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from aliquot_lab.figures import DeviceFigures
from aliquot_lab.lease import Lease, LeaseFault
from aliquot_lab.sampler import Row, Snapshot
from aliquot_lab.wording import Sentence, say, words_of

VERSION = 1


def usage_message(
    lease: Lease | LeaseFault | None,
    snapshot: Snapshot,
    rows: Iterable[Row],
    language: str,
) -> dict[str, Any]:
    known = lease if isinstance(lease, Lease) else None
    return {
        "version": VERSION,
        "sequence": snapshot.sequence,
        "sampled_at": snapshot.sampled_at and utc_text(snapshot.sampled_at),
        "age_seconds": None if snapshot.age_seconds is None else round(snapshot.age_seconds, 1),
        "state": snapshot.state,
        "state_reason": _text(snapshot.state_reason, language),
        "simulated": known.simulated if known else False,
        "lease": _lease(known, language) if known else None,
        "devices": [_device(device, language) for device in snapshot.devices],
        "history": [
            {
                "sequence": row.sequence,
                "at": utc_text(row.at),
                "memory_used_mib": row.memory_used_mib,
                "busy_percent": row.busy_percent,
            }
            for row in rows
        ],
    }


def snapshot_without_source(lease: LeaseFault | None) -> Snapshot:
    """What a server shows that has nothing to sample: no lease, or one it cannot read."""
    if lease is None:
        return Snapshot("no_gpu", say("no_gpu"))
    return Snapshot("unavailable", lease.reason)


def utc_text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lease(lease: Lease, language: str) -> dict[str, Any]:
    """The lease as it came, its notes in words.

    A binding writes a note as a key ("note.mps_soft"), since it does not know who will read
    it; a note that is no key known here is shown as it is.
    """
    notes = lease.document.get("notes")
    written = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return {**lease.document, "notes": [words_of(note, language) for note in written]}


def _device(device: DeviceFigures, language: str) -> dict[str, Any]:
    memory, busy, card, processes = device.memory, device.busy, device.card, device.processes
    return {
        "name": device.piece.name,
        "piece": device.piece.label.text(language),
        "scope": device.piece.scope,
        "memory_used_mib": memory.used_mib,
        "memory_limit_mib": memory.limit_mib,
        "memory_scope": memory.scope,
        "memory_reason": _text(memory.reason, language),
        "busy_percent": busy.percent,
        "busy_scope": busy.scope,
        "busy_reason": _text(busy.reason, language),
        "busy_source": busy.source,
        "shared_with": processes.others,
        "power_watts": card.power_watts,
        "temperature_celsius": card.temperature_celsius,
        "card_reason": _text(card.reason, language),
        "processes": None
        if processes.listed is None
        else [{"pid": row.pid, "memory_mib": row.memory_mib} for row in processes.listed],
        "processes_reason": _text(processes.reason, language),
    }


def _text(sentence: Sentence | None, language: str) -> str | None:
    return sentence.text(language) if sentence else None
