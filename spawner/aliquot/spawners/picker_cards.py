"""Picker cards: what one size says on the spawn page, in words.

Pure. A *card* is one size with its facts (memory, isolation, model, charge), its verdict and
what would be a yes. Text is plain; the template escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aliquot.domain.availability import Availability, GroupBalance
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory
from aliquot.domain.judging import Decision, Grant, reason_of
from aliquot.domain.leases import Piece, Placement
from aliquot.domain.refusals import Reason, Refusal, RemedyKind
from aliquot.domain.shares import Blocks, CpuOnly, Memory, Share
from aliquot.domain.sizes import Run, State, Verdict, state_of
from aliquot.domain.wording import say, say_refusal, say_remedy

CPU = "cpu"

# A "no" that can end when somebody stops, with the limit that it must still be under: worded
# "not now", not "not possible".
_PASSING = {Reason.OVER_PERSON_CAP: "cap_blocks", Reason.OVER_GROUP_QUOTA: "nominal_blocks"}
# The way without a GPU is a card of its own; these need no words on every other one.
_SAID_ELSEWHERE = {RemedyKind.WITHOUT_GPU, RemedyKind.FIX_OPTION, RemedyKind.ASK_ADMIN}
_MOST_REMEDIES = 3
_MOST_RANGES = 6


@dataclass(frozen=True, slots=True)
class VerdictWords:
    """``state`` decides the icon; ``word`` says it; ``why`` is empty for a yes."""

    state: State
    word: str
    why: str = ""
    remedies: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        return f"{self.word}: {self.why}" if self.why else f"{self.word}."


@dataclass(frozen=True, slots=True)
class Card:
    """``value`` is the share's text form, what the form sends."""

    value: str
    title: str
    facts: tuple[str, ...]
    verdict: VerdictWords
    summary: str
    last_used: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Block counts with one verdict, for people without JavaScript: ``1 to 60 blocks``."""

    blocks: str
    verdict: VerdictWords


def verdict_words(decision: Decision, language: str) -> VerdictWords:
    """A decision as a card says it. A wait is a "not now": there is no line to wait in yet."""
    state = state_of(decision)
    if isinstance(decision, Grant):
        return VerdictWords(state, say("verdict.now", language))
    refusal = reason_of(decision)
    if state is State.APPROVAL:
        word = say("verdict.approval", language)
    elif state is State.LATER or _may_pass(refusal):
        word = say("verdict.not_now", language)
    else:
        word = say("verdict.no", language)
    return VerdictWords(
        state, word, say_refusal(refusal, language).why, _useful_remedies(refusal, language)
    )


def _may_pass(refusal: Refusal) -> bool:
    asked, limit = refusal.numbers.get("asked_blocks"), _PASSING.get(refusal.reason)
    most = refusal.numbers.get(limit) if limit is not None else None
    return isinstance(asked, int) and isinstance(most, int) and asked <= most


def _useful_remedies(refusal: Refusal, language: str) -> tuple[str, ...]:
    useful = [r for r in refusal.remedies if r.kind not in _SAID_ELSEWHERE]
    return tuple(say_remedy(remedy, language) for remedy in useful[:_MOST_REMEDIES])


def cpu_card(language: str) -> Card:
    title = say("picker.size.cpu", language)
    words = VerdictWords(State.NOW, say("verdict.now", language))
    return Card(
        value=CPU,
        title=title,
        facts=(say("picker.size.cpu.note", language),),
        verdict=words,
        summary=f"{title}. {words.sentence}",
    )


def size_cards(page: Availability, last_used: Share | None, language: str) -> tuple[Card, ...]:
    """One card a verdict in the order of the verdicts, the last used size first."""
    cards = [_card(v, page, v.ask.share == last_used, language) for v in page.verdicts]
    cards = [card for card in cards if card.value != CPU]
    return tuple(sorted(cards, key=lambda card: not card.last_used))


def _card(verdict: Verdict, page: Availability, last_used: bool, language: str) -> Card:
    share = verdict.ask.share
    words = verdict_words(verdict.decision, language)
    title = size_title(share, language)
    facts = [_note(share, language)]
    summary = f"{title}. {words.sentence}"
    if verdict.piece is not None and isinstance(page.inventory, Inventory):
        model = _models(verdict.piece)
        memory_mib = verdict.piece.memory_mib
        facts += [
            say("picker.card.memory", language, memory_mib=memory_mib, model=model),
            isolation_words(verdict.piece, page.inventory, language),
            _charge_words(verdict, page.groups, language),
        ]
        summary = say(
            "picker.summary",
            language,
            size=title,
            model=model,
            memory_mib=memory_mib,
            verdict=words.sentence,
        )
    return Card(
        value=str(share),
        title=title,
        facts=tuple(filter(None, facts)),
        verdict=words,
        summary=summary,
        last_used=last_used,
    )


def size_title(share: Share, language: str) -> str:
    match share:
        case CpuOnly():
            return say("picker.size.cpu", language)
        case Blocks(count):
            return say("picker.size.blocks", language, blocks=count)
        case _:
            return str(share)


def _note(share: Share, language: str) -> str:
    """What the title and the other facts do not say of a size."""
    match share:
        case Memory():
            return say("picker.size.memory.note", language)
        case Blocks() if share.whole_gpus and share.rest:
            return say(
                "picker.size.mixed.note",
                language,
                whole_gpus=share.whole_gpus,
                rest_blocks=share.rest,
            )
        case _:
            return ""


def _models(piece: Placement) -> str:
    return ", ".join(dict.fromkeys(part.gpu_model for part in piece.pieces))


def isolation_words(placement: Placement, inventory: Inventory, language: str) -> str:
    """What keeps others out of each kind of piece in the placement, and whether it is real."""
    keys = dict.fromkeys(_isolation_key(piece, inventory) for piece in placement.pieces)
    words = " + ".join(say(key, language) for key in keys)
    if inventory.simulated:
        return say("picker.isolation.simulated", language, isolation=words)
    return words


def _isolation_key(piece: Piece, inventory: Inventory) -> str:
    if piece.mig_uuid is not None:
        return "isolation.slice"
    if piece.blocks == BLOCKS_PER_GPU:
        return "isolation.whole"
    gpu = inventory.by_uuid.get(piece.gpu_uuid)
    by = None if gpu is None else gpu.blocks_by
    match by:
        case BlocksBy.SIMULATED:
            return "picker.isolation.shared"
        case BlocksBy.MPS:
            return "isolation.mps"
        case BlocksBy.HAMI:
            return "isolation.hami"
        case BlocksBy.KAI | BlocksBy.SHARES | BlocksBy.TIME_SLICING:
            return "isolation.counted"
        case _:
            return "isolation.advisory"


def _charge_words(verdict: Verdict, groups: tuple[GroupBalance, ...], language: str) -> str:
    assert verdict.piece is not None
    decision = verdict.decision
    if isinstance(decision, Grant):
        blocks, payer = decision.charge.blocks, decision.group
    else:
        asked = reason_of(decision).numbers.get("asked_blocks")
        blocks = asked if isinstance(asked, int) else verdict.piece.cost.blocks
        payer = verdict.ask.group or (groups[0].name if len(groups) == 1 else None)
    balance = next((group for group in groups if group.name == payer), None)
    if balance is None:
        return say("picker.card.charge", language, charge_blocks=blocks)
    fits = blocks <= balance.free_blocks
    return say(
        "picker.card.charge.of" if fits else "picker.card.charge.over",
        language,
        charge_blocks=blocks,
        free_blocks=balance.free_blocks,
        group=balance.name,
    )


def ranges(runs: tuple[Run, ...], language: str) -> tuple[Range, ...]:
    """The first few runs in words; neighbours that read the same are one."""
    merged: list[tuple[int, int, VerdictWords]] = []
    for run in runs:
        words = verdict_words(run.decision, language)
        if merged and merged[-1][2] == words:
            merged[-1] = (merged[-1][0], run.last, words)
        else:
            merged.append((run.first, run.last, words))
    return tuple(
        Range(_range_words(first, last, language), words)
        for first, last, words in merged[:_MOST_RANGES]
    )


def _range_words(first: int, last: int, language: str) -> str:
    if first == last:
        return say("picker.range.one", language, blocks=first)
    return say("picker.range", language, first=first, last_blocks=last)


def run_at(runs: tuple[Run, ...], count: int) -> Run | None:
    return next((run for run in runs if run.first <= count <= run.last), None)


def runs_json(page: Availability, language: str) -> Mapping[str, list[dict[str, object]]]:
    """The runs for the script: a verdict for every amount without another request.

    ``memory_text_per_block_mib`` is null where it depends on which model is given. A run of
    GB begins where the one before ends, so that 20.5 GB has a verdict: the larger amount's.
    """
    blocks = [_run_json(run, run.first, language) for run in page.runs]
    gigabytes = [_run_json(run, max(1, run.first - 1), language) for run in page.memory_runs]
    for row in blocks:
        row["memory_text_per_block_mib"] = _memory_per_block(page)
    return {"blocks": blocks, "gb": gigabytes}


def _run_json(run: Run, first: int, language: str) -> dict[str, object]:
    words = verdict_words(run.decision, language)
    return {
        "from": first,
        "to": run.last,
        "state": words.state.value,
        "verdict": words.word,
        "detail": words.why,
    }


def _memory_per_block(page: Availability) -> float | None:
    if not isinstance(page.inventory, Inventory):
        return None
    sizes = {gpu.memory_mib for gpu in page.inventory.gpus if _gives_blocks(gpu, page.asked.model)}
    return round(sizes.pop() / BLOCKS_PER_GPU, 2) if len(sizes) == 1 else None


def _gives_blocks(gpu: Gpu, model: str | None) -> bool:
    return not gpu.mig_enabled and model in (None, gpu.model)
