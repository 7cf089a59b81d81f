"""The main page: Gradio's components, their events, and nothing that computes.

It calls `Recogniser.analyse` and `Recogniser.robustness` and shows what comes back, drawn by
`drawing` in every language at once. In `assets`, `page.js` switches language and brightness and
moves the playhead, `form.js` minds the recording and early presses, `result.js` what is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import gradio as gr

from emotion2vec_ui import texts
from emotion2vec_ui.batch.jobs import Jobs
from emotion2vec_ui.drawing import robustness_view, status_view
from emotion2vec_ui.drawing.render import View, draw
from emotion2vec_ui.drawing.result_view import shown
from emotion2vec_ui.errors import MissingAudio, as_known
from emotion2vec_ui.lab.atlas import Atlas
from emotion2vec_ui.models.holder import Status
from emotion2vec_ui.page import batch as batch_page
from emotion2vec_ui.page import history as history_page
from emotion2vec_ui.page import lab as lab_page
from emotion2vec_ui.page.events import connect, last_of
from emotion2vec_ui.page.similar import SimilarBox
from emotion2vec_ui.page.subclass_choice import SubclassChoice
from emotion2vec_ui.page.words import (
    language,
    one_language_at_a_time,
    script_facts,
    translations,
    word,
)
from emotion2vec_ui.pipeline.recogniser import Cancelled, Recogniser, Recognition
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.report import GRANULARITIES
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

ASSETS = Path(__file__).parent / "assets"
EXAMPLES = ASSETS / "examples"
STYLES = ("page.css", "form.css", "history.css", "similar.css", "lab.css", "batch.css")
SCRIPTS = ("page.js", "form.js", "result.js")
"""In the order in which they run."""

POLL_S = 0.2
"""How often a running recognition is looked at: often enough to feel live, and cheap."""

BADGE_POLL_S = 2.0
"""How often the badge is renewed while the model is not settled."""

CACHE_CHECK_S, CACHE_KEEP_S = 3600, 86_400
"""Uploads are looked through every hour and removed after a day."""

FONTS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "sans-serif",
)
MONOSPACE_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
"""Of the system: nothing is fetched from a font server."""

T = TypeVar("T")

Progress = Callable[[str, str, float, float, Status], View]
"""Draws how far a job is: name of the recording, step, its share, seconds, the model's state."""

Count = Callable[[gr.Request], None]
"""Counts one recognition against the caller's rate limit; raises RateLimited above it."""


def build(
    recogniser: Recogniser,
    *,
    settings: Settings,
    history: History,
    jobs: Jobs,
    atlas: Atlas,
    count: Count,
) -> tuple[gr.Blocks, dict[str, Any]]:
    """Builds the pages.

    Args:
        recogniser: does the work.
        settings: of the program.
        history: past results.
        jobs: many recordings at once.
        atlas: clusters and map of past results.
        count: called before each recognition.

    Returns:
        The pages, and the options with which `gr.mount_gradio_app` shows them as meant.
    """
    page = _Page(recogniser, settings, history, count)
    with page.blocks.route(batch_page.NAME, batch_page.PATH, show_in_navbar=False) as blocks:
        batch_page.add(blocks, jobs, settings)
    with page.blocks.route(history_page.NAME, history_page.PATH, show_in_navbar=False) as blocks:
        history_page.add(blocks, history, settings)
    with page.blocks.route(lab_page.NAME, lab_page.PATH, show_in_navbar=False) as blocks:
        lab_page.add(blocks, atlas, history, settings)
    styles = [(ASSETS / name).read_text(encoding="utf-8") for name in STYLES]
    scripts = [(ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS]
    options = {
        "theme": _theme(),
        "css": "\n".join([one_language_at_a_time(), *styles]),
        "head": f"<style>{(ASSETS / 'first.css').read_text(encoding='utf-8')}</style>"
        f"<script>window.emotionPageFacts = {script_facts(settings)};</script>"
        + "".join(f"<script>{one}</script>" for one in scripts),
        "i18n": translations(),
        "allowed_paths": [str(EXAMPLES)],
        "run_history": False,
        "footer_links": [],
        # Gradio would show any exception's text; ours are shown by the page itself.
        "show_error": False,
    }
    return page.blocks, options


class _Page:
    """The components and the handlers that share the recogniser."""

    def __init__(
        self, recogniser: Recogniser, settings: Settings, history: History, count: Count
    ) -> None:
        self._recogniser = recogniser
        self._settings = settings
        self._history = history
        self._count = count
        self._running: dict[str, threading.Event] = {}
        self._queued = not settings.no_gradio_queue
        self.blocks = gr.Blocks(
            title="emotion2vec · 语音情感识别 · Speech emotion recognition",
            delete_cache=(CACHE_CHECK_S, CACHE_KEEP_S),
            analytics_enabled=False,
        )
        with self.blocks:
            self._lay_out()
            self._add_api()
        if self._queued:
            # The engine gathers what arrives together into batches, and has its own bound.
            self.blocks.queue(
                max_size=settings.max_queue,
                default_concurrency_limit=settings.max_queue,
                api_open=False,
            )

    # --- layout ---

    def _lay_out(self) -> None:
        gr.HTML(draw(status_view.header("main")), elem_id="top")
        badge = gr.HTML(elem_id="badge")
        with gr.Row(elem_id="columns"):
            with gr.Column(elem_id="left"):
                audio = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    format=None,
                    label=word("ui.audio"),
                    elem_id="audio",
                    buttons=[],
                    waveform_options=gr.WaveformOptions(show_recording_waveform=True),
                )
                gr.HTML(draw(status_view.AudioNotesView()), elem_id="audio-notes")
                granularity = gr.Radio(
                    [(word(f"ui.granularity.{one}"), one) for one in GRANULARITIES],
                    value=GRANULARITIES[0],
                    label=word("ui.granularity"),
                    elem_id="granularity",
                )
                embedding = gr.Checkbox(
                    label=word("ui.embedding"),
                    info=word("ui.embedding.info"),
                    elem_id="embedding",
                )
                choice = SubclassChoice(self._recogniser)
                with gr.Row(elem_id="actions"):
                    gr.HTML(draw(status_view.ActionNotesView()), elem_id="action-notes")
                    # The style sheet shows the one that fits: cancel while the steps are shown.
                    start = gr.Button(word("ui.start"), variant="primary", elem_id="start")
                    cancel = gr.Button(word("ui.cancel"), elem_id="cancel")
                    example = gr.Button(word("ui.example"), elem_id="example")
                robustness = gr.Button(
                    word("ui.robustness"), variant="secondary", size="sm", elem_id="robustness"
                )
                notes = status_view.FormNotesView(robustness_view.n_conditions())
                gr.HTML(draw(notes), elem_id="notes")
            with gr.Column(elem_id="right"):
                result = gr.HTML(draw(status_view.EmptyView()), elem_id="result")
                robustness_result = gr.HTML(elem_id="robustness-result")
                similar = SimilarBox(self._history, mark="data-shown", queued=self._queued)
        gr.HTML(draw(status_view.FooterView()), elem_id="bottom")
        lang = gr.Textbox(visible="hidden", elem_id="lang", show_label=False)

        # The page's script tells which recording is ready, and waits for one that is on its way.
        audio.change(None, audio, js="audio => window.emotionPage?.audioChanged(audio)")
        audio.start_recording(None, js="() => window.emotionPage?.recording(true)")
        audio.stop_recording(None, js="() => window.emotionPage?.recording(false)")
        recognised = self._add_job(
            start,
            self._recognise,
            status_view.progress,
            [audio, granularity, embedding, choice.group, lang],
            result,
        )
        similar.after(recognised, result)
        # A new recognition makes the old test meaningless: it may be of another recording.
        start.click(None, None, [robustness_result, similar.box], js="() => ['', '']")
        robustness.click(None, result, result, js="shown => window.emotionPage.resultBeside(shown)")
        self._add_job(
            robustness,
            self._test_robustness,
            robustness_view.robustness_progress,
            [audio, lang],
            robustness_result,
        )
        self._connect(cancel.click, self._cancel, None, None, queue=False)
        self._connect(
            example.click,
            self._example,
            [lang],
            [audio],
            js="() => [window.emotionPage.lang()]",
        )
        self._add_badge_timer(badge, choice)
        for opened in self._add_address(result):
            similar.after(opened, result)

    def _add_job(
        self,
        button: gr.Button,
        handler: Callable[..., Iterator[str]],
        progress: Progress,
        inputs: list[Any],
        box: gr.HTML,
    ) -> Any:
        """Has a button run what takes time, and shows in `box` how far it is and what came."""
        wait = f"(...inputs) => window.emotionPage.beforeStart(inputs, '{box.elem_id}')"
        if self._queued:
            return self._connect(button.click, handler, inputs, box, js=wait)

        def announce(path: str | None, *_: Any) -> str:
            status = self._recogniser.holder.status()
            name = Path(path or "").name
            return draw(progress(name, status_view.STEPS[0], 0.0, 0.0, status))

        # Without the queue a handler cannot report while it runs: the steps are shown once, first.
        first = self._connect(button.click, announce, inputs, box, js=wait)
        return self._connect(first.then, last_of(handler), inputs, box, js=wait)

    def _add_badge_timer(self, badge: gr.HTML, choice: SubclassChoice) -> None:
        retry = gr.Button(visible="hidden", elem_id="retry")
        timer = gr.Timer(BADGE_POLL_S)
        renewed = [badge, timer]
        self._connect(self.blocks.load, self._renew_badge, [badge], renewed, queue=False)
        self._connect(retry.click, self._retry, None, renewed, queue=False)
        self._connect(timer.tick, self._renew_badge, [badge], renewed, queue=False)
        for event in (self.blocks.load, timer.tick):
            self._connect(event, choice.renewed, None, choice.group, queue=False)

    def _add_address(self, result: gr.HTML) -> Iterator[Any]:
        """Shows the result that the address names: on arrival, and after Back."""
        wanted = gr.Textbox(visible="hidden", show_label=False)
        reopen = gr.Button(visible="hidden", elem_id="open")
        for event, otherwise in ((self.blocks.load, "null"), (reopen.click, "''")):
            js = f"() => [window.emotionPage.wanted() ?? {otherwise}]"
            yield self._connect(event, self._open, [wanted], [result], js=js)

    def _connect(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        *,
        queue: bool = True,
        **options: Any,
    ) -> Any:
        return connect(event, handler, inputs, outputs, queue=queue and self._queued, **options)

    # --- the model ---

    def _renew_badge(self, before: str | None) -> tuple[Any, Any]:
        status = self._recogniser.holder.status()
        settled = status.state == "ready" and status.notice in (None, "compact_offline")
        now = draw(status_view.badge(status))
        return gr.skip() if now == before else now, gr.Timer(active=not settled)

    def _retry(self) -> tuple[str, Any]:
        self._recogniser.holder.retry()
        status = self._recogniser.holder.status()
        return draw(status_view.badge(status)), gr.Timer(active=True)

    # --- past results ---

    def _open(self, folder: str | None) -> Any:
        """A past result; for "" what stands there before the first, for None nothing changes."""
        if folder is None:
            return gr.skip()
        if not folder:
            return draw(status_view.EmptyView())
        try:
            report, path = self._history.get(folder), self._history.path(folder)
            return draw(shown(report, folder, store.files_in(path)))
        except Exception as error:
            return draw(status_view.failure(as_known(error, "the page")))

    # --- what takes time ---

    def _recognise(
        self,
        path: str | None,
        granularity: str,
        extract_embedding: bool,
        subclass: list[str],
        lang: str,
        request: gr.Request,
    ) -> Iterator[str]:
        work = partial(
            self._recogniser.analyse,
            granularity=granularity,
            extract_embedding=extract_embedding,
            subclass=subclass,
            lang=language(lang),
            front="page",
        )
        yield from self._run(path, work, status_view.progress, _recognised, request)

    def _test_robustness(self, path: str | None, lang: str, request: gr.Request) -> Iterator[str]:
        work = partial(self._recogniser.robustness, front="page")
        yield from self._run(
            path,
            work,
            robustness_view.robustness_progress,
            robustness_view.robustness_result,
            request,
        )

    def _run(
        self,
        path: str | None,
        work: Callable[..., T],
        progress: Progress,
        finished: Callable[[T], View],
        request: gr.Request,
    ) -> Iterator[str]:
        """Shows how far the work is while it runs, then its result or the error; never both.

        Args:
            path: of the recording, or None where there is none.
            work: takes the path, `on_progress` and `cancelled`.
            progress: draws how far it is.
            finished: draws its result.
            request: of the caller.
        """
        if path is None:
            yield draw(status_view.NoteView(Phrase("ui.no_recording")))
            return
        try:
            self._count(request)
            job = _Job(partial(work, Path(path)))
            yield from self._watched(job, Path(path).name, progress, str(request.session_hash))
            yield draw(finished(job.result()))
        except Cancelled:
            yield draw(status_view.NoteView(Phrase("ui.cancelled")))
        except Exception as error:
            yield draw(status_view.failure(as_known(error, "the page")))

    def _watched(self, job: _Job[T], name: str, progress: Progress, session: str) -> Iterator[str]:
        """Runs the job to its end, and shows meanwhile how far it is."""
        self._running[session] = job.stop
        since = time.monotonic()
        try:
            job.start()
            shown = ""
            while job.is_alive():
                seconds = int(time.monotonic() - since)
                status = self._recogniser.holder.status()
                now = draw(progress(name, job.step, job.share, seconds, status))
                # Drawn anew only when something changed: else its animation would start over.
                if now != shown:
                    shown = now
                    yield shown
                job.join(POLL_S)
        finally:
            # Also when the reader closed the page: the generator is closed then.
            job.stop.set()
            self._running.pop(session, None)

    def _cancel(self, request: gr.Request) -> None:
        stop = self._running.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    def _example(self, lang: str) -> str:
        path = EXAMPLES / f"{language(lang)}.wav"
        if not path.is_file():
            raise gr.Error(texts.text("ui.example.missing", language(lang)), print_exception=False)
        return str(path)

    # --- the API ---

    def _add_api(self) -> None:
        """`/gradio_api/call/predict`: components of its own, so that the page may change freely."""
        audio = gr.Audio(type="filepath", format=None, visible=False, label="audio")
        granularity = gr.Textbox(GRANULARITIES[0], visible=False, label="granularity")
        embedding = gr.Checkbox(visible=False, label="extract_embedding")
        report = gr.JSON(visible=False, label="result")
        gr.Button(visible=False).click(
            self._predict,
            [audio, granularity, embedding],
            [report],
            api_name="predict",
            api_description="Recognises one recording; answers with the content of result.json.",
            queue=self._queued,
        )

    def _predict(
        self,
        audio: str | None,
        granularity: str = GRANULARITIES[0],
        extract_embedding: bool = False,
        request: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it by its annotation
    ) -> str:
        header = request.headers.get("accept-language", "") if request else ""
        lang = self._settings.lang or texts.negotiate(header)
        try:
            if audio is None:
                raise MissingAudio()
            self._count(request)
            recognition = self._recogniser.analyse(
                Path(audio),
                granularity=granularity,
                extract_embedding=extract_embedding,
                lang=lang,
                front="gradio",
            )
            assert recognition.saved is not None
            return recognition.saved.content.decode()
        except Exception as error:
            known = as_known(error, "Gradio's API").public()
            words = f"{known.message(lang)} {known.hint(lang)}"
            raise gr.Error(words, print_exception=False) from error


class _Job(threading.Thread, Generic[T]):
    """Work in a thread of its own, so that the page can show how far it is.

    Args:
        work: takes `on_progress` and `cancelled`.

    Attributes:
        step, share: how far it is.
        stop: set to have it end early.
    """

    def __init__(self, work: Callable[..., T]) -> None:
        super().__init__(name="page-job", daemon=True)
        self.stop = threading.Event()
        self.step, self.share = status_view.STEPS[0], 0.0
        self._work = work
        self._outcome: Future[T] = Future()

    def run(self) -> None:
        """Does the work, and keeps what came of it for `result`."""
        try:
            done = self._work(on_progress=self._on_progress, cancelled=self.stop.is_set)
            self._outcome.set_result(done)
        except BaseException as error:
            self._outcome.set_exception(error)

    def result(self) -> T:
        """What came of it; raises what was raised."""
        return self._outcome.result()

    def _on_progress(self, step: str, share: float) -> None:
        self.step, self.share = step, share


def _recognised(recognition: Recognition) -> View:
    assert recognition.saved is not None
    folder = recognition.saved.folder
    return shown(recognition.report, folder.name, store.files_in(folder))


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=FONTS,
        font_mono=MONOSPACE_FONTS,
    )
