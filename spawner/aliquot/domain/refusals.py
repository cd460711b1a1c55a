"""Refusals: a "no" as a value, with its reason, its numbers and what would be a yes.

The list of reasons is closed. Their order is their precedence: when several hold, the first
is told, since the later ones may vanish with it. ``wording`` turns the values into sentences;
REST, log and metrics carry the reason's code.

Numbers carry their unit in the name (``held_blocks``), which is also how they are worded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from aliquot.domain.shares import CpuOnly, Share

Number = int | str | datetime


class Reason(StrEnum):
    """Why not. In order of precedence."""

    UNKNOWN_OPTION = "unknown_option"
    BAD_OPTION_VALUE = "bad_option_value"
    UNREADABLE_SHARE = "unreadable_share"
    MIG_NOT_COMBINABLE = "mig_not_combinable"
    FOREIGN_GPU = "foreign_gpu"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    GPU_STATE_UNREADABLE = "gpu_state_unreadable"
    NO_GPUS = "no_gpus"
    NO_GROUP = "no_group"
    NOT_YOUR_GROUP = "not_your_group"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_PROFILE = "unknown_profile"
    BLOCKS_NOT_OFFERED = "blocks_not_offered"
    MIXED_NOT_OFFERED = "mixed_not_offered"
    NOTHING_ISOLATED = "nothing_isolated"
    KIND_NOT_ALLOWED = "kind_not_allowed"
    TOO_LARGE = "too_large"
    OVER_NOTEBOOK_CAP = "over_notebook_cap"
    OVER_GROUP_TOTAL = "over_group_total"
    NEEDS_APPROVAL = "needs_approval"
    OVER_PERSON_CAP = "over_person_cap"
    OVER_GROUP_QUOTA = "over_group_quota"
    FRAGMENTED = "fragmented"
    NO_FREE_SLICE = "no_free_slice"
    NO_ROOM = "no_room"

    @property
    def precedence(self) -> int:
        return list(Reason).index(self)

    @property
    def is_users_mistake(self) -> bool:
        """The request itself is wrong (HTTP 400), rather than in conflict with the books (409)."""
        return self in (
            Reason.UNKNOWN_OPTION,
            Reason.BAD_OPTION_VALUE,
            Reason.UNREADABLE_SHARE,
            Reason.MIG_NOT_COMBINABLE,
        )

    @property
    def depends_on_books(self) -> bool:
        """Somebody's stop may undo it; the reasons before these hold on an empty machine too.

        An approval counts: it is told also where another group of the person is only full.
        """
        return self.precedence >= Reason.NEEDS_APPROVAL.precedence

    @property
    def is_fault(self) -> bool:
        """Something is broken (HTTP 503); CPU launches go on."""
        return self in (Reason.LEDGER_UNAVAILABLE, Reason.GPU_STATE_UNREADABLE)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as it was understood. ``model`` and ``group`` None mean any."""

    share: Share = field(default_factory=CpuOnly)
    group: str | None = None
    model: str | None = None
    isolated: bool = False

    def with_share(self, share: Share) -> Ask:
        return replace(self, share=share)

    def to_options(self) -> dict[str, str]:
        """The canonical user options: ``read_ask`` of them gives this ask back."""
        options = {"share": str(self.share)}
        if self.group is not None:
            options["group"] = self.group
        if self.model is not None:
            options["model"] = self.model
        if self.isolated:
            options["isolation"] = "mig"
        return options


class RemedyKind(StrEnum):
    """What would be a yes. In the order in which they are offered."""

    SMALLER = "smaller"
    OTHER_PIECE = "other_piece"
    ANY_MODEL = "any_model"
    OTHER_GROUP = "other_group"
    STOP_OWN = "stop_own"
    WHEN_ENDS = "when_ends"
    ASK_HOLDER = "ask_holder"
    FIX_OPTION = "fix_option"
    ASK_ADMIN = "ask_admin"
    WITHOUT_GPU = "without_gpu"
    REMOVE_FOREIGN_GPU = "remove_foreign_gpu"


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out. ``ask`` is the request that would be granted, when there is one."""

    kind: RemedyKind
    numbers: Mapping[str, Number] = field(default_factory=dict)
    ask: Ask | None = None


WITHOUT_GPU = Remedy(RemedyKind.WITHOUT_GPU, ask=Ask())


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Reason
    numbers: Mapping[str, Number] = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()
