"""The share spawner: what every spawner that gives out GPUs does, whatever it starts.

A mixin over a Hub spawner. It reads options in one place, reserves before anything starts,
hands the patch to the class below it, and gives the lease back in ``run_post_stop_hook``: the
only point that the Hub reaches after a rejection, a failed start, a timeout, a cancel, a crash
and a stop alike.

An *attempt* is one run of ``start``. Its id is the lease's, so a late clean-up of an earlier
attempt cannot take the piece of a later one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any

from jupyterhub.utils import maybe_future
from traitlets import Bool, List, Unicode, default
from traitlets.config import Configurable

from aliquot.allocator import Allocator, Reserved
from aliquot.bindings.local_devices import bind_nothing
from aliquot.bindings.patches import ProcessPatch
from aliquot.bindings.told import told
from aliquot.discovery.marked_processes import marks
from aliquot.domain.asks import KEYS, read_ask
from aliquot.domain.judging import reason_of
from aliquot.domain.lease_json import lease_from_json, lease_to_json
from aliquot.domain.leases import Lease, Person, Placement, Server
from aliquot.domain.refusals import Ask, Refusal
from aliquot.domain.shares import CpuOnly
from aliquot.domain.wording import say
from aliquot.settings import Settings, settings_of
from aliquot.spawners.form import Form, Rejection, language_of, picker_form
from aliquot.spawners.picker import form_options, was_offered
from aliquot.spawners.refused import LinkPrefills, StartRefused
from aliquot.storage import LedgerUnavailable

_STATE = "aliquot"
_NO_GPU = bind_nothing(Placement(()))


def _options_from_form(form: Mapping[str, list[Any]], spawner: ShareSpawner | None = None) -> Any:
    """The Hub passes the spawner for a posted form, and none for a link."""
    if spawner is not None:
        spawner.posted_form = form
    return form_options(form)


class ShareSpawner(Configurable):
    """GPU shares for a spawner. Put it before the spawner's class among the bases."""

    other_options = List(
        Unicode(),
        help="""
        Names of user options that belong to your own form or hooks.

        They are handed to ``apply_user_options`` and not looked at. Any other name that is
        unknown refuses the start. ``["*"]`` lets every name pass.
        """,
    ).tag(config=True)

    links_start_servers = Bool(
        False,
        help="""
        Let a link with options (``/hub/spawn?opt-share=…``) start a server at once.

        Off, such a link only fills in the form. On, any web site or mail can make a user who
        follows its link hold a GPU of the sender's choice.
        """,
    ).tag(config=True)

    @default("options_form")
    def _default_options_form(self) -> Any:
        return picker_form

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        # With a form of the admin's own, the Hub's default stays.
        if self.options_form is picker_form:
            return _options_from_form
        return type(self)._passthrough_options_from_form

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ask: Ask | None = None
        self._reserved: Reserved | None = None
        self._lease: Lease | None = None
        self._attempt: str | None = None
        self._reserving: asyncio.Future[Any] | None = None
        self._activating: asyncio.Future[Any] | None = None
        self._accepted: dict[str, Any] = {}
        self.posted_form: Mapping[str, list[Any]] = {}
        super().__init__(*args, **kwargs)

    # -- what the deployment is ------------------------------------------------------------

    @cached_property
    def settings(self) -> Settings:
        """Read once: a Hub's configuration does not change while it runs."""
        return settings_of(self.config)

    @property
    def allocator(self) -> Allocator:
        return Allocator.from_settings(self.settings)

    @property
    def person(self) -> Person:
        """The owner of the server, whoever starts it."""
        groups = frozenset(group.name for group in self.user.groups)
        return Person(self.user.id, self.user.name, groups)

    @property
    def last_accepted(self) -> Mapping[str, Any]:
        """The options of the last start that was granted; survives hub and server."""
        return self._accepted

    @property
    def saved_options(self) -> Mapping[str, Any]:
        """What the Hub would start with now: accepted ones, or set by REST and not yet read."""
        return self.orm_spawner.user_options or {}

    # -- options: every path meets in _run_apply_user_options ---------------------------------

    def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Fill in the form from a link; start only where the admin has allowed it."""
        options = self.run_options_from_form(query_data)
        if self.links_start_servers:
            return options
        language = language_of(self.handler)
        form = Form.of(self.user)
        form.keep_prefill(options)
        raise LinkPrefills(say("picker.link_prefills", language))

    async def known_options(self) -> Collection[str]:
        """Names of options that are not ours and may pass; ``*`` lets all pass."""
        return self.other_options

    async def _run_apply_user_options(self, user_options: Any) -> None:
        """The Hub's hook point for options (5.3 and newer), before pre_spawn_hook."""
        known = await self.known_options()
        if "*" in known and isinstance(user_options, Mapping):
            known = user_options.keys()
        ask = read_ask(user_options, also_known=known)
        if isinstance(ask, Refusal):
            raise self._refused(ask)
        self._ask = ask
        others = {key: value for key, value in user_options.items() if key not in KEYS}
        await super()._run_apply_user_options(others)

    def _refused(self, refusal: Refusal) -> StartRefused:
        """Forget the options, which the Hub has saved already, and tell the person why."""
        language = language_of(self.handler)
        given = self.user_options if isinstance(self.user_options, dict) else {}
        Form.of(self.user).keep_rejection(
            Rejection(refusal, given, language, was_offered=self._was_offered())
        )
        self._forget_options(self._accepted)
        self.log.info("%s: start refused, %s", self._log_name, refusal.reason.value)
        return StartRefused(refusal, language)

    def _forget_options(self, accepted: dict[str, Any]) -> None:
        """Start from these when the next start brings no options of its own."""
        self._accepted = accepted
        self.user_options = dict(accepted)
        self.orm_spawner.user_options = dict(accepted)

    def _was_offered(self) -> bool:
        """Whether the page had said "starts now": then somebody else was faster."""
        return self._ask is not None and was_offered(self.posted_form, self._ask.share)

    # -- start ---------------------------------------------------------------------------------

    async def start(self) -> Any:
        ask = self._ask if self._ask is not None else Ask()
        self._attempt = uuid.uuid4().hex
        self._reserved = self._lease = None
        if not isinstance(ask.share, CpuOnly):
            await self._reserve(ask, self._attempt)
        accepted_before, self._accepted = self._accepted, dict(self.user_options)
        Form.of(self.user).forget()
        try:
            return await maybe_future(super().start())
        except StartRefused:
            self._forget_options(accepted_before)
            raise

    async def _reserve(self, ask: Ask, attempt: str) -> None:
        """Hold the piece before anything exists that could use it."""
        server = Server(self.orm_spawner.id, self.name)
        # Kept, so that a start that is cancelled meanwhile can be cleaned up after the
        # thread is through: it cannot be stopped, and would leave a lease behind.
        self._reserving = asyncio.ensure_future(
            asyncio.to_thread(
                self.allocator.reserve, ask, self.person, server, attempt, ask.to_options()
            )
        )
        result = await asyncio.shield(self._reserving)
        if not isinstance(result, Reserved):
            raise self._refused(reason_of(result))
        self._reserved, self._lease = result, result.lease
        self.log.info(
            "%s: holds %s for group %s, lease %s",
            self._log_name,
            result.lease.placement.words,
            result.lease.group,
            attempt,
        )

    @property
    def process_patch(self) -> ProcessPatch:
        """What the binding asks for; a server without a lease is kept from every GPU."""
        return self._reserved.patch if self._reserved is not None else _NO_GPU

    def get_env(self) -> dict[str, str]:
        """The Hub's environment with the patch on top, so that nothing configured widens it."""
        env = super().get_env()
        patch = self.process_patch
        for name in patch.unset:
            env.pop(name, None)
        env.update(patch.env)
        if self._attempt is not None:
            settings = self.settings
            env.update(marks(settings.database_url, self.orm_spawner.id, self._attempt))
            if settings.service_url:
                env["ALIQUOT_SERVICE_URL"] = settings.service_url
        env.pop("ALIQUOT_LEASE", None)
        if self._reserved is not None:
            reserved = self._reserved
            env["ALIQUOT_LEASE"] = told(
                reserved.lease, reserved.patch, simulated=reserved.simulated
            )
        return env

    def reserved_event(self) -> list[dict[str, Any]]:
        """What is told first on the pending page: the piece that is held, if one is."""
        if self._lease is None:
            return []
        held = say(
            "picker.reserved",
            language_of(self.handler),
            share=self._lease.placement.words,
            group=self._lease.group,
        )
        return [{"progress": 20, "message": held}]

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        for event in self.reserved_event():
            yield event
        async with aclosing(super().progress()) as events:
            async for event in events:
                yield event

    def add_poll_callback(self, *args: Any, **kwargs: Any) -> None:
        """The Hub calls this once the server has answered, and again for servers that it
        finds after its own restart: the one sign of it that a spawner gets."""
        super().add_poll_callback(*args, **kwargs)
        if self._lease is not None:
            self._activating = asyncio.ensure_future(self._activate(self._lease.id))

    async def _activate(self, lease_id: str) -> None:
        try:
            await asyncio.to_thread(self.allocator.activate, lease_id)
        except LedgerUnavailable as error:
            self.log.warning("lease %s is active, written later: %s", lease_id, error)

    # -- stop ----------------------------------------------------------------------------------

    async def run_post_stop_hook(self) -> None:
        """Give the piece back, then run the admin's hook. May be called more than once."""
        try:
            await self._give_back()
        finally:
            await maybe_future(super().run_post_stop_hook())

    async def _give_back(self) -> None:
        if self._reserving is not None:
            await asyncio.wait([self._reserving])
            self._reserving = None
        attempt, lease = self._attempt, self._lease
        self._ask = self._reserved = self._lease = self._attempt = None
        self.posted_form = {}
        if attempt is not None and lease is None:
            return
        # With no attempt known, the hub was killed in one and has restarted: whatever the
        # server holds or runs is left over.
        attempt = lease.id if lease is not None else None
        await self.end_leftovers(attempt)
        try:
            if attempt is not None:
                await asyncio.to_thread(self.allocator.release, attempt, "stopped")
            else:
                await asyncio.to_thread(
                    self.allocator.release_server, self.orm_spawner.id, "hub_restarted"
                )
        except LedgerUnavailable as error:
            self.log.warning("%s: lease is released later: %s", self._log_name, error)

    async def end_leftovers(self, attempt: str | None) -> None:
        """End what may still use the piece of an attempt, or of any (None). A spawner whose
        stop is complete by itself has nothing to do."""

    # -- state ---------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """The Hub calls this for every look at the user: no I/O."""
        state = super().get_state()
        mine: dict[str, Any] = {}
        if self._lease is not None:
            mine["lease"] = lease_to_json(self._lease)
        if self._accepted:
            mine["accepted"] = self._accepted
        if mine:
            state[_STATE] = mine
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        mine = state.get(_STATE) or {}
        self._accepted = mine.get("accepted") or {}
        if "lease" in mine:
            try:
                self._lease = lease_from_json(mine["lease"])
            except (ValueError, KeyError, TypeError) as error:
                self.log.error("%s: saved lease cannot be read: %r", self._log_name, error)
            else:
                self._attempt = self._lease.id
