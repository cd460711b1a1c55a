"""Receipt: whether the lease's binding was seen at work inside the server.

The decision is `aliquot.domain.receipts`, which the Hub's service asks as well. `judge` turns
lease and probe report into a receipt; `ReceiptKeeper` runs the probe once, in a child process,
keeps the receipt and posts it to the service.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aliquot.domain import receipts
from aliquot.domain.receipt_report import read_report
from aliquot.domain.receipts import Check, Promised, Verdict, Words
from aliquot_lab.lease import Lease, Piece
from aliquot_lab.usage_message import utc_text
from aliquot_lab.wording import Sentence, say

VERSION = 1

# The service takes no longer ones; a lease of sixteen GPUs would make longer ones.
_LONGEST_TEXT = 480

_PROBE_DELAY_SECONDS = 2.0
_PROBE_SECONDS = 60
_POST_PAUSES_SECONDS = (1, 3, 10, 30)


@dataclass(frozen=True, slots=True)
class Receipt:
    """`checked_at` is None while the check has not finished; `reason` explains no checks.
    `seen` is what was reported, from which the service makes up its own mind."""

    lease_id: str | None
    verdict: Verdict
    checked_at: datetime | None
    checks: tuple[Check, ...] = ()
    reason: Sentence | Words | None = None
    simulated: bool = False
    seen: Mapping[str, Any] | None = None

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
            "seen": self.seen,
        }


def _text(sentence: Sentence | Words, language: str) -> str:
    written = sentence.text(language)
    return written if len(written) <= _LONGEST_TEXT else written[: _LONGEST_TEXT - 1] + "…"


def judge(lease: Lease, report: Mapping[str, Any], checked_at: datetime) -> Receipt:
    """The receipt for what `cuda_probe` reported; a report of another shape raises."""
    pieces = [
        Promised(
            piece.uuid,
            piece.gpu_uuid,
            piece.gpu_model,
            piece.profile,
            piece.memory_mib,
            _enforcer(lease, piece),
            is_share=piece.scope == "share",
        )
        for piece in lease.pieces
    ]
    found = receipts.judge(pieces, read_report(report), thread_percentage=lease.thread_percentage)
    return Receipt(
        lease.lease_id, found.verdict, checked_at, found.checks, found.reason, seen=report
    )


def _enforcer(lease: Lease, piece: Piece) -> str:
    """Who enforces a piece; in a mixed lease that differs from piece to piece."""
    if piece.scope == "share" and lease.enforcement.memory == "none":
        return lease.enforcement.by if lease.enforcement.by not in receipts.HOLDING else "none"
    return {"slice": "mig", "card": "driver", "share": lease.enforcement.by}[piece.scope]


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
            return Receipt(None, Verdict.NOT_VERIFIABLE, None, reason=say("receipt_no_lease"))
        reason = say("receipt_simulated" if lease.simulated else "receipt_pending")
        return Receipt(
            lease.lease_id, Verdict.NOT_VERIFIABLE, None, reason=reason, simulated=lease.simulated
        )

    async def _make_and_post(self, lease: Lease) -> None:
        # The first seconds of a server belong to the person who waits for the page.
        await asyncio.sleep(_PROBE_DELAY_SECONDS)
        self._receipt = await self._make(lease)
        if self._receipt.verdict is Verdict.MISMATCH:
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
                Verdict.NOT_VERIFIABLE,
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
                Verdict.NOT_VERIFIABLE,
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
