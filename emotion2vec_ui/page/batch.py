"""The page of jobs: many recordings at once, how far they are, and what came of them.

The recordings go to the route `/api/jobs`, which writes them as they come: Gradio's own upload
would write each twice and tell nothing before the last. `assets/batch.js` sends them, tells what
was clicked, and plays them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from emotion2vec_ui.batch.job_rows import RESULTS, SORTS, RowFilter, RowPage, select
from emotion2vec_ui.batch.jobs import Jobs, Standing
from emotion2vec_ui.drawing import jobs_view, status_view
from emotion2vec_ui.drawing.jobs_view import JobCard
from emotion2vec_ui.drawing.render import Words, draw
from emotion2vec_ui.errors import ResultNotFound, as_known
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.page.events import connect
from emotion2vec_ui.page.words import word
from emotion2vec_ui.records.filters import QUALITIES
from emotion2vec_ui.records.report import BANDS
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

NAME = "Batch"
PATH = "/batch"

LISTED = 20
"""Jobs shown: more than anybody looks through."""

ROWS = 50
"""Rows of the table at a time."""

POLL_S = 1.0
"""How often jobs that have not ended are looked at."""

REDRAWN_PER_JOB = 200
"""How often at most the table is drawn while a job runs: each time all its rows are read."""

SCRIPT = Path(__file__).parent / "assets" / "batch.js"


@dataclass(frozen=True)
class _Seen:
    """What a page shows now, which is drawn again only when it is no longer so.

    Attributes:
        jobs: those listed; None before anything is drawn.
        opened: the one that is open, as it was listed, or None.
        rows_done: recordings that were done when the table was drawn.
    """

    jobs: tuple[JobCard, ...] | None = None
    opened: JobCard | None = None
    rows_done: int = -1


def add(blocks: gr.Blocks, jobs: Jobs, settings: Settings) -> None:
    """Lays the page out inside `blocks`, of which a route is open, and connects it."""
    _BatchPage(blocks, jobs, settings)


class _BatchPage:
    def __init__(self, blocks: gr.Blocks, jobs: Jobs, settings: Settings) -> None:
        self._jobs = jobs
        self._queued = not settings.no_gradio_queue
        bounds = jobs.bounds
        upload_view = jobs_view.UploadView(bounds.files, bounds.bytes / 1e6)
        gr.HTML(draw(status_view.header("batch")), elem_id="top")
        with gr.Row(elem_id="job-columns"):
            with gr.Column(elem_id="job-left"):
                upload = gr.HTML(
                    draw(upload_view),
                    elem_id="jobs-upload",
                    js_on_load=SCRIPT.read_text(encoding="utf-8"),
                )
                listed = gr.HTML(elem_id="jobs-list")
            with gr.Column(elem_id="job-right"):
                head = gr.HTML(elem_id="job-head")
                progress = gr.HTML(elem_id="job-progress")
                filters = self._add_filters()
                rows = gr.HTML(elem_id="job-rows")
        gr.HTML(draw(status_view.FooterView()), elem_id="bottom")
        wanted = gr.Textbox(visible="hidden", show_label=False)
        timer = gr.Timer(POLL_S, active=False)
        opened, offset, seen = gr.State(""), gr.State(0), gr.State(_Seen())

        shown = [listed, head, progress, rows, seen, timer]
        self._connect(
            blocks.load,
            self._load,
            [wanted, *filters],
            [*shown, opened],
            js="(_, ...rest) => [new URLSearchParams(location.search).get('job') ?? '', ...rest]",
        )
        for one in filters:
            # A name is searched for while it is typed; only the last of the keys counts.
            self._connect(
                one.change,
                self._filter,
                [*filters, opened],
                [rows, offset],
                trigger_mode="always_last",
            )
        self._connect(
            upload.click,
            self._clicked,
            [*filters, offset, opened],
            [*shown, opened, offset],
        )
        connect(timer.tick, self._tick, [*filters, offset, opened, seen], shown, queue=False)

    def _add_filters(self) -> list[Any]:
        """In the order of `_filter_of`."""

        def choice(name: str, label: str, values: list[tuple[Any, str]], **options: Any) -> Any:
            return gr.Dropdown(
                values, label=word(label), elem_id=f"job-{name}", min_width=110, **options
            )

        emotions = [(word(f"emotion.{one}"), one) for one in EMOTIONS]
        bands = [(word(f"band.{one}"), one) for one in BANDS]
        qualities = [(word(f"history.quality.{one}"), one) for one in QUALITIES]
        results = [(word(f"jobs.result.{one}"), one) for one in RESULTS]
        words = {"errors": "jobs.sort.errors"}
        sorts = [(word(words.get(one, f"history.sort.{one}")), one) for one in SORTS]
        with gr.Row(elem_id="job-filters"):
            return [
                choice("emotion", "history.emotion", emotions, multiselect=True),
                choice("band", "history.band", bands, multiselect=True),
                choice("quality", "history.quality", qualities, multiselect=True),
                choice("result", "jobs.result", results, multiselect=True),
                gr.Textbox(
                    label=word("history.text"),
                    placeholder=word("history.any"),
                    elem_id="job-text",
                    min_width=110,
                ),
                choice("sort", "history.sort", sorts, value=SORTS[0]),
            ]

    def _connect(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        **options: Any,
    ) -> None:
        connect(event, handler, inputs, outputs, queue=self._queued, **options)

    # --- handlers ---

    def _load(self, wanted: str | None, *chosen: Any) -> tuple[Any, ...]:
        opened = wanted or ""
        return *self._shown(chosen, 0, opened, _Seen()), opened

    def _tick(self, *inputs: Any) -> tuple[Any, ...]:
        *chosen, offset, opened, seen = inputs
        return self._shown(chosen, offset, opened, seen)

    def _filter(self, *inputs: Any) -> tuple[Any, int]:
        *chosen, opened = inputs
        if not opened:
            return "", 0
        try:
            card = _card(self._jobs.get(opened))
            return self._rows(card, self._select(card, chosen, 0), 0), 0
        except Exception as error:
            return _failure(error), 0

    def _clicked(self, event: gr.EventData, *inputs: Any) -> tuple[Any, ...]:
        """A job of the list, the pager; of the opened job cancelling, deleting and closing."""
        *chosen, offset, opened = inputs
        action, value = str(event.action), str(event.value)
        note: str | None = None
        try:
            if action == "open":
                opened, offset = value, 0
            elif action == "close":
                opened = ""
            elif action == "page" and value.isdecimal():
                offset = int(value)
            elif action == "cancel":
                self._jobs.cancel(value)
            elif action == "delete":
                name = self._jobs.get(value).job.name
                self._jobs.remove(value)
                note = draw(status_view.NoteView(Phrase("jobs.deleted", name=name)))
                opened = ""
        except Exception as error:
            note = _failure(error)
        shown = list(self._shown(chosen, offset, opened, _Seen()))
        if note is not None:
            shown[1] = note
        return *shown, opened, offset

    # --- what is shown ---

    def _shown(
        self, chosen: Sequence[Any], offset: int, opened: str, seen: _Seen
    ) -> tuple[Any, ...]:
        """List, head, progress, rows, what is seen then, and whether the timer goes on."""
        try:
            found = [_card(one) for one in self._jobs.find(limit=LISTED + 1)]
            cards = tuple(found[:LISTED])
            listed: Any = gr.skip()
            if seen.jobs is None or _listed(cards) != _listed(seen.jobs):
                view = jobs_view.JobListView(cards, opened, is_cut=len(found) > LISTED)
                listed = draw(view)
            now = _Seen(cards)
            parts: tuple[Any, ...] = ("", "", "")
            if opened:
                parts, now = self._opened(opened, chosen, offset, seen, now)
            watched = [one for one in (*cards, now.opened) if one is not None]
            going = any(not one.has_ended for one in watched)
            return listed, *parts, now, gr.Timer(active=going)
        except Exception as error:
            return gr.skip(), _failure(error), "", "", _Seen(), gr.Timer(active=False)

    def _opened(
        self, opened: str, chosen: Sequence[Any], offset: int, seen: _Seen, now: _Seen
    ) -> tuple[tuple[Any, ...], _Seen]:
        """Head, progress and rows of the opened job; `gr.skip` for what has not changed."""
        try:
            card = _card(self._jobs.get(opened))
        except ResultNotFound as error:  # somebody has removed it
            return (_failure(error), "", ""), now
        before = seen.opened
        is_new = before is None or (before.status, before.problem) != (card.status, card.problem)
        head: Any = draw(jobs_view.JobHeadView(card)) if is_new else gr.skip()
        # Of many rows not after each: reading all takes longer than a recording may.
        few = 1 if card.has_ended else max(1, card.files // REDRAWN_PER_JOB)
        if not is_new and card.done - seen.rows_done < few:
            return (head, gr.skip(), gr.skip()), replace(now, opened=card, rows_done=seen.rows_done)
        page = self._select(card, chosen, offset)
        if offset and not page.rows:
            offset = 0
            page = self._select(card, chosen, offset)
        progress = draw(jobs_view.JobProgressView(card, page.counts))
        parts = head, progress, self._rows(card, page, offset)
        return parts, replace(now, opened=card, rows_done=card.done)

    def _select(self, card: JobCard, chosen: Sequence[Any], offset: int) -> RowPage:
        rows = self._jobs.store.rows(card.id)
        return select(rows, _filter_of(chosen), offset=offset, limit=ROWS)

    def _rows(self, card: JobCard, page: RowPage, offset: int) -> str:
        view = jobs_view.job_rows(card, page.rows, page.total, offset=offset, limit=ROWS)
        return draw(view)


def _filter_of(chosen: Sequence[Any]) -> RowFilter:
    emotion, band, quality, result, text, sort = chosen
    return RowFilter(
        emotion=tuple(emotion or ()),
        band=tuple(band or ()),
        quality=tuple(quality or ()),
        result=tuple(result or ()),
        text=text or "",
        sort=sort if sort in SORTS else SORTS[0],
    )


def _card(standing: Standing) -> JobCard:
    job = standing.job
    problem: Words | None = None
    hint: Words | None = None
    if job.error:
        problem = _Told({lang: error.message for lang, error in job.error.items()})
        hint = _Told({lang: error.hint for lang, error in job.error.items()})
    return JobCard(
        id=job.id,
        name=job.name,
        sent=datetime.fromtimestamp(job.created_ms / 1000).strftime("%Y-%m-%d %H:%M"),
        status=job.status,
        files=job.files,
        done=job.done,
        failed=job.failed,
        audio_s=job.audio_s,
        speed=standing.speed,
        eta_s=standing.eta_s,
        model=job.model,
        problem=problem,
        hint=hint,
        saves=job.save,
    )


@dataclass(frozen=True)
class _Told:
    """What is kept with a job in words, by language."""

    words: Mapping[str, str]

    def __call__(self, lang: str) -> str:
        return self.words[lang]


def _listed(cards: tuple[JobCard, ...]) -> list[tuple[Any, ...]]:
    """What the list shows of each job."""
    return [(one.id, one.shown_status, one.done, one.failed) for one in cards]


def _failure(error: Exception) -> str:
    return draw(status_view.failure(as_known(error, "the batch page")))
