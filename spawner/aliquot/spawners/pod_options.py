"""The options of a pod: a size from our picker, and a profile of KubeSpawner's beside it.

KubeSpawner keeps its own profiles, their form and their names of options; both parts stand in
one form, are posted together, and each is read by its owner.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from traitlets import default

from aliquot.domain.wording import say
from aliquot.spawners.form import language_of, picker_form
from aliquot.spawners.picker import form_options
from aliquot.spawners.profiles import (
    PROFILE,
    check_choice,
    is_profile_field,
    posted_options,
    profile_options,
)
from aliquot.spawners.share import ShareSpawner


async def pod_form(spawner: PodOptions) -> str:
    """The ``options_form``: the picker, and below it the profiles where there are any."""
    profiles = await spawner.profiles()
    form = await picker_form(spawner)
    if not profiles:
        return form
    heading = escape(say("picker.profiles.legend", language_of(spawner.handler)))
    legend = f'<legend class="h6 fw-bold">{heading}</legend>'
    return f"{form}<fieldset>{legend}{spawner.profile_form(profiles)}</fieldset>"


def _options_from_form(
    form: Mapping[str, list[Any]], spawner: PodOptions | None = None
) -> dict[str, Any]:
    """The picker's options and KubeSpawner's, from one form. No spawner: it is a link."""
    ours = {name: values for name, values in form.items() if not is_profile_field(name)}
    theirs = {name: values for name, values in form.items() if is_profile_field(name)}
    if spawner is not None:
        spawner.posted_form = ours
    return {**posted_options(theirs), **form_options(ours)}


class PodOptions(ShareSpawner, KubeSpawner):
    """The part of ``KubeShareSpawner`` that reads and shows what a user chooses."""

    @default("other_options")
    def _default_other_options(self) -> list[str]:
        return [PROFILE]

    @default("options_form")
    def _default_options_form(self) -> Any:
        return pod_form

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return _options_from_form if self.options_form is pod_form else self._options_from_form

    async def profiles(self) -> list[dict[str, Any]]:
        """The profiles for this user, with their slugs and defaults filled in."""
        listed: Any = self._sorted_dict_values(self.profile_list)
        if callable(listed):
            listed = await maybe_future(listed(self))
        return self._get_initialized_profile_list(listed)

    def profile_form(self, profiles: list[dict[str, Any]]) -> str:
        """KubeSpawner's part of the form. KubeSpawner 7.1 renders saved options also where it
        has found them invalid, so these are taken away meanwhile."""
        saved = self.user_options
        if check_choice(saved, profiles) is not None:
            self.user_options = {}
        try:
            return self._render_options_form(profiles)
        finally:
            self.user_options = saved

    async def known_options(self) -> Collection[str]:
        return {*self.other_options, *profile_options(await self.profiles())}

    async def _run_apply_user_options(self, user_options: Any) -> None:
        if isinstance(user_options, Mapping):
            refusal = check_choice(user_options, await self.profiles())
            if refusal is not None:
                raise self._refused(refusal)
        await super()._run_apply_user_options(user_options)
