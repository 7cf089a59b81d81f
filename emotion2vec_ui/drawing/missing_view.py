"""The page of a result that is not there: what a browser gets for an old or mistyped address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emotion2vec_ui.drawing.render import View, draw, tag


@dataclass(frozen=True)
class MissingView(View):
    """A whole page.

    Attributes:
        tag: of its language, for HTML.
        message: what is not there.
        hint: why that may be.
        start_url: address of the start page.
        history_url: address of the history.
    """

    template: ClassVar[str] = "missing.html"

    tag: str
    message: str
    hint: str
    start_url: str
    history_url: str


def missing_page(*, message: str, hint: str, lang: str, root_path: str) -> str:
    """The page that says in `lang` what is missing, with links below `root_path`."""
    base = root_path.rstrip("/")
    return str(draw(MissingView(tag(lang), message, hint, f"{base}/", f"{base}/history"), lang))
