"""Receipt: whether the lease's binding was seen at work inside the server.

`judge` is pure: lease and probe report in, receipt out. `ReceiptKeeper` runs the probe once,
in a child process, keeps the receipt and posts it to the Hub's service.

A receipt is *verified* when the devices that CUDA shows are the lease's and every memory
cap was seen, *mismatch* when something seen contradicts the lease, and *not verifiable*
when neither: what could not be looked at is never taken for right.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from aliquot_lab.lease import Lease, Piece
from aliquot_lab.usage_message import utc_text
from aliquot_lab.wording import Sentence, say

VERSION = 1

Verdict = Literal["verified", "mismatch", "not_verifiable"]
Result = Literal["pass", "fail", "unknown"]

# CUDA keeps a part of a card for itself, and engines round limits up to their pages.
_SMALLEST_PART = 0.9
_LARGEST_PART = 1.02
_LARGEST_EXTRA_MIB = 64

# The service takes no longer ones; a lease of sixteen GPUs would make longer ones.
_LONGEST_TEXT = 480

_PROBE_DELAY_SECONDS = 2.0
_PROBE_SECONDS = 60
_POST_PAUSES_SECONDS = (1, 3, 10, 30)


@dataclass(frozen=True, slots=True)
class Check:
    what: Sentence
    expected: Sentence
    seen: Sentence
    result: Result
    enforced_by: str
    reason: Sentence | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """`checked_at` is None while the check has not finished; `reason` explains no checks."""

    lease_id: str | None
    verdict: Verdict
    checked_at: datetime | None
    checks: tuple[Check, ...] = ()
    reason: Sentence | None = None
    simulated: bool = False

    def document(self, language: str) -> dict[str, Any]:
        return {
            "version": VERSION,
            "lease_id": self.lease_id,
            "verdict": self.verdict,
            "checked_at": self.checked_at and utc_text(self.checked_at),
            "reason": _text(self.reason, language) if self.reason else None,
            "checks": [
                {
                    "what": _text(check.what, language),
                    "expected": _text(check.expected, language),
                    "seen": _text(check.seen, language),
                    "result": check.result,
                    "reason": _text(check.reason, language) if check.reason else None,
                    "enforced_by": check.enforced_by,
                }
                for check in self.checks
            ],
            "simulated": self.simulated,
        }


def _text(sentence: Sentence, language: str) -> str:
    written = sentence.text(language)
    return written if len(written) <= _LONGEST_TEXT else written[: _LONGEST_TEXT - 1] + "…"


def judge(lease: Lease, report: Mapping[str, Any], checked_at: datetime) -> Receipt:
    """The receipt for what `cuda_probe` reported; a report of another shape raises."""
    cuda = report["cuda"]
    error = cuda["error"]
    if error and error != "CUDA_ERROR_NO_DEVICE":
        missing = error == "LIBRARY_NOT_FOUND"
        reason = say("receipt_cuda_missing") if missing else say("receipt_cuda_error", code=error)
        return Receipt(lease.lease_id, "not_verifiable", checked_at, reason=reason)
    devices = {_hex(device["uuid"]): device for device in cuda["devices"]}
    required = [_check_devices(lease, devices)]
    for piece in lease.pieces:
        seen = devices.get(_hex(piece.uuid))
        if seen is not None:
            card_free_mib = report["card_free_mib"].get(piece.gpu_uuid)
            required.append(_check_memory(lease, piece, seen, card_free_mib))
    checks = [*required]
    if lease.thread_percentage is not None:
        checks.append(_check_threads(lease, report["thread_percentage"]))
    if any(check.result == "fail" for check in checks):
        verdict: Verdict = "mismatch"
    elif all(check.result == "pass" for check in required):
        verdict = "verified"
    else:
        verdict = "not_verifiable"
    return Receipt(lease.lease_id, verdict, checked_at, tuple(checks))


def _check_devices(lease: Lease, devices: Mapping[str, Any]) -> Check:
    expected = {_hex(piece.uuid): piece.uuid for piece in lease.pieces}
    result: Result = "pass"
    reason = None
    if "" in devices:
        result, reason = "unknown", say("receipt_no_uuid")
    elif devices.keys() - expected.keys():
        result, reason = "fail", say("receipt_devices_extra")
    elif expected.keys() - devices.keys():
        # Before CUDA 13 a process sees one slice, however many are listed for it.
        if devices and all(piece.mig_uuid for piece in lease.pieces):
            result, reason = "unknown", say("receipt_one_slice_a_process")
        else:
            result, reason = "fail", say("receipt_devices_missing")
    seen = [expected.get(name, name or "?") for name in devices]
    return Check(
        say("check_devices"),
        say("verbatim", text=", ".join(expected.values())),
        say("verbatim", text=", ".join(seen)) if seen else say("nothing_seen"),
        result,
        _enforcer(lease, lease.pieces[0]),
        reason,
    )


def _check_memory(
    lease: Lease, piece: Piece, seen: Mapping[str, Any], card_free_mib: int | None
) -> Check:
    """Compare the memory that CUDA offers with the piece's.

    Under MPS the limit, less the asking process's context, shows as the free memory while the
    total stays the card's; so a card that others have nearly filled looks capped without
    being so.
    """
    cap_mib = piece.memory_mib
    most_mib = int(cap_mib * _LARGEST_PART) + _LARGEST_EXTRA_MIB
    result: Result = "pass"
    reason = None
    seen_mib: int | None = None
    if seen["error"]:
        result, reason = "unknown", say("receipt_cap_unread", code=seen["error"])
    else:
        free_mib, total_mib = int(seen["free_mib"]), int(seen["total_mib"])
        is_soft_share = piece.scope == "share" and total_mib > most_mib
        seen_mib = free_mib if is_soft_share else total_mib
        if piece.scope == "share" and lease.enforcement.memory == "none":
            result, reason = "unknown", say("receipt_not_enforced")
        elif seen_mib > most_mib:
            result, reason = "fail", say("receipt_cap_larger")
        elif is_soft_share:
            if card_free_mib is None or card_free_mib <= most_mib:
                result, reason = "unknown", say("receipt_cap_hidden")
        elif seen_mib < cap_mib * _SMALLEST_PART:
            result, reason = "fail", say("receipt_cap_smaller")
    device = say("verbatim", text=f"{piece.name} ({piece.uuid})")
    return Check(
        say("check_memory", device=device),
        say("at_most_mib", mib=cap_mib),
        say("not_seen") if seen_mib is None else say("mib", mib=seen_mib),
        result,
        _enforcer(lease, piece),
        reason,
    )


def _check_threads(lease: Lease, seen: str | None) -> Check:
    matches = seen == str(lease.thread_percentage)
    return Check(
        say("check_threads"),
        say("percent_threads", percent=lease.thread_percentage),
        say("percent_threads", percent=seen) if seen else say("not_seen"),
        "pass" if matches else "fail",
        lease.enforcement.by,
        say("receipt_threads_not_measured" if matches else "receipt_threads_differ"),
    )


def _enforcer(lease: Lease, piece: Piece) -> str:
    """Who enforces a piece; in a mixed lease that differs from piece to piece."""
    return {"slice": "mig", "card": "driver", "share": lease.enforcement.by}[piece.scope]


def _hex(uuid: str | None) -> str:
    """The bare UUID, by which NVML's "GPU-…" and "MIG-…" compare with CUDA's bytes."""
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", (uuid or "").lower())
    return found.group() if found else ""


class ReceiptKeeper:
    """Makes one server's receipt, once, and posts it; never in the way of anything else."""

    def __init__(
        self, lease: Lease | None, environ: Mapping[str, str], log: logging.Logger
    ) -> None:
        self._lease = lease
        self._log = log
        self._service_url = environ.get("ALIQUOT_SERVICE_URL", "").rstrip("/")
        self._token = environ.get("JUPYTERHUB_API_TOKEN", "")
        self._task: asyncio.Task[None] | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._receipt = self._first()

    def document(self, language: str) -> dict[str, Any]:
        return self._receipt.document(language)

    def start(self) -> None:
        if self._lease:
            self._task = asyncio.get_running_loop().create_task(self._make_and_post(self._lease))

    def stop(self) -> None:
        if self._task:
            self._task.cancel()
        if self._child and self._child.returncode is None:
            # By number: at exit the loop that could have done it is closed.
            with suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)

    def _first(self) -> Receipt:
        lease = self._lease
        if lease is None:
            return Receipt(None, "not_verifiable", None, reason=say("receipt_no_lease"))
        reason = say("receipt_simulated" if lease.simulated else "receipt_pending")
        return Receipt(
            lease.lease_id, "not_verifiable", None, reason=reason, simulated=lease.simulated
        )

    async def _make_and_post(self, lease: Lease) -> None:
        # The first seconds of a server belong to the person who waits for the page.
        await asyncio.sleep(_PROBE_DELAY_SECONDS)
        self._receipt = await self._make(lease)
        if self._receipt.verdict == "mismatch":
            failed = [check for check in self._receipt.checks if check.result == "fail"]
            self._log.warning(
                "lease %s does not match what CUDA shows: %s",
                lease.lease_id,
                " ".join(check.reason.text() for check in failed if check.reason),
            )
        if self._service_url and self._token:
            await self._post(lease)

    async def _make(self, lease: Lease) -> Receipt:
        now = datetime.now(UTC)
        if lease.simulated:
            return Receipt(
                lease.lease_id,
                "not_verifiable",
                now,
                reason=say("receipt_simulated"),
                simulated=True,
            )
        try:
            report = await self._probe(lease)
            return judge(lease, report, now)
        except (OSError, ValueError, KeyError, TypeError) as error:
            fault = f"{type(error).__name__}: {error}"
            return Receipt(
                lease.lease_id,
                "not_verifiable",
                now,
                reason=say("receipt_probe_failed", fault=fault),
            )

    async def _probe(self, lease: Lease) -> dict[str, Any]:
        cards = sorted({piece.gpu_uuid for piece in lease.pieces})
        # -P: a file of the user's in the working directory must not stand in for a module.
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "aliquot_lab.cuda_probe",
            *cards,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            printed, complaint = await asyncio.wait_for(self._child.communicate(), _PROBE_SECONDS)
        except TimeoutError:
            self._child.kill()
            raise
        if self._child.returncode:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(last[0] if last else f"status {self._child.returncode}")
        return json.loads(printed)

    async def _post(self, lease: Lease) -> None:
        """Tell the Hub's service, a few times if need be; the log gets one line at most."""
        from tornado.httpclient import AsyncHTTPClient, HTTPRequest

        request = HTTPRequest(
            f"{self._service_url}/api/receipts/{lease.lease_id}",
            method="PUT",
            body=json.dumps(self._receipt.document("en")),
            headers={
                "Authorization": f"token {self._token}",
                "Content-Type": "application/json",
            },
            request_timeout=10,
        )
        fault: Exception | None = None
        for pause_seconds in (*_POST_PAUSES_SECONDS, 0):
            try:
                await AsyncHTTPClient().fetch(request)
                return
            except Exception as error:
                # HTTPClientError, a refused connection, a name that does not resolve: all the
                # same here, the service may still be starting.
                fault = error
            await asyncio.sleep(pause_seconds)
        self._log.warning("the receipt of lease %s was not posted: %s", lease.lease_id, fault)
