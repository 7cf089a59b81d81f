"""A page about many recordings: one file in every language, with a switch that needs no script.

It is read where no server runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from markupsafe import Markup

from emotion2vec_ui import texts
from emotion2vec_ui.drawing import render
from emotion2vec_ui.drawing.document import DARK_STYLE, STYLE
from emotion2vec_ui.drawing.render import View, Words

BATCH_STYLE = render.TEMPLATES / "batch.css"


@dataclass(frozen=True)
class ManyDocumentView(View):
    """The whole page around its content.

    Attributes:
        opened_in: the language that is shown at first.
        heading: key of the window's title.
        styles: style sheets of this kind of page.
        body: the content.
        foot: the last line.
    """

    template: ClassVar[str] = "many_document.html"

    opened_in: str
    heading: str
    styles: tuple[Path, ...]
    body: View
    foot: Words

    @property
    def languages(self) -> tuple[tuple[str, str, str], ...]:
        """Code, tag and name of each language."""
        return tuple(
            (one, render.tag(one), texts.text("language.name", one)) for one in texts.languages()
        )

    @property
    def tag(self) -> str:
        """Of the language shown at first."""
        return render.tag(self.opened_in)

    @property
    def title(self) -> str:
        """Of the window, which cannot be in two languages."""
        return texts.text(self.heading, self.opened_in)

    @property
    def style(self) -> Markup:
        """The style sheets."""
        return Markup("".join(path.read_text("utf-8") for path in (STYLE, *self.styles)))

    @property
    def dark_style(self) -> Markup:
        """Their colours on a dark screen."""
        return Markup(DARK_STYLE.read_text("utf-8"))

    @property
    def faces(self) -> Markup:
        """The faces that the page refers to."""
        return render.sprite()
