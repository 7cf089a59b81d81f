"""The recordings most like the result that is shown, below it.

They are looked for when the result is on the page already: it does not wait for them.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from emotion2vec_ui.drawing import status_view
from emotion2vec_ui.drawing.render import draw
from emotion2vec_ui.drawing.similar_view import similar_recordings
from emotion2vec_ui.errors import EmbeddingError, ResultNotFound, as_known
from emotion2vec_ui.lab import similar
from emotion2vec_ui.page.events import connect
from emotion2vec_ui.records.index import History

SHOWN = 5
"""Recordings below a result; chosen."""


class SimilarBox:
    """Where they are shown.

    Args:
        history: of the results.
        mark: attribute of what is drawn that names its result's folder.
        queued: whether events go through Gradio's queue.
    """

    def __init__(self, history: History, *, mark: str, queued: bool) -> None:
        self._history = history
        self._mark = mark
        self._queued = queued
        self.box = gr.HTML(elem_id="similar")

    def after(self, event: Any, drawn: gr.HTML) -> None:
        """Looks for them after an event that has drawn a result in `drawn`, or something else."""
        # The value is sent to the server no further than its folder's name.
        js = f"drawn => [(/{self._mark}=\"([^\"]*)\"/.exec(drawn ?? '') ?? [])[1] ?? '']"
        connect(event.then, self._show, [drawn], [self.box], queue=self._queued, js=js)

    def _show(self, folder: str) -> str:
        if not folder:
            return ""
        try:
            found = similar.to_result(self._history, folder, top=SHOWN + 1)
        except (EmbeddingError, ResultNotFound):
            return ""  # an older result, or one of --no-index: nothing to compare
        except Exception as error:
            return draw(status_view.failure(as_known(error, "the page")))
        others = [one for one in found if one.row.folder != folder][:SHOWN]
        if not others:
            return ""
        model = others[0].row.model or ""
        return draw(similar_recordings(model, [(one.row, one.cosine) for one in others]))
