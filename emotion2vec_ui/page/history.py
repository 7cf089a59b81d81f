"""The page of past results: filters, a table, one opened result, and results side by side.

Like `ui`, a leaf of Gradio's components; what it shows is drawn here and by `charts` in both
languages at once. `assets/history.js` tells which row was clicked and keeps what is ticked.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from gradio.context import Context

from emotion2vec_ui.drawing import charts
from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.index import BANDS, NONE, QUALITIES, SORTS, Filters, History, Page, Row
from emotion2vec_ui.settings import Settings

log = logging.getLogger(__name__)

NAME = "History"
PATH = "/history"

ROWS = 25
"""Rows of the table at a time: about two screens of a laptop."""

ASSETS = Path(__file__).parent / "assets"

_COLUMNS = ("time", "file", "emotion", "confidence", "band", "duration", "model")


def add(
    history: History,
    settings: Settings,
    add_exports: Callable[[gr.State, gr.Textbox], None] | None = None,
) -> None:
    """Lays the page out inside the current `gr.Blocks` and connects it.

    Args:
        history: the results.
        settings: of the program.
        add_exports: adds the hidden buttons that the export chips of a result press, given the
            opened folder and the language.
    """
    _HistoryPage(history, settings, add_exports)


class _HistoryPage:
    def __init__(
        self,
        history: History,
        settings: Settings,
        add_exports: Callable[[gr.State, gr.Textbox], None] | None,
    ) -> None:
        self._history = history
        self._queued = not settings.no_gradio_queue
        style = (ASSETS / "history.css").read_text(encoding="utf-8")
        gr.HTML(f"<style>{style}</style>{charts.header()}{links(PATH)}", elem_id="top")
        filters = self._filters()
        table = gr.HTML(
            elem_id="history-list",
            js_on_load=(ASSETS / "history.js").read_text(encoding="utf-8"),
        )
        opened = gr.HTML(elem_id="history-opened")
        gr.HTML(charts.footer(), elem_id="bottom")
        folder, offset = gr.State(None), gr.State(0)
        if add_exports is not None:
            add_exports(folder, gr.Textbox(visible="hidden", elem_id="lang", show_label=False))

        first_page = [table, offset]
        self._on(Context.root_block.load, self._load, filters, [*first_page, filters[3]])
        for one in filters:
            # A name is searched for while it is typed; only the last of the keys counts.
            self._on(one.change, self._search, filters, first_page, trigger_mode="always_last")
        self._on(
            table.click,
            self._clicked,
            [*filters, offset, folder],
            [table, offset, opened, folder],
        )

    def _filters(self) -> list[Any]:
        """In the order of `_asked`."""

        def choice(name: str, values: list[tuple[Any, str]], **options: Any) -> gr.Dropdown:
            return gr.Dropdown(
                values,
                label=_i18n(f"history.{name}"),
                elem_id=f"history-{name}",
                min_width=120,
                **options,
            )

        with gr.Row(elem_id="history-filters"):
            emotions = [(_i18n(f"emotion.{one}"), one) for one in EMOTIONS]
            bands = [(_i18n(f"band.{one}"), one) for one in BANDS]
            qualities = [(_i18n(f"history.quality.{one}"), one) for one in (*QUALITIES, NONE)]
            sorts = [(_i18n(f"history.sort.{one}"), one) for one in SORTS]
            return [
                choice("emotion", emotions, multiselect=True),
                choice("band", bands, multiselect=True),
                choice("quality", qualities, multiselect=True),
                choice("model", [], multiselect=True, allow_custom_value=True),
                gr.Textbox(label=_i18n("history.text"), elem_id="history-text", min_width=120),
                *(
                    gr.DateTime(
                        label=_i18n(f"history.{name}"),
                        elem_id=f"history-{name}",
                        include_time=False,
                        type="string",
                        min_width=120,
                    )
                    for name in ("date_from", "date_to")
                ),
                choice("sort", sorts, value="newest"),
            ]

    def _on(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        **options: Any,
    ) -> None:
        event(
            handler,
            inputs,
            outputs,
            queue=self._queued,
            api_visibility="private",
            show_progress="hidden",
            **options,
        )

    # --- handlers ---

    def _load(self, *asked: Any) -> tuple[str, int, Any]:
        return *self._search(*asked), gr.Dropdown(choices=self._history.models())

    def _search(self, *asked: Any) -> tuple[str, int]:
        return self._table(asked, 0), 0

    def _clicked(self, event: gr.EventData, *inputs: Any) -> tuple[Any, Any, Any, Any]:
        """A row, the pager, the comparison; in what is opened, closing and deleting."""
        *asked, offset, folder = inputs
        action, value = str(event.action), str(event.value)
        if action == "open":
            return gr.skip(), gr.skip(), self._opened(value), value
        if action == "compare":
            return gr.skip(), gr.skip(), _comparison(value.split(",")), None
        if action == "close":
            return gr.skip(), gr.skip(), "", None
        if action == "delete":
            said = self._delete(folder)
            return self._table(asked, offset), offset, said, None
        if action == "refresh":
            self._history.refresh()
        if action == "page" and value.isdecimal():
            offset = int(value)
        return self._table(asked, offset), offset, gr.skip(), gr.skip()

    def _delete(self, folder: str | None) -> str:
        try:
            self._history.delete([folder] if folder else [])
        except Exception as error:
            return charts.failure(_as_known(error))
        return _note(charts.both("history.deleted", folder=folder))

    def _table(self, asked: Any, offset: int) -> str:
        try:
            filters = _asked(asked, offset)
            page = self._history.search(filters)
            if offset and not page.rows:
                # The last page lost its last row.
                return self._table(asked, max(0, offset - ROWS))
            return _list(page, filters)
        except Exception as error:
            return charts.failure(_as_known(error))

    def _opened(self, folder: str) -> str:
        try:
            report, path = self._history.get(folder), self._history.path(folder)
            return _bar(report, folder) + _result(report, path)
        except Exception as error:
            return charts.failure(_as_known(error))


def _asked(asked: Any, offset: int) -> Filters:
    emotion, band, quality, model, text, date_from, date_to, sort = asked
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


def _as_known(error: Exception) -> EmotionError:
    if isinstance(error, EmotionError):
        return error
    error_id = secrets.token_hex(4)
    log.error("internal error %s on the history page", error_id, exc_info=error)
    return EmotionError(error_id=error_id)


def _i18n(name: str) -> Any:
    # Looked up in the browser, in the tables that `ui` hands over.
    return gr.I18n()(name.replace(".", "_"))


# --- what is drawn --------------------------------------------------------------------------------


def links(path: str) -> str:
    """From page to page; Gradio's own bar could not follow the language.

    Args:
        path: of the page they stand on.
    """
    pages = (("/", "./", "history.main"), (PATH, "history", "history.title"))
    items = "".join(
        f'<a href="{address}"{" aria-current=page" if one == path else ""}>{charts.both(key)}</a>'
        for one, address, key in pages
    )
    return f"<style>{_LINKS_STYLE}</style><nav class='pages'>{items}</nav>"


_LINKS_STYLE = """
.nav-holder { display: none !important; }
#top .pages { display: flex; gap: 22px; padding: 10px 2px 0; border-bottom: 1px solid var(--line); }
#top .pages a {
  padding: 4px 0 8px; color: var(--ink-soft); text-decoration: none; font-size: 15px;
  border-bottom: 2px solid transparent; margin-bottom: -1px;
}
#top .pages a:hover { color: var(--ink); }
#top .pages a[aria-current] { color: var(--ink); font-weight: 600; border-color: var(--accent); }
"""


def _note(words: str) -> str:
    return f'<section class="card empty" role="status"><p>{words}</p></section>'


def _list(page: Page, filters: Filters) -> str:
    """The tools, the table and the pager."""
    damaged = ""
    if page.damaged:
        count = charts.both("history.damaged", count=page.damaged)
        damaged = f'<p class="muted">{count}</p>'
    if not page.rows:
        narrowed = Filters(sort=filters.sort, limit=filters.limit) != filters
        words = charts.both("history.none_fit" if narrowed else "history.none")
        return f'<div class="history">{_tools(page, filters)}{_note(words)}{damaged}</div>'
    titles = [f"history.column.{one}" for one in ("time", "file")]
    titles += [f"ui.column.{one}" for one in ("emotion", "confidence", "band")]
    titles += ["history.column.duration", "history.model"]
    head = "".join(
        f'<th scope="col" class="c-{name}">{charts.both(title)}</th>'
        for name, title in zip(_COLUMNS, titles, strict=True)
    )
    select = f'<th scope="col"><span class="sr">{charts.both("history.column.select")}</span></th>'
    body = "".join(_table_row(row) for row in page.rows)
    return (
        f'<div class="history">{_tools(page, filters)}<section class="card"><div class="table">'
        f"<table><thead><tr>{select}{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"{_pager(page, filters)}</section>{damaged}</div>"
    )


def _tools(page: Page, filters: Filters) -> str:
    shown = {field.name: getattr(filters, field.name) for field in fields(Filters)}
    query = urlencode(shown, doseq=True)
    return (
        f'<div class="chips tools"><span class="muted">'
        f"{charts.both('history.found', total=page.total)}</span>"
        f'<button type="button" class="chip" data-history="refresh">'
        f"{charts.both('history.refresh')}</button>"
        f'<a class="chip" href="api/history.csv?{escape(query)}" download="history.csv">'
        f"{charts.both('history.export')}</a>"
        f'<button type="button" class="chip" data-history="compare" disabled>'
        f"{charts.both('history.compare')} <b data-history-count>0</b></button></div>"
    )


def _table_row(row: Row) -> str:
    folder = escape(row.folder)
    length = "–" if row.duration_s is None else charts.clock(row.duration_s)
    return (
        f'<tr data-history="open" data-value="{folder}"><td><input type="checkbox" '
        f'data-history-select="{folder}" aria-label="选择 / Select {folder}"></td>'
        f'<td class="c-time">{escape(row.timestamp[:16])}</td>'
        f'<td class="c-file"><button type="button" class="link">'
        f"{escape(row.name or row.folder)}</button></td>"
        f'<td class="c-emotion">{charts.marked_emotion(row.emotion)}</td>'
        f'<td class="c-confidence">{row.confidence:.1%}</td>'
        f'<td class="c-band">{charts.band_pill(row.band)}</td>'
        f'<td class="c-duration">{length}</td>'
        f'<td class="c-model">{escape(row.model or "–")}</td></tr>'
    )


def _pager(page: Page, filters: Filters) -> str:
    if page.total <= len(page.rows):
        return ""
    first, last = filters.offset + 1, filters.offset + len(page.rows)

    def button(name: str, offset: int, possible: bool) -> str:
        disabled = "" if possible else " disabled"
        return (
            f'<button type="button" class="chip" data-history="page" data-value="{offset}"'
            f"{disabled}>{charts.both(f'history.{name}')}</button>"
        )

    where = charts.both("history.range", first=first, last=last, total=page.total)
    before = button("previous", max(0, filters.offset - ROWS), filters.offset > 0)
    after = button("next", filters.offset + ROWS, last < page.total)
    return f'<div class="chips pager">{before}<span class="muted">{where}</span>{after}</div>'


def _result(report: Mapping[str, Any], path: Path) -> str:
    """As the main page shows it; of an old result, only its files."""
    base = f"file=outputs/{path.name}/"
    names = (results.RESULT_NAME, results.AUDIO_NAME, results.EMBEDDING_NAME)
    files = [(one, (path / one).stat().st_size) for one in names if (path / one).is_file()]
    if "schema" in report:
        return charts.result(report, base, files)
    plain = {"granularity": "utterance"}
    return _note(charts.both("history.old")) + charts.downloads(plain, base, files)


def _bar(report: Mapping[str, Any], folder: str) -> str:
    """Above an opened result: which it is, its own page, and the ways to be rid of it."""
    name = (report.get("source") or {}).get("name") or folder
    return (
        f'<div class="chips opened" data-history-opened><b>{escape(str(name))}</b>'
        f'<span class="muted">{escape(folder)}</span><span class="space"></span>'
        f'<a class="chip" href="result/{escape(folder)}" target="_blank" rel="noopener" '
        f"data-history-lang>{charts.both('history.report')}</a>"
        f'<details class="confirm"><summary class="chip">{charts.both("history.delete")}</summary>'
        f"<div><p>{charts.both('history.delete.sure')}</p>"
        f'<button type="button" class="chip danger" data-history="delete" '
        f'data-value="{escape(folder)}">'
        f"{charts.both('history.delete.yes')}</button></div></details>"
        f'<button type="button" class="chip" data-history="close">'
        f"{charts.both('history.close')}</button></div>"
    )


def _comparison(folders: list[str]) -> str:
    """The comparison's own page, framed; the script asks for it in the page's language."""
    query = "&amp;".join(f"folder={one}" for one in folders if results.RESULT_FOLDER.fullmatch(one))
    address = f"comparison?{query}"
    return (
        f'<div class="chips opened" data-history-opened><b>{charts.both("report.comparison")}</b>'
        f'<span class="space"></span><a class="chip" href="{address}" target="_blank" '
        f'rel="noopener" data-history-lang>{charts.both("history.report")}</a>'
        f'<button type="button" class="chip" data-history="close">'
        f"{charts.both('history.close')}</button></div>"
        f'<iframe class="comparison" data-history-frame="{address}" title="Comparison"></iframe>'
    )
