"""The demo's trip: what its users do over HTTP, and that nothing is left of it.

A slice and a part of a card are picked and seen in a cell; a pod in HAMi's shape is refused;
eight users want seven slices at once. The first step that goes wrong ends the trip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aliquot.cli.trip import Trip, TripFailed, Visitor
from tests.cluster.pod_hub import PodHub

SLICE = "1g.10gb"
GROUPS = {
    "vision": ["ada", "lin", "mary", "hedy", "joan", "edith", "karen", "radia"],
    "nlp": ["grace", "lin"],
}
_CELL = "%load_ext aliquot_lab\n%gpu"
# What an admin has from a cluster with HAMi, and has not taken out here.
PROFILES = [
    {"display_name": "Notebook", "slug": "notebook", "default": True},
    {
        "display_name": "Notebook with 30 of HAMi's cores",
        "slug": "hami",
        "kubespawner_override": {
            "extra_resource_limits": {"nvidia.com/gpucores": "30", "nvidia.com/gpumem": "8192"},
        },
    },
]
_GONE_SECONDS = 60
_RECEIPT_SECONDS = 60
T = TypeVar("T")


class PatientVisitor(Visitor):
    """Several JupyterLabs start at once, perhaps on two busy cores."""

    start_seconds = 240


class KubernetesTrip(Trip):
    """``say`` gets one line a step."""

    def __init__(self, here: PodHub, password: str, say: Callable[[str], object]) -> None:
        super().__init__(here.hub.url, password, say)
        self.here = here

    def run(self) -> None:
        """Raises TripFailed at the first step that goes wrong."""
        began = time.monotonic()
        with self._step("nine users log in"):
            vision = [self._visitor(name) for name in GROUPS["vision"]]
            grace = self._visitor("grace")
        ada, lin, *_ = vision
        with self._step(f"ada starts JupyterLab with {SLICE}"):
            self._start(ada, SLICE)
        with self._step("ada's cell prints her usage") as note:
            note(ada.run_cell(_CELL))
        with self._step("grace starts JupyterLab with 30 blocks, by a claim (DRA)"):
            self._start(grace, "30 blocks")
        with self._step("grace's cell prints her usage") as note:
            note(grace.run_cell(_CELL))
        with self._step("what both see inside is what their leases say"):
            self._wait_for_receipts(ada, grace)
        with self._step("lin is refused a pod in HAMi's shape") as note:
            said = lin.refused(profile="hami", share="none")
            if "no HAMi node here" not in said:
                raise TripFailed(f"the reason is another: {said}")
            note(said)
        with self._step(f"the others want a {SLICE} each, all at once: six are left for seven"):
            refused = self._all_at_once(vision[1:])
        with self._step("all seven slices are at work, each in a notebook of its own") as note:
            note(self._slices_at_work())
        (eighth, why), *others = refused.items()
        if others:
            raise TripFailed(f"{len(refused)} were refused, one should be: {refused}")
        with self._step(f"the eighth, {eighth}, was told why") as note:
            note(why)
        with self._step("all stop"):
            _together(Visitor.stop, [grace, *(one for one in vision if one.name != eighth)])
        with self._step("books, pods, claims and templates are at zero") as note:
            note(self._wait_for_zero())
        self.say(f"The whole trip took {time.monotonic() - began:.1f} s.")

    def _visitor(self, name: str) -> Visitor:
        return PatientVisitor(self.address, name, self.password)

    def _start(self, visitor: Visitor, share: str) -> None:
        visitor.start(profile="notebook", share=share)
        visitor.wait_until_ready()

    def _wait_for_receipts(self, *visitors: Visitor) -> None:
        give_up_at = time.monotonic() + _RECEIPT_SECONDS
        for visitor in visitors:
            while (verdict := visitor.leases()[0]["verdict"]) != "verified":
                if time.monotonic() > give_up_at:
                    raise TripFailed(f"{visitor.name}'s receipt says {verdict}.")
                time.sleep(0.5)

    def _all_at_once(self, visitors: list[Visitor]) -> dict[str, str]:
        """Who was refused, and with what words."""

        def ask(visitor: Visitor) -> str:
            answer = visitor.ask(profile="notebook", share=SLICE)
            if answer is None:
                visitor.wait_until_ready()
            return answer or ""

        said = _together(ask, visitors)
        return {name: why for name, why in said.items() if why}

    def _slices_at_work(self) -> str:
        leases = [
            lease for lease in self.here.store.open_leases() if lease.placement.words == SLICE
        ]
        slices = {piece.mig_uuid for lease in leases for piece in lease.placement.pieces}
        running = [pod for pod in self.here.pods() if pod["status"]["phase"] == "Running"]
        if not len(leases) == len(slices) == len(running) - 1 == 7:
            raise TripFailed(
                f"{len(leases)} leases on {len(slices)} slices, {len(running)} pods run."
            )
        return f"{len(running)} pods run: 7 on slices, 1 on a claim"

    def _wait_for_zero(self) -> str:
        give_up_at = time.monotonic() + _GONE_SECONDS
        while any((left := self.here.left()).values()):
            if time.monotonic() > give_up_at:
                raise TripFailed(f"after {_GONE_SECONDS} s there are still {left}.")
            time.sleep(0.2)
        return ", ".join(f"{count} {kind}" for kind, count in left.items())


def _together(act: Callable[[Visitor], T], visitors: Iterable[Visitor]) -> dict[str, T]:
    """What each of them got, by name."""
    all_of_them = list(visitors)
    with ThreadPoolExecutor(max_workers=len(all_of_them)) as threads:
        given = threads.map(act, all_of_them)
        return {visitor.name: one for visitor, one in zip(all_of_them, given, strict=True)}
