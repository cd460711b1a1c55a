"""Quota: how much each resource group may hold.

Groups form a tree. A lease is charged in its group and in every group above it, and must fit
each of them. All limits are costs, compared per component.

*Nominal* is always the group's when it asks; the *ceiling* adds what it may borrow. Nothing
is lent yet, so admission counts against the nominal quota.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aliquot.domain.currency import Cost
from aliquot.domain.shares import ALL_KINDS, Kind


@dataclass(frozen=True, slots=True)
class Quota:
    """One group's limits; None is no limit of that sort.

    ``per_person`` bounds what one person holds in the group and below, ``per_notebook`` one
    lease, ``approval_above`` the lease that starts without asking anybody.
    """

    nominal: Cost
    ceiling: Cost | None = None
    per_person: Cost | None = None
    per_notebook: Cost | None = None
    approval_above: Cost | None = None
    kinds: frozenset[Kind] = ALL_KINDS

    def __post_init__(self) -> None:
        if self.ceiling is not None and not self.nominal.fits_in(self.ceiling):
            raise ValueError("a ceiling is at least the nominal quota")


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    name: str
    quota: Quota
    parent: str | None = None


@dataclass(frozen=True)
class GroupTree:
    """All resource groups.

    Raises ValueError, one sentence, for a parent that does not exist and for a circle: who
    edits groups shows it beside the form.
    """

    groups: Mapping[str, ResourceGroup] = field(default_factory=dict)
    _paths: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_paths", {name: self._walk(name) for name in self.groups})

    @classmethod
    def of(cls, groups: Iterable[ResourceGroup]) -> GroupTree:
        return cls({group.name: group for group in groups})

    def _walk(self, name: str) -> tuple[str, ...]:
        path = [name]
        while (parent := self.groups[path[-1]].parent) is not None:
            if parent not in self.groups:
                raise ValueError(f"group '{path[-1]}' is under '{parent}', which does not exist")
            if parent in path:
                raise ValueError(
                    f"group '{name}' is above itself: {' under '.join([*path, parent])}"
                )
            path.append(parent)
        return tuple(path)

    def path(self, name: str) -> tuple[str, ...]:
        """The group and all above it, nearest first; empty for a group that has no quota."""
        return self._paths.get(name, ())

    def of_person(self, hub_groups: Iterable[str]) -> tuple[str, ...]:
        """The resource groups among somebody's Hub groups, sorted by name."""
        return tuple(sorted(set(hub_groups) & self.groups.keys()))
