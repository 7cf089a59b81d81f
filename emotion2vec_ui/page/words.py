"""Texts on Gradio's components, which the browser looks up, and what the page's script must know.

Everything else is drawn in every language by `drawing`.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import gradio as gr

from emotion2vec_ui import texts
from emotion2vec_ui.drawing.render import tag
from emotion2vec_ui.settings import Settings

ON_COMPONENTS = (
    "ui.", "history.", "jobs.", "emotion.", "band.", "lab.method", "lab.k", "lab.refresh",
)  # fmt: skip
"""Areas of the catalogues whose texts stand on components."""

UNNAMED_PARTS = (
    ("#audio .source-selection button:first-of-type", "aria-label", "ui.audio.upload"),
    ("#audio .source-selection button:last-of-type", "aria-label", "ui.audio.record"),
    ("#audio .pause-button", "aria-label", "ui.audio.pause"),
    ("#audio .mic-select", "aria-label", "ui.audio.device"),
    ("#history-filters input[role=combobox]", "placeholder", "history.any"),
    ("#job-filters input[role=combobox]", "placeholder", "history.any"),
    ("#history-date_from input", "aria-label", "history.date_from"),
    ("#history-date_to input", "aria-label", "history.date_to"),
    ("#history-filters button.calendar", "aria-label", "history.date_pick"),
    ("#lab-map [data-lab-points]", "aria-label", "lab.map.label"),
    ("#lab-map [data-lab-find]", "aria-label", "lab.find"),
    ("#lab-map [data-lab-find]", "placeholder", "lab.find"),
)
"""Parts of Gradio's components that it offers no text for: selector, attribute, text."""


@functools.cache
def translations() -> gr.I18n:
    """The texts of components in every language, under its code and its tag."""
    tables: dict[str, dict[str, str]] = {}
    for lang in texts.languages():
        table = {
            _key(name): words
            for name, words in texts.catalogue(lang).items()
            if name.startswith(ON_COMPONENTS)
        }
        tables |= {lang: table, tag(lang): table}
    return gr.I18n(**tables)


def word(name: str) -> Any:
    """The text `name` on a component."""
    return translations()(_key(name))


def _key(name: str) -> str:
    # A dot would make svelte-i18n look for nested tables.
    return name.replace(".", "_")


def language(lang: str | None) -> str:
    """`lang` if there is such a language, else the first one."""
    return lang if lang in texts.languages() else texts.languages()[0]


def script_facts(settings: Settings) -> str:
    """A JavaScript object for the scripts: languages, the one wanted, names that they give."""
    facts = {
        "wanted": settings.lang,
        "languages": {lang: tag(lang) for lang in texts.languages()},
        "take": {lang: texts.text("ui.take", lang) for lang in texts.languages()},
        "parts": [
            {
                "selector": selector,
                "attribute": attribute,
                "words": {lang: texts.text(key, lang) for lang in texts.languages()},
            }
            for selector, attribute, key in UNNAMED_PARTS
        ],
    }
    # "<" could end the script element.
    return json.dumps(facts).replace("<", "\\u003c")


def one_language_at_a_time() -> str:
    """A style that shows of each sentence only the page's language."""
    return "".join(
        f'html:not([data-lang="{lang}"]) .{lang} {{ display: none !important; }}\n'
        for lang in texts.languages()
    )
