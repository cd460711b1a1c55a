"""Widget: `Usage()`, live figures below a cell.

The page's part (static/usage.js) takes its figures from the server extension, which ticks
also while the kernel holds the GIL and costs the kernel nothing. Only a page that cannot
reach the server asks the kernel:

    page → kernel   {"type": "pump", "seconds": 30}    figures, please, for so long
                    {"type": "stop"}
    kernel → page   the trait `sample`: a usage message, once a second at most

A notebook saved with the widget shows the figures of the moment it was displayed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aliquot_lab.kernel_figures import Pump, read_message
from aliquot_lab.text_view import html, lines
from aliquot_lab.wording import LANGUAGES, language_of_environment

_SCRIPT = Path(__file__).parent / "static" / "usage.js"
_LONGEST_ASK_SECONDS = 60.0

# What a source tree shows whose pages were not built: the snapshot, as text.
_SCRIPT_BEFORE_BUILD = """
export default {
  render({ model, el }) {
    const pre = document.createElement("pre");
    const show = () => { pre.textContent = model.get("snapshot"); };
    model.on("change:snapshot", show);
    show();
    el.appendChild(pre);
  },
};
"""


class Usage(anywidget.AnyWidget):
    """Live memory and load of this server's GPU piece.

    `language` is "en" or "ko"; without it the page's own language decides, and the kernel's
    environment for the text in a saved notebook.
    """

    _esm = _SCRIPT if _SCRIPT.is_file() else _SCRIPT_BEFORE_BUILD

    sample = traitlets.Dict(help="The newest usage message that the kernel read.").tag(sync=True)
    snapshot = traitlets.Unicode(help="The figures at display, as text.").tag(sync=True)
    language = traitlets.Unicode(help="'en', 'ko', or '' for the page's.").tag(sync=True)

    def __init__(self, language: str = "", **traits: Any) -> None:
        if language and language not in LANGUAGES:
            raise ValueError(f"language is one of {', '.join(LANGUAGES)}, got '{language}'")
        super().__init__(language=language, **traits)
        self._text_language = language or language_of_environment(os.environ)
        self._pump = Pump(self._text_language, self._take)
        self.on_msg(self._answer)

    def _answer(self, widget: Any, content: Any, buffers: Any) -> None:
        del widget, buffers
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "stop":
            self._pump.stop()
        if kind != "pump":
            return
        seconds = content.get("seconds")
        if isinstance(seconds, int | float) and 0 < seconds <= _LONGEST_ASK_SECONDS:
            self._pump.ask(float(seconds))

    def _take(self, message: dict[str, Any]) -> None:
        self.sample = message

    def close(self) -> None:
        pump = getattr(self, "_pump", None)
        if pump:
            pump.stop()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        message = read_message(self._text_language)
        self.snapshot = "\n".join(lines(message, self._text_language))
        self.sample = message
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        formats, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        static = {"text/plain": self.snapshot, "text/html": html(message, self._text_language)}
        return {**formats, **static}, metadata
