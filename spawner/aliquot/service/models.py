"""Models: the shapes of everything that comes and goes over REST.

The OpenAPI document is generated from them, what comes in is validated by them, and what
goes out is built as them, so that the three cannot disagree. Names are snake_case, times UTC
with a ``Z``, memory MiB. ``answers`` makes them from the domain's values.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from aliquot.domain.receipts import Verdict
from aliquot.domain.refusals import Reason, RemedyKind
from aliquot.domain.shares import MAX_TEXT, Kind
from aliquot.domain.sizes import State
from aliquot.domain.uncertain import Doubt

Utc = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
LEASE_ID_PATTERN = "^[0-9a-f]{32}$"
LeaseId = Annotated[str, StringConstraints(pattern=LEASE_ID_PATTERN)]
# Who holds a notebook to its piece; "kai", "shares", "time_slicing" and "advisory" only count.
EnforcedBy = Literal[
    "mig",
    "mps",
    "driver",
    "hami",
    "kai",
    "shares",
    "time_slicing",
    "advisory",
    "simulated",
    "none",
]
MAX_NAME = 255
MAX_RECEIPT_BYTES = 32 * 1024


class Answer(BaseModel):
    """Something that goes out."""

    model_config = ConfigDict(frozen=True)


class Received(BaseModel):
    """Something that comes in: unknown fields are mistakes, and nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# -- refusals and errors ------------------------------------------------------------------


class RemedyModel(Answer):
    """One way out. ``options`` are the user options that would be granted, if there are any."""

    kind: RemedyKind
    message: str
    numbers: dict[str, int | str | Utc]
    options: dict[str, str] | None


class RefusalModel(Answer):
    """A "no". ``message`` is what, why and all remedies in one line."""

    reason: Reason
    message: str
    what: str
    why: str
    numbers: dict[str, int | str | Utc]
    remedies: list[RemedyModel]


class ErrorModel(Answer):
    """Every answer with a status of 400 and above."""

    status: int
    message: str
    reason: str
    refusal: RefusalModel | None = None


# -- what exists and what may start -------------------------------------------------------


class PieceModel(Answer):
    """A part of one GPU. The UUID is told to the lease's owner only."""

    gpu_model: str
    gpu_uuid: str | None
    mig_uuid: str | None
    profile: str | None
    kind: Kind
    blocks: int
    memory_mib: int


class PlacementModel(Answer):
    """What a share becomes. ``blocks`` is its part of physical GPUs, rounded up;
    ``enforced_by`` says who holds the notebook to it, one word for each sort of piece."""

    name: str
    blocks: int
    memory_mib: int
    kinds: list[Kind]
    enforced_by: list[EnforcedBy]
    pieces: list[PieceModel]


class SizeModel(Answer):
    """A size that this machine offers. ``placement`` is what an empty machine would give."""

    share: str
    placement: PlacementModel


class GpuStateModel(Answer):
    """Whether GPUs can be read, and how old the reading is."""

    readable: bool
    message: str | None
    source: str | None
    simulated: bool
    read_at: Utc | None
    age_seconds: float | None


class SizesModel(Answer):
    """``models`` and ``max_blocks`` bound what may be asked besides the sizes listed."""

    simulated: bool
    gpu_state: GpuStateModel
    sizes: list[SizeModel]
    models: list[str]
    max_blocks: int


class AskModel(Answer):
    """A request as it was understood."""

    share: str
    group: str | None
    model: str | None
    isolation: Literal["any", "mig"]


class GroupModel(Answer):
    """What a group and the caller in it hold, in blocks."""

    name: str
    held_blocks: int
    nominal_blocks: int
    free_blocks: int
    mine_blocks: int
    cap_blocks: int | None


class VerdictModel(Answer):
    """May it start? ``options`` are the user options that ask for it; ``group`` pays."""

    share: str
    options: dict[str, str]
    state: State
    group: str | None
    placement: PlacementModel | None
    refusal: RefusalModel | None


class RunModel(Answer):
    """Amounts ``first`` to ``last`` share a verdict: blocks, or whole GB."""

    first: int
    last: int
    state: State
    refusal: RefusalModel | None


class AvailabilityModel(Answer):
    """All that the caller can be told about what they may start now.

    ``answer`` is the verdict on the share that was asked for, if one was; ``runs`` are over
    blocks, ``memory_runs`` over whole GB.
    """

    at: Utc
    person: str
    simulated: bool
    gpu_state: GpuStateModel
    asked: AskModel
    answer: VerdictModel | None
    groups: list[GroupModel]
    sizes: list[VerdictModel]
    runs: list[RunModel]
    memory_runs: list[RunModel]


class AvailabilityQuery(BaseModel):
    """What the verdicts are about; everything may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: str | None = Field(
        None,
        max_length=MAX_TEXT,
        description="`cpu`, `30 blocks`, `3.1 gpus`, `20 GB` or a MIG profile such as `1g.10gb`",
    )
    group: str | None = Field(None, max_length=MAX_NAME, description="the group that pays")
    model: str | None = Field(None, max_length=MAX_NAME, description="a GPU model, or `any`")
    isolation: Literal["any", "mig"] | None = Field(
        None, description="`mig`: in hardware only, a MIG slice or whole GPUs"
    )
    lang: Literal["en", "ko"] | None = Field(
        None, description="the language of messages; otherwise Accept-Language decides"
    )


class LeasesQuery(BaseModel):
    """Which part of the list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: int = Field(0, ge=0, le=1_000_000)
    limit: int = Field(100, ge=1, le=1000)


class FindingsQuery(BaseModel):
    """The language of the messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lang: Literal["en", "ko"] | None = Field(
        None, description="the language of messages; otherwise Accept-Language decides"
    )


class NoQuery(BaseModel):
    """An endpoint without parameters of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# -- leases and receipts ------------------------------------------------------------------


class LeaseModel(Answer):
    """What one server holds. ``charged_blocks`` is what the group's quota counts.

    ``verdict`` compares what the notebook saw with the books, None before it has told;
    ``verdict_reason`` says what is wrong or unknown, with both sides.
    """

    lease_id: str
    user: str
    server: str
    group: str
    state: Literal["reserved", "active", "released"]
    charged_blocks: int
    placement: PlacementModel
    reserved_at: Utc
    active_at: Utc | None
    until: Utc | None
    verdict: Verdict | None
    verdict_reason: str | None


class PageModel(Answer):
    offset: int
    limit: int
    total: int


class LeasesModel(Answer):
    """Open leases, oldest first."""

    simulated: bool
    items: list[LeaseModel]
    pagination: PageModel = Field(serialization_alias="_pagination")


class CheckModel(Received):
    """One thing that was looked at inside the notebook."""

    what: str = Field(min_length=1, max_length=200)
    expected: str | None = Field(None, max_length=500)
    seen: str | None = Field(None, max_length=500)
    result: Literal["pass", "fail", "unknown"]
    reason: str | None = Field(None, max_length=1000)
    enforced_by: str | None = Field(None, max_length=40)


class SeenDeviceModel(Received):
    """A device that CUDA shows."""

    uuid: str | None = Field(max_length=64)
    name: str | None = Field(max_length=256)
    error: str | None = Field(max_length=100)
    free_mib: int | None = Field(ge=0)
    total_mib: int | None = Field(ge=0)


class SeenCudaModel(Received):
    error: str | None = Field(max_length=100)
    devices: list[SeenDeviceModel] = Field(max_length=64)


class SeenHamiModel(Received):
    """HAMi's settings in the notebook's environment; limits by the device's number."""

    is_off: bool
    limits_mib: dict[Annotated[str, StringConstraints(pattern="^[0-9]{1,2}$")], int] = Field(
        max_length=64
    )


class SeenModel(Received):
    """What was found inside, before anybody judged it."""

    cuda: SeenCudaModel
    card_free_mib: dict[Annotated[str, StringConstraints(max_length=255)], int] = Field(
        max_length=64
    )
    thread_percentage: str | None = Field(max_length=20)
    hami: SeenHamiModel | None


class ReceiptModel(Received):
    """What a notebook found when it looked at its own caps. It vouches for itself only: the
    books never depend on it. ``verdict`` and ``checks`` are what its user is shown; from
    ``seen`` the service makes up its own mind."""

    # Not Literal[1], which takes true as well.
    version: int = Field(ge=1, le=1)
    lease_id: LeaseId
    verdict: Literal["verified", "mismatch", "not_verifiable"]
    # Strict mode takes no text for a time, and JSON has no other way to write one.
    checked_at: Annotated[Utc, Field(strict=False)]
    reason: str | None = Field(None, max_length=1000)
    checks: list[CheckModel] = Field(max_length=64)
    simulated: bool
    seen: SeenModel | None = None


# -- health -------------------------------------------------------------------------------


class DatabaseHealth(Answer):
    ok: bool
    message: str | None


class ReconciliationHealth(Answer):
    """``checked_at`` is the last pass that could compare; the counts are since the start."""

    ok: bool
    message: str | None
    checked_at: Utc | None
    age_seconds: float | None
    released: int
    readopted: int
    activated: int


class FindingModel(Answer):
    """Something that an admin has to look at. ``message`` says what is known, what counts
    meanwhile and what to do."""

    kind: Doubt
    lease_id: str
    message: str
    numbers: dict[str, int | str | Utc]


class FindingsModel(Answer):
    """``checked_at`` is the last pass that could compare; None before the first."""

    checked_at: Utc | None
    items: list[FindingModel]


class HealthModel(Answer):
    """``degraded``: the service answers, but something that it needs does not. ``uncertain``
    counts what ``api/findings`` tells to administrators, by kind."""

    status: Literal["ok", "degraded"]
    version: str
    at: Utc
    database: DatabaseHealth
    gpu_state: GpuStateModel
    reconciliation: ReconciliationHealth
    uncertain: dict[Doubt, int]


def utc_now() -> datetime:
    return datetime.now(UTC)
