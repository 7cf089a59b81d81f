"""The page of past results: filters, a table, one opened result, and results side by side.

Like `recognise`, Gradio's components and their events; what is shown is drawn by `drawing` in every
language at once. `assets/history.js` tells which row was clicked and keeps what is ticked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from emotion2vec_ui.drawing import history_view, status_view
from emotion2vec_ui.drawing.render import draw
from emotion2vec_ui.drawing.result_view import result_view
from emotion2vec_ui.errors import BadField, as_known
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.page.events import connect
from emotion2vec_ui.page.similar import SimilarBox
from emotion2vec_ui.page.words import word
from emotion2vec_ui.records import store
from emotion2vec_ui.records.filters import NONE, QUALITIES, SORTS, Filters
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.report import BANDS
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

NAME = "History"
PATH = "/history"

ROWS = 25
"""Rows of the table at a time: about two screens of a laptop."""

SCRIPT = Path(__file__).parent / "assets" / "history.js"


def add(blocks: gr.Blocks, history: History, settings: Settings) -> None:
    """Lays the page out inside `blocks`, of which a route is open, and connects it."""
    _HistoryPage(blocks, history, settings)


class _HistoryPage:
    def __init__(self, blocks: gr.Blocks, history: History, settings: Settings) -> None:
        self._history = history
        self._queued = not settings.no_gradio_queue
        gr.HTML(draw(status_view.header("history")), elem_id="top")
        filters = self._add_filters()
        # Gradio keeps most such dates to itself; the style sheet shows this while one stands there.
        gr.HTML(draw(status_view.NoteView(Phrase("history.bad_date"))), elem_id="history-bad-date")
        opened = gr.HTML(elem_id="history-opened")
        similar = SimilarBox(history, mark="data-history-opened", queued=self._queued)
        table = gr.HTML(elem_id="history-list", js_on_load=SCRIPT.read_text(encoding="utf-8"))
        gr.HTML(draw(status_view.FooterView()), elem_id="bottom")
        folder, offset = gr.State(None), gr.State(0)

        first_page = [table, offset]
        self._connect(blocks.load, self._load, filters, [*first_page, filters[3]])
        for one in filters:
            # A name is searched for while it is typed; only the last of the keys counts.
            self._connect(one.change, self._search, filters, first_page, trigger_mode="always_last")
        clicked = self._connect(
            table.click,
            self._clicked,
            [*filters, offset, folder],
            [table, offset, opened, folder],
        )
        similar.after(clicked, opened)

    def _add_filters(self) -> list[Any]:
        """In the order of `_filters`."""

        def choice(name: str, values: list[tuple[Any, str]], **options: Any) -> gr.Dropdown:
            return gr.Dropdown(
                values,
                label=word(f"history.{name}"),
                elem_id=f"history-{name}",
                min_width=120,
                **options,
            )

        def date(name: str) -> gr.DateTime:
            return gr.DateTime(
                label=word(f"history.{name}"),
                elem_id=f"history-{name}",
                include_time=False,
                type="string",
                min_width=120,
            )

        emotions = [(word(f"emotion.{one}"), one) for one in EMOTIONS]
        bands = [(word(f"band.{one}"), one) for one in BANDS]
        qualities = [(word(f"history.quality.{one}"), one) for one in (*QUALITIES, NONE)]
        sorts = [(word(f"history.sort.{one}"), one) for one in SORTS]
        with gr.Row(elem_id="history-filters"):
            return [
                choice("emotion", emotions, multiselect=True),
                choice("band", bands, multiselect=True),
                choice("quality", qualities, multiselect=True),
                choice("model", [], multiselect=True, allow_custom_value=True),
                gr.Textbox(
                    label=word("history.text"),
                    placeholder=word("history.any"),
                    elem_id="history-text",
                    min_width=120,
                ),
                date("date_from"),
                date("date_to"),
                choice("sort", sorts, value="newest"),
            ]

    def _connect(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        **options: Any,
    ) -> Any:
        return connect(event, handler, inputs, outputs, queue=self._queued, **options)

    # --- handlers ---

    def _load(self, *chosen: Any) -> tuple[str, int, Any]:
        return *self._search(*chosen), gr.Dropdown(choices=self._history.models())

    def _search(self, *chosen: Any) -> tuple[str, int]:
        return self._table(chosen, 0), 0

    def _clicked(self, event: gr.EventData, *inputs: Any) -> tuple[Any, Any, Any, Any]:
        """A row, the pager, the comparison; in what is opened, closing and deleting."""
        *chosen, offset, folder = inputs
        action, value = str(event.action), str(event.value)
        if action == "open":
            return gr.skip(), gr.skip(), self._opened(value), value
        if action == "compare":
            return gr.skip(), gr.skip(), _comparison(value.split(",")), None
        if action == "close":
            return gr.skip(), gr.skip(), "", None
        if action == "delete" and folder:
            note = self._delete(folder)
            return self._table(chosen, offset), offset, note, None
        if action == "refresh":
            self._history.refresh()
        if action == "page" and value.isdecimal():
            offset = int(value)
        return self._table(chosen, offset), offset, gr.skip(), gr.skip()

    def _delete(self, folder: str) -> str:
        try:
            # The name is in the folder, which is gone afterwards.
            name = self._history.get(folder).recording_name(folder)
            self._history.delete([folder])
            return draw(status_view.NoteView(Phrase("history.deleted", name=name)))
        except Exception as error:
            return _failure(error)

    def _table(self, chosen: Sequence[Any], offset: int) -> str:
        try:
            filters = _filters(chosen, offset)
            page = self._history.search(filters)
            if offset and not page.rows:
                # The last page lost its last row.
                return self._table(chosen, max(0, offset - ROWS))
            return draw(history_view.result_list(page, filters))
        except BadField as error:
            if error.facts["field"] in ("date_from", "date_to"):
                return draw(status_view.NoteView(Phrase("history.bad_date")))
            return _failure(error)
        except Exception as error:
            return _failure(error)

    def _opened(self, folder: str) -> str:
        try:
            report, path = self._history.get(folder), self._history.path(folder)
            result = result_view(report, folder, store.files_in(path))
            return draw(history_view.opened_result(report, folder, result))
        except Exception as error:
            return _failure(error)


def _filters(chosen: Sequence[Any], offset: int) -> Filters:
    emotion, band, quality, model, text, date_from, date_to, sort = chosen
    return Filters(
        emotion=tuple(emotion or ()),
        band=tuple(band or ()),
        quality=tuple(quality or ()),
        model=tuple(model or ()),
        text=text or "",
        date_from=(date_from or "")[:10],
        date_to=(date_to or "")[:10],
        sort=sort or "newest",
        limit=ROWS,
        offset=offset,
    )


def _comparison(folders: Sequence[str]) -> str:
    names = tuple(one for one in folders if store.is_result_name(one))
    return draw(history_view.opened_comparison(names))


def _failure(error: Exception) -> str:
    return draw(status_view.failure(as_known(error, "the history page")))
