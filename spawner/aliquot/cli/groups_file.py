"""The groups file: resource groups, weights and sizes as YAML, for people and for git.

Read at the door into the domain's values; ``hub_config/groups.yaml`` shows every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from aliquot.domain.currency import Cost, cost_of_blocks
from aliquot.domain.quota import ALL_KINDS, GroupTree, Quota, ResourceGroup
from aliquot.domain.shares import Blocks, CpuOnly, Kind, Memory, Share, read_share


class GroupsFileError(Exception):
    """The file cannot be used; the text is one sentence that names the place in it."""


@dataclass(frozen=True, slots=True)
class GroupsFile:
    tree: GroupTree
    weights: Mapping[str, int]
    sizes: tuple[Share, ...]


def _amount(value: Any) -> Cost:
    """``150 blocks``, ``1.5 gpus``, a bare number of blocks, or 0."""
    share = read_share(str(value))
    if isinstance(share, Blocks):
        return cost_of_blocks(share.count)
    if isinstance(share, CpuOnly) or value == 0:
        return cost_of_blocks(0)
    raise ValueError(f"'{value}' is no amount like '150 blocks' or '3 gpus'")


def _size(value: Any) -> Share:
    share = read_share(str(value))
    if isinstance(share, Blocks | Memory):
        return share
    raise ValueError(f"'{value}' is no size like '25 blocks' or '20 GB'")


_Amount = Annotated[Cost, BeforeValidator(_amount)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    nominal: _Amount
    parent: str | None = None
    ceiling: _Amount | None = None
    per_person: _Amount | None = None
    per_notebook: _Amount | None = None
    approval_above: _Amount | None = None
    kinds: frozenset[Kind] = ALL_KINDS


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    groups: dict[str, _Group]
    weights: dict[str, Annotated[int, Field(ge=1, le=1000)]] = {}
    sizes: list[Annotated[Any, BeforeValidator(_size)]] = []


def read_groups_file(text: str) -> GroupsFile:
    """Raises GroupsFileError for text that is not YAML or does not describe groups."""
    try:
        file = _File.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise GroupsFileError(f"The file is not YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise GroupsFileError(f"{place}: {first['msg'].removeprefix('Value error, ')}.") from error
    try:
        groups = [
            ResourceGroup(name, Quota(**dict(group)), parent=parent)
            for name, group, parent in (
                (name, {k: v for k, v in group if k != "parent"}, group.parent)
                for name, group in file.groups.items()
            )
        ]
        tree = GroupTree.of(groups)
    except ValueError as error:
        raise GroupsFileError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    return GroupsFile(tree, file.weights, tuple(file.sizes))


def write_groups(groups: GroupsFile) -> str:
    """The file for what is in force, so that two can be compared line by line."""
    rows: dict[str, Any] = {}
    for name, group in sorted(groups.tree.groups.items()):
        quota = group.quota
        row: dict[str, Any] = {}
        if group.parent is not None:
            row["parent"] = group.parent
        for key in ("nominal", "ceiling", "per_person", "per_notebook", "approval_above"):
            if (cost := getattr(quota, key)) is not None:
                row[key] = f"{cost.blocks} blocks"
        if quota.kinds != ALL_KINDS:
            row["kinds"] = sorted(kind.value for kind in quota.kinds)
        rows[name] = row
    content = {
        "groups": rows,
        "weights": dict(sorted(groups.weights.items())),
        "sizes": [str(size) for size in groups.sizes],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
