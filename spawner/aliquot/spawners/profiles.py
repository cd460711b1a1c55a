"""Profiles: KubeSpawner's ``profile_list`` beside the picker.

Both are shown in one form and posted together. KubeSpawner applies the chosen profile inside
its start; here the choice is only checked, so that a wrong one is a sentence and not a fault
(KubeSpawner 7.1 answers an unknown choice with KeyError or ValueError, which is a 500).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aliquot.domain.asks import KEYS, shown
from aliquot.domain.refusals import Reason, Refusal, Remedy, RemedyKind

PROFILE = "profile"
_FORM_PREFIX = "profile-option-"
_UNLISTED = "--unlisted-choice"

Profiles = Sequence[Mapping[str, Any]]


def is_profile_field(name: str) -> bool:
    """Whether a form's field belongs to KubeSpawner's part of it."""
    return name == PROFILE or name.startswith(_FORM_PREFIX)


def profile_options(profiles: Profiles) -> frozenset[str]:
    """The names of user options that the profiles read."""
    names = {PROFILE}
    for profile in profiles:
        for option in _options_of(profile):
            names |= {option, option + _UNLISTED}
    return frozenset(names)


def posted_options(form: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The user options in KubeSpawner's part of a posted form, under KubeSpawner's names."""
    slug = next(iter(form.get(PROFILE) or [""]))
    if not slug:
        return {}
    prefix = f"{_FORM_PREFIX}{slug}--"
    chosen = {
        name.removeprefix(prefix): values[0]
        for name, values in form.items()
        if name.startswith(prefix) and values
    }
    return {PROFILE: slug, **chosen}


def check_choice(options: Mapping[str, Any], profiles: Profiles) -> Refusal | None:
    """Say no to a profile, or to a choice in it, that is not there."""
    if not profiles:
        return None
    slug = options.get(PROFILE)
    if slug in (None, ""):
        profile = next((one for one in profiles if one.get("default")), profiles[0])
    else:
        slugs = [str(one["slug"]) for one in profiles]
        if not isinstance(slug, str) or slug not in slugs:
            return _bad_value(PROFILE, slug, ", ".join(slugs))
        profile = profiles[slugs.index(slug)]
    for name, option in _options_of(profile).items():
        if name in KEYS:
            return Refusal(
                Reason.BAD_OPTION_VALUE,
                {
                    "option": PROFILE,
                    "given": str(profile["slug"]),
                    "allowed": f"profiles without an option called '{name}', which is our own",
                },
                (Remedy(RemedyKind.ASK_ADMIN),),
            )
        if (refusal := _check_option(name, option, options)) is not None:
            return refusal
    return None


def _check_option(
    name: str, option: Mapping[str, Any], options: Mapping[str, Any]
) -> Refusal | None:
    unlisted, choice = options.get(name + _UNLISTED), options.get(name)
    rules = option.get("unlisted_choice") or {}
    choices = option.get("choices") or {}
    if unlisted:
        if not rules.get("enabled"):
            return _bad_value(name, unlisted, ", ".join(map(str, choices)))
        pattern = rules.get("validation_regex")
        if not isinstance(unlisted, str) or (pattern and not re.match(pattern, unlisted)):
            return _bad_value(name, unlisted, rules.get("validation_message") or str(pattern))
    elif choice and (not isinstance(choice, str) or choice not in choices):
        return _bad_value(name, choice, ", ".join(map(str, choices)))
    elif not choice and not choices:
        return _bad_value(name, "", rules.get("validation_message") or "a value")
    return None


def _options_of(profile: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return profile.get("profile_options") or {}


def _bad_value(option: str, value: object, allowed: str) -> Refusal:
    return Refusal(
        Reason.BAD_OPTION_VALUE,
        {"option": option, "given": shown(value), "allowed": allowed},
        (Remedy(RemedyKind.FIX_OPTION),),
    )
