"""Handlers: one class an address. What they say is worded in ``answers``; the list of them,
with what each takes and gives, is in ``endpoints``."""

from __future__ import annotations

import asyncio
from collections import Counter
from importlib.metadata import version
from ipaddress import ip_address

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from aliquot.domain.asks import read_ask
from aliquot.domain.availability import availability
from aliquot.domain.leases import Lease
from aliquot.domain.refusals import WITHOUT_GPU, Ask, Reason, Refusal, Remedy, RemedyKind
from aliquot.domain.shares import CpuOnly
from aliquot.domain.sizes import verdict
from aliquot.hub_scopes import READ_SCOPE
from aliquot.service.answers import (
    availability_model,
    findings_model,
    gpu_state_model,
    lease_model,
    sizes_model,
)
from aliquot.service.base import Refused, Said, ServiceHandler, told
from aliquot.service.metrics import exposition
from aliquot.service.models import (
    MAX_RECEIPT_BYTES,
    AvailabilityQuery,
    DatabaseHealth,
    FindingsQuery,
    HealthModel,
    LeasesModel,
    LeasesQuery,
    NoQuery,
    PageModel,
    ReceiptModel,
    ReconciliationHealth,
    utc_now,
)
from aliquot.storage import Ledger, LedgerUnavailable


class Reading(ServiceHandler):
    """What reads the ledger: a fault of the database becomes its refusal."""

    async def ledger(self) -> Ledger:
        try:
            return await asyncio.to_thread(lambda: self.state.allocator.store.ledger())
        except LedgerUnavailable as error:
            raise self.no_ledger(error) from error

    def no_ledger(self, error: LedgerUnavailable) -> Refused:
        remedies = (Remedy(RemedyKind.ASK_ADMIN), WITHOUT_GPU)
        return Refused(Refusal(Reason.LEDGER_UNAVAILABLE, {"detail": str(error)}, remedies))


class SizesHandler(Reading):
    async def get(self) -> None:
        self.query(NoQuery)
        ledger = await self.ledger()
        situation = await asyncio.to_thread(self.state.allocator.situation, ledger)
        self.answer(sizes_model(situation, ledger.presets, utc_now()))


class AvailabilityHandler(Reading):
    async def get(self) -> None:
        query = self.query(AvailabilityQuery)
        ask = self._ask(query)
        ledger = await self.ledger()
        person = self.person(ledger.books.leases)

        def work():
            situation = self.state.allocator.situation(ledger)
            found = availability(ask, person, situation, ledger.presets)
            answer = None
            if query.share is not None:
                answer = verdict(ask, person, situation)
            return availability_model(found, answer, self.language, utc_now())

        self.answer(await asyncio.to_thread(work))

    @staticmethod
    def _ask(query: AvailabilityQuery) -> Ask:
        given = {"group": query.group, "model": query.model, "isolation": query.isolation}
        # Read with some share: asking for none forgets the group and the model, which the
        # verdicts on all other sizes are about.
        about = read_ask({"share": "1 block", **given})
        if isinstance(about, Refusal):
            raise Refused(about)
        if query.share is None:
            return about.with_share(CpuOnly())
        asked = read_ask({"share": query.share, **given})
        if isinstance(asked, Refusal):
            raise Refused(asked)
        return about.with_share(asked.share)


class MyLeasesHandler(Reading):
    async def get(self) -> None:
        query = self.query(LeasesQuery)
        ledger = await self.ledger()
        mine = sorted(self.mine(ledger.books.leases), key=lambda lease: lease.reserved_at)
        page = mine[query.offset : query.offset + query.limit]
        inventory = await asyncio.to_thread(self.state.allocator.inventory)
        try:
            receipts = [await self._receipt(lease) for lease in page]
        except LedgerUnavailable as error:
            raise self.no_ledger(error) from error
        self.answer(
            LeasesModel(
                simulated=gpu_state_model(inventory, utc_now()).simulated,
                items=[
                    lease_model(lease, inventory, receipt, self.language)
                    for lease, receipt in zip(page, receipts, strict=True)
                ],
                pagination=PageModel(offset=query.offset, limit=query.limit, total=len(mine)),
            )
        )

    async def _receipt(self, lease: Lease):
        return await asyncio.to_thread(self.state.allocator.store.receipt, lease.id)


class ReceiptHandler(Reading):
    """A notebook tells what it found; its owner and administrators read it."""

    async def put(self, lease_id: str) -> None:
        self.query(NoQuery)
        receipt = self._read_body()
        if receipt.lease_id != lease_id:
            raise Said(400, "The receipt names another lease than the address does.")
        lease = await self._lease(lease_id)
        if lease is None or not self.owns(lease):
            raise Said(404, "You hold no open lease of that id.")
        saved = await self._in_store(
            lambda store: store.put_receipt(lease_id, receipt.model_dump(mode="json"), utc_now())
        )
        if not saved:
            raise Said(409, "That lease is not open any more.")
        self.answer(receipt)

    async def get(self, lease_id: str) -> None:
        self.query(NoQuery)
        lease = await self._lease(lease_id)
        if lease is None or not (self.may_read_all or self.owns(lease)):
            raise Said(404, "You hold no open lease of that id.")
        found = await self._in_store(lambda store: store.receipt(lease_id))
        if found is None:
            raise Said(404, "The notebook has not sent its receipt yet.", "no_receipt_yet")
        self.answer(ReceiptModel.model_validate(found, strict=False))

    def _read_body(self) -> ReceiptModel:
        if len(self.request.body) > MAX_RECEIPT_BYTES:
            raise Said(413, f"A receipt has at most {MAX_RECEIPT_BYTES // 1024} KiB.")
        try:
            return ReceiptModel.model_validate_json(self.request.body)
        except ValidationError as error:
            raise Said(400, told(error)) from None

    async def _lease(self, lease_id: str) -> Lease | None:
        ledger = await self.ledger()
        return next((lease for lease in ledger.books.leases if lease.id == lease_id), None)

    async def _in_store(self, act):
        try:
            return await asyncio.to_thread(lambda: act(self.state.allocator.store))
        except LedgerUnavailable as error:
            raise self.no_ledger(error) from error


class FindingsHandler(ServiceHandler):
    """For administrators: names and leases of others stand in it."""

    async def get(self) -> None:
        self.query(FindingsQuery)
        if not self.may_read_all:
            raise Said(403, f"Findings need a token with the scope {READ_SCOPE}.")
        standing = self.state.reconciler.standing
        self.answer(findings_model(standing.uncertain, standing.checked_at, self.language))


class HealthHandler(ServiceHandler):
    """For monitors, without login: words, no addresses, no names."""

    needs_login = False

    async def get(self) -> None:
        self.query(NoQuery)
        now = utc_now()
        database = await asyncio.to_thread(self._database)
        inventory = await asyncio.to_thread(self.state.allocator.inventory)
        standing = self.state.reconciler.standing
        checked_at = standing.checked_at
        age = None if checked_at is None else round((now - checked_at).total_seconds(), 3)
        trouble = "waiting for Hub, database or cluster; the service's log says for what"
        gpu_state = gpu_state_model(inventory, utc_now())
        ok = database.ok and gpu_state.readable and standing.trouble is None
        self.answer(
            HealthModel(
                status="ok" if ok else "degraded",
                version=version("aliquot"),
                at=now,
                database=database,
                gpu_state=gpu_state,
                reconciliation=ReconciliationHealth(
                    ok=standing.trouble is None,
                    message=None if standing.trouble is None else trouble,
                    checked_at=checked_at,
                    age_seconds=age,
                    released=standing.released,
                    readopted=standing.readopted,
                    activated=standing.activated,
                ),
                uncertain=dict(Counter(one.kind for one in standing.uncertain)),
            ),
            200 if database.ok else 503,
        )

    def _database(self) -> DatabaseHealth:
        try:
            self.state.allocator.store.ledger()
        except LedgerUnavailable:
            message = "the ledger cannot be read; the service's log says why"
            return DatabaseHealth(ok=False, message=message)
        return DatabaseHealth(ok=True, message=None)


class MetricsHandler(ServiceHandler):
    """For Prometheus: a token with the scope ``custom:aliquot:read``, or, where the admin
    allows it, a scraper on this machine that does not come through the proxy."""

    async def prepare(self) -> None:
        if self.state.open_metrics_on_loopback and self._is_direct_from_here():
            return
        await super().prepare()
        if self.caller is not None and not self.may_read_all:
            raise Said(403, f"Metrics need a token with the scope {READ_SCOPE}.")

    def _is_direct_from_here(self) -> bool:
        """The proxy is on this machine too, but says for whom it asks."""
        forwarded = any(name.lower().startswith("x-forwarded") for name in self.request.headers)
        try:
            return not forwarded and ip_address(self.request.remote_ip or "").is_loopback
        except ValueError:
            return False

    async def get(self) -> None:
        self.query(NoQuery)
        text = await asyncio.to_thread(exposition, self.state)
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(text)
