"""The picker: the part of the spawn page where a person chooses a GPU size.

Pure: values in, HTML out. The HTML stands inside
the Hub's own ``<form>``, which owns Start and the XSRF token, and works without JavaScript.
The script that keeps the verdicts right while the page is open is built by ``extension/ui``;
without it the page is the same, only still.

The Hub inserts the form as it is (``|safe``), so every foreign value is escaped here: the
templates autoescape, and JSON inside a script element carries no ``<``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aliquot.domain.asks import UNITS
from aliquot.domain.availability import Availability, GroupBalance
from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import Unreadable
from aliquot.domain.refusals import Number, Reason, Refusal
from aliquot.domain.shares import MAX_TEXT, Blocks, CpuOnly, Memory
from aliquot.domain.sizes import Run, State
from aliquot.domain.wording import say, say_refusal, templates
from aliquot.spawners.picker_cards import (
    CPU,
    Card,
    Range,
    VerdictWords,
    cpu_card,
    ranges,
    run_at,
    runs_json,
    size_cards,
    verdict_words,
)
from aliquot.spawners.picker_fields import (
    CUSTOM,
    form_options,
    presets_with,
    share_of,
    text_of,
    was_offered,
)
from aliquot.spawners.picker_refusal import (
    AMOUNT_FIELD,
    GROUP_FIELD,
    ISOLATION_FIELD,
    MODEL_FIELD,
    SIZE_FIELD,
    UNIT_FIELD,
    RefusalOnPage,
    field_of,
    refusal_on_page,
    sentence,
)

__all__ = ["PickerPage", "form_options", "presets_with", "render_picker", "was_offered"]

REFRESH_SECONDS = 10
SUGGESTED_BLOCKS = 20
STALE_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class PickerPage:
    """Everything that the page shows.

    ``availability`` is a Refusal when the ledger cannot be read. ``chosen`` are the raw
    options to keep (rejected, or saved), ``last_used`` those of the last server that ran;
    both may be hostile. The sizes in them get a card when they are among the availability's
    presets: see ``presets_with``. ``refusal`` is the answer to the last press of Start;
    ``was_offered`` that the page it came from had said "starts now" of it.
    ``home_url`` is where servers are stopped, None when it is not known.
    """

    availability: Availability | Refusal
    read_at: datetime
    chosen: Mapping[str, object] = field(default_factory=dict)
    refusal: Refusal | None = None
    was_offered: bool = False
    last_used: Mapping[str, object] | None = None
    language: str = "en"
    home_url: str | None = None


def render_picker(page: PickerPage) -> str:
    return _environment().get_template("picker.html").render(_View(page).context())


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("aliquot.spawners", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _built(name: str) -> Markup:
    """A file that ``extension/ui`` built; empty when it was not built.

    It is code of ours, so it goes in unescaped. Its builder escapes ``</script``.
    """
    path = files("aliquot.spawners").joinpath("static", name)
    return Markup(path.read_text("utf-8")) if path.is_file() else Markup("")


@cache
def _own_style() -> Markup:
    return Markup(files("aliquot.spawners").joinpath("templates", "picker_style.css").read_text())


@cache
def _script_strings(language: str) -> Mapping[str, str]:
    """The sentences that the script fills in: templates, with their places still open."""
    return templates("picker.script.", language)


@dataclass(frozen=True, slots=True)
class _Choice:
    value: str
    text: str
    checked: bool = False


@dataclass(frozen=True, slots=True)
class _Banner:
    """``kind`` is Bootstrap's: danger, warning or info."""

    kind: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class _Custom:
    amount: str
    unit: str
    units: tuple[_Choice, ...]
    verdict: VerdictWords | None
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class _Advanced:
    """``models`` is empty where there is one only; ``isolation``: whether it can be asked."""

    models: tuple[str, ...]
    model: str
    isolation: bool
    isolated: bool

    @property
    def open(self) -> bool:
        return bool(self.model) or self.isolated


class _View:
    """A page's values as the template wants them."""

    def __init__(self, page: PickerPage) -> None:
        self.page = page
        self.language = page.language
        shown = page.availability
        self.shown = shown if isinstance(shown, Availability) else None
        readable = self.shown is not None and isinstance(self.shown.inventory, Inventory)
        self.inventory = (
            self.shown.inventory
            if self.shown is not None and isinstance(self.shown.inventory, Inventory)
            else None
        )
        # What stops every GPU start alike is said once, on top, instead of on every card.
        self.blocked = self._blocked()
        self.has_gpu_sizes = readable and self.blocked is None
        last_used = share_of(page.last_used or {})
        gpu_cards: tuple[Card, ...] = ()
        if self.shown is not None and self.has_gpu_sizes:
            gpu_cards = size_cards(self.shown, last_used, self.language)
        self.cards = (cpu_card(self.language), *gpu_cards)

    def say(self, key: str, **numbers: Number) -> str:
        return say(key, self.language, **numbers)

    def context(self) -> Mapping[str, object]:
        shown = self.shown
        checked = self._checked()
        custom = self._custom(checked)
        return {
            "language": self.language,
            "say": self.say,
            "refresh_seconds": REFRESH_SECONDS,
            "read_at": self.page.read_at.astimezone(UTC).isoformat(timespec="seconds"),
            "css": _built("picker.css"),
            "style": _own_style(),
            "script": _built("picker.js"),
            "strings": _script_strings(self.language),
            "runs": runs_json(shown, self.language) if shown is not None else {"blocks": []},
            "seen": self._seen(),
            "refusal": self._refusal(),
            "invalid": self._invalid_field(),
            "banners": self._banners(),
            "balances": self._balances(),
            "has_gpu_sizes": self.has_gpu_sizes,
            "cards": self.cards,
            "checked": checked,
            "custom": custom,
            "some_wait": any(card.verdict.state is State.LATER for card in self.cards),
            "advanced": self._advanced(),
            "summary": self._summary(checked, custom),
            "as_of": self.say("picker.as_of", read_at=self.page.read_at),
        }

    def _blocked(self) -> Refusal | None:
        page = self.page.availability
        if isinstance(page, Refusal):
            return page
        if isinstance(page.inventory, Unreadable):
            return Refusal(Reason.GPU_STATE_UNREADABLE, {"detail": page.inventory.why})
        if not page.inventory.gpus:
            return Refusal(Reason.NO_GPUS)
        if not page.groups:
            return Refusal(Reason.NO_GROUP, {"person": page.person.name})
        return None

    def _banners(self) -> list[_Banner]:
        banners: list[_Banner] = []
        if self.inventory is not None and self.inventory.simulated:
            banners.append(
                _Banner(
                    "info", self.say("picker.simulated.title"), self.say("picker.simulated.text")
                )
            )
        if self.blocked is not None:
            said = say_refusal(self.blocked, self.language)
            kind = "danger" if self.blocked.reason.is_fault else "warning"
            text = f"{sentence(said.why)} {self.say('picker.blocked.remedy')}"
            banners.append(_Banner(kind, f"{said.what}.", text))
        elif self.inventory is not None:
            age = self.page.read_at - self.inventory.read_at
            if age > STALE_AFTER:
                banners.append(
                    _Banner(
                        "warning",
                        self.say("picker.stale.title", read_at=self.inventory.read_at),
                        self.say("picker.stale.text"),
                    )
                )
            if all(card.verdict.state is not State.NOW for card in self.cards[1:]) and not any(
                run.state is State.NOW for run in self._runs
            ):
                banners.append(
                    _Banner("warning", self.say("picker.full.title"), self.say("picker.full.text"))
                )
        return banners

    @property
    def _runs(self) -> tuple[Run, ...]:
        return self.shown.runs if self.shown is not None else ()

    def _balances(self) -> list[_Choice]:
        """The groups that can pay; "any" first where there are several."""
        if self.shown is None or self.blocked is not None:
            return []
        asked = self.shown.asked.group
        choices = [
            _Choice(group.name, self._balance(group), asked == group.name)
            for group in self.shown.groups
        ]
        if len(choices) > 1:
            choices.insert(0, _Choice("", self.say("picker.group.any"), asked is None))
        return choices

    def _balance(self, group: GroupBalance) -> str:
        numbers: dict[str, Number] = {
            "group": group.name,
            "free_blocks": group.free_blocks,
            "nominal_blocks": group.nominal_blocks,
            "mine_blocks": group.mine_blocks,
        }
        if group.cap_blocks is None:
            return self.say("picker.group.balance", **numbers)
        return self.say("picker.group.balance.cap", **numbers, cap_blocks=group.cap_blocks)

    def _seen(self) -> str:
        """What this page says "starts now" of: ``1-60,100,1g.10gb``."""
        runs = [
            f"{run.first}-{run.last}" if run.last > run.first else str(run.first)
            for run in self._runs
            if run.state is State.NOW
        ]
        cards = [c.value for c in self.cards[1:] if c.verdict.state is State.NOW]
        return ",".join([*runs, *cards])

    def _checked(self) -> str:
        """The value of the chosen radio: what was chosen, or no GPU."""
        chosen = self.page.chosen
        values = [card.value for card in self.cards]
        text = text_of(chosen, "share")
        if text == CUSTOM or (not text and "amount" in chosen):
            return CUSTOM
        share = share_of(chosen)
        if share is not None and str(share) in values:
            return str(share)
        return CUSTOM if text and not isinstance(share, CpuOnly) and self.has_gpu_sizes else CPU

    def _custom(self, checked: str) -> _Custom:
        """The custom size. A chosen size without a card of its own is kept here, unread
        text too."""
        chosen = self.page.chosen
        amount, unit = text_of(chosen, "amount"), text_of(chosen, "unit") or "blocks"
        share = share_of(chosen)
        if checked == CUSTOM and text_of(chosen, "share") not in ("", CUSTOM):
            match share:
                case Blocks(count):
                    amount, unit = str(count), "blocks"
                case Memory():
                    amount, unit = str(share).removesuffix(" GB"), "gb"
                case _:
                    amount = text_of(chosen, "share")[:MAX_TEXT]
        elif not amount and "amount" not in chosen:
            amount = str(self._suggested_blocks())
        verdict = None
        if checked == CUSTOM and isinstance(share, Blocks):
            run = run_at(self._runs, share.count)
            verdict = None if run is None else verdict_words(run.decision, self.language)
        units = tuple(_Choice(u, self.say(f"picker.custom.unit.{u}")) for u in UNITS)
        return _Custom(amount, unit, units, verdict, ranges(self._runs, self.language))

    def _suggested_blocks(self) -> int:
        """A custom amount to begin with: one that no preset has, and that starts now."""
        now = [run.last for run in self._runs if run.state is State.NOW]
        return min([SUGGESTED_BLOCKS, *now[:1]])

    def _advanced(self) -> _Advanced | None:
        if self.inventory is None or self.shown is None or self.blocked is not None:
            return None
        models = self.inventory.models
        asked = self.shown.asked
        mig = bool(self.inventory.profiles)
        advanced = _Advanced(
            models if len(models) > 1 else (),
            asked.model or "",
            mig or asked.isolated,
            asked.isolated,
        )
        return advanced if advanced.models or advanced.isolation else None

    def _summary(self, checked: str, custom: _Custom) -> str:
        if checked == CUSTOM:
            if share_of(self.page.chosen) is None:
                return self.say("picker.custom")
            unit = self.say(f"picker.custom.unit.{custom.unit}") if custom.unit in UNITS else ""
            said = custom.verdict.sentence if custom.verdict is not None else ""
            return f"{custom.amount} {unit}. {said}".strip()
        return next(card.summary for card in self.cards if card.value == checked)

    def _invalid_field(self) -> str:
        """The id of the control that caused the refusal, of those that this page has."""
        if self.page.refusal is None:
            return ""
        caused = field_of(self.page.refusal)
        advanced = self._advanced()
        present = {
            AMOUNT_FIELD: self.has_gpu_sizes,
            UNIT_FIELD: self.has_gpu_sizes,
            GROUP_FIELD: len(self._balances()) > 1,
            MODEL_FIELD: advanced is not None and bool(advanced.models),
            ISOLATION_FIELD: advanced is not None and advanced.isolation,
        }
        return caused if present.get(caused, False) else SIZE_FIELD

    def _refusal(self) -> RefusalOnPage | None:
        if self.page.refusal is None:
            return None
        return refusal_on_page(
            self.page.refusal,
            self._invalid_field(),
            self.language,
            was_offered=self.page.was_offered,
            home_url=self.page.home_url,
        )
