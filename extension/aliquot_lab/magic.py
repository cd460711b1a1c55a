"""Magic: `%gpu`, the figures as text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aliquot_lab.text_view import lines
from aliquot_lab.wording import LANGUAGES, language_of_environment, say

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def gpu_text(line: str) -> str:
    """What `%gpu <line>` prints; the only word it knows is a language."""
    from aliquot_lab.kernel_figures import read_message

    word = line.strip().lower()
    language = word or language_of_environment(os.environ)
    if language not in LANGUAGES:
        return say("magic_unknown", word=line.strip()).text(language_of_environment(os.environ))
    return "\n".join(lines(read_message(language), language))


def register(shell: InteractiveShell) -> None:
    def gpu(line: str) -> None:
        """Print the memory and load of this server's GPU piece: %gpu [en|ko]."""
        print(gpu_text(line))

    shell.register_magic_function(gpu, magic_kind="line", magic_name="gpu")  # pyright: ignore
