"""Views to HTML: one template per view class, one frozen dataclass per template.

On the page each sentence is written in every language, side by side, and the style sheet shows one
of them: the language switch needs no server, and what is on the page already changes with it.
A document to print or hand over is in one language.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from emotion2vec_ui import texts
from emotion2vec_ui.drawing import figures
from emotion2vec_ui.texts import Phrase

Words = str | Phrase | Callable[[str], str]
"""What a view has to say: a string as it is, a text with its facts, or what is said in a language
(such as `EmotionError.message`)."""

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
FACES = FOLDER / "faces"


@dataclass(frozen=True)
class View:
    """What one template shows; subclasses name it and add their fields."""

    template: ClassVar[str]
    """File in `templates/`."""


def draw(view: View, lang: str | None = None) -> Markup:
    """The view as HTML, in one language or, without one, in all of them.

    A template sees `view`, and

    * `t(key, **facts)`: a text of the catalogues;
    * `say(words)`: any `Words`;
    * `face(emotion)`: the emotion's face, one of `faces/*.svg` (the document has `sprite()` once);
    * `draw(other)`: another view in the same language;
    * the filters `percent`, `points`, `clock`, `megabytes` and `grouped` of `figures`.
    """

    def t(key: str, **facts: Any) -> Markup:
        return in_words(lambda one: texts.text(key, one, **facts), lang)

    def say(words: Words) -> Markup:
        if isinstance(words, str):
            return escape(words)
        return t(words.key, **words.facts) if isinstance(words, Phrase) else in_words(words, lang)

    return Markup(
        _environment()
        .get_template(view.template)
        .render(view=view, t=t, say=say, face=face, draw=lambda other: draw(other, lang), lang=lang)
    )


def in_words(words: Callable[[str], str], lang: str | None = None) -> Markup:
    """What `words` says in `lang`, or in each language, as HTML of which one is visible."""
    if lang is not None:
        return escape(words(lang))
    said = {one: escape(words(one)) for one in texts.languages()}
    if len(set(said.values())) == 1:
        return said[texts.languages()[0]]
    return Markup("").join(
        Markup('<span class="{}" lang="{}">{}</span>').format(one, tag(one), text)
        for one, text in said.items()
    )


def tag(lang: str) -> str:
    """The language's tag for HTML, for example zh-CN."""
    return texts.text("language.tag", lang)


def face(emotion: str) -> Markup:
    """The emotion's face; decoration beside its word."""
    return Markup('<svg class="face" aria-hidden="true"><use href="#face-{}"/></svg>').format(
        emotion
    )


@functools.cache
def sprite() -> Markup:
    """All faces, hidden, for the `face`s of one document to refer to."""
    symbols = "".join(path.read_text(encoding="utf-8") for path in sorted(FACES.glob("*.svg")))
    # The attribute "hidden" hides no SVG.
    return Markup('<svg style="display:none" aria-hidden="true">{}</svg>').format(Markup(symbols))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        figures.percent,
        figures.points,
        figures.clock,
        figures.megabytes,
        figures.grouped,
    )
    for shown in filters:
        environment.filters[shown.__name__] = shown
    return environment
