"""The page: Gradio's components, their events, and nothing that computes.

A leaf: it calls `pipeline.Recogniser.analyse` and shows the report that comes back. What it shows
is drawn by `charts`, in both languages at once; `assets/page.js` switches language and brightness,
moves the playhead, and waits for an upload when the button is pressed early.
"""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from emotion2vec_ui import texts
from emotion2vec_ui.drawing import charts
from emotion2vec_ui.errors import EmotionError, MissingAudio, ResultNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.page import history as history_page
from emotion2vec_ui.pipeline.recogniser import GRANULARITIES, Cancelled, Recogniser, Result
from emotion2vec_ui.reading import timeline
from emotion2vec_ui.records import exports
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.index import History
from emotion2vec_ui.server.access import COUNT
from emotion2vec_ui.settings import Settings

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
EXAMPLES = ASSETS / "examples"

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


def build(
    recogniser: Recogniser, *, settings: Settings, history: History
) -> tuple[gr.Blocks, dict[str, Any]]:
    """The pages, and the options with which `gr.mount_gradio_app` shows them as meant."""
    page = _Page(recogniser, settings)
    with page.blocks.route(history_page.NAME, history_page.PATH, show_in_navbar=False):
        history_page.add(history, settings, page.add_exports)
    options = {
        "theme": _theme(),
        "css": (ASSETS / "page.css").read_text(encoding="utf-8"),
        "head": _head(settings),
        "i18n": _I18N,
        "allowed_paths": [str(EXAMPLES)],
        "run_history": False,
        "footer_links": [],
        # Gradio would show any exception's text; ours are shown by the page itself.
        "show_error": False,
    }
    return page.blocks, options


class _Page:
    """The blocks and the handlers that share the recogniser."""

    def __init__(self, recogniser: Recogniser, settings: Settings) -> None:
        self._recogniser = recogniser
        self._settings = settings
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
        gr.HTML(charts.header() + history_page.links("/"), elem_id="top")
        badge = gr.HTML(elem_id="badge")
        with gr.Row(elem_id="columns"):
            with gr.Column(elem_id="left"):
                audio = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    format=None,
                    label=_i18n("ui.audio"),
                    elem_id="audio",
                    buttons=[],
                    waveform_options=gr.WaveformOptions(show_recording_waveform=True),
                )
                granularity = gr.Radio(
                    [(_i18n(f"ui.granularity.{one}"), one) for one in GRANULARITIES],
                    value=GRANULARITIES[0],
                    label=_i18n("ui.granularity"),
                    elem_id="granularity",
                )
                embedding = gr.Checkbox(
                    label=_i18n("ui.embedding"),
                    info=_i18n("ui.embedding.info"),
                    elem_id="embedding",
                )
                with gr.Row(elem_id="actions"):
                    # The style sheet shows the one that fits: cancel while the steps are shown.
                    start = gr.Button(_i18n("ui.start"), variant="primary", elem_id="start")
                    cancel = gr.Button(_i18n("ui.cancel"), elem_id="cancel")
                    example = gr.Button(_i18n("ui.example"), elem_id="example")
                stress = gr.Button(
                    _i18n("ui.stress"), variant="secondary", size="sm", elem_id="stress"
                )
                gr.HTML(
                    f'<p class="note muted">'
                    f"{charts.both('ui.stress.about', count=charts.stress_count())}</p>"
                    f'<p class="note" data-waiting hidden>{charts.both("ui.uploading")}</p>'
                    f'<p class="note muted">{charts.both("ui.example.note")}</p>{charts.tips()}',
                    elem_id="notes",
                )
            with gr.Column(elem_id="right"):
                shown = gr.HTML(charts.empty(), elem_id="result")
                stressed = gr.HTML(elem_id="stressed")
        gr.HTML(charts.footer(), elem_id="bottom")
        lang = gr.Textbox(visible="hidden", elem_id="lang", show_label=False)
        folder = gr.State(None)

        # The page's script tells which recording is ready, and waits for one that is on its way.
        audio.change(None, audio, js="audio => window.emotionPage?.audioChanged(audio)")
        audio.start_recording(None, js="() => window.emotionPage?.recording(true)")
        audio.stop_recording(None, js="() => window.emotionPage?.recording(false)")
        self._add_start(start, [audio, granularity, embedding, lang], [shown, folder])
        # A new recognition makes the old test meaningless: it may be of another recording.
        start.click(None, None, stressed, js="() => ''")
        self._add_stress(stress, [audio, lang], [stressed])
        self._on(cancel.click, self._cancel, None, None, queue=False)
        self._on(
            example.click,
            self._example,
            [lang],
            [audio],
            js="() => [window.emotionPage.lang()]",
        )
        self.add_exports(folder, lang)
        self._add_badge_timer(badge)

    def _add_start(self, start: gr.Button, inputs: list[Any], outputs: list[Any]) -> None:
        wait = "(...inputs) => window.emotionPage.beforeStart(inputs)"
        if self._queued:
            self._on(start.click, self._recognise, inputs, outputs, js=wait)
            return
        # Without the queue a handler cannot report while it runs: the steps are shown once, first.
        first = self._on(start.click, self._announce, inputs, outputs, js=wait)
        self._on(first.then, self._recognise_at_once, inputs, outputs, js=wait)

    def _add_stress(self, button: gr.Button, inputs: list[Any], outputs: list[Any]) -> None:
        """The robustness test, in the same two ways as the recognition."""
        wait = "(...inputs) => window.emotionPage.beforeStart(inputs, '#stressed')"
        if self._queued:
            self._on(button.click, self._stress, inputs, outputs, js=wait)
            return
        first = self._on(button.click, self._announce_stress, inputs, outputs, js=wait)
        self._on(first.then, self._stress_at_once, inputs, outputs, js=wait)

    def add_exports(self, folder: gr.State, lang: gr.Textbox) -> None:
        """A hidden button per kind, pressed by the chips of the result, and one hidden download."""
        file = gr.DownloadButton(visible="hidden", elem_id="export-file")
        for kind in (*_EXPORTS, "zip"):
            button = gr.Button(visible="hidden", elem_id=f"export-{kind}")
            made = self._on(
                button.click,
                partial(self._export, kind),
                [folder, lang],
                [file],
                js="folder => [folder, window.emotionPage.lang()]",
            )
            made.success(None, js="() => window.emotionPage.download()")

    def _add_badge_timer(self, badge: gr.HTML) -> None:
        retry = gr.Button(visible="hidden", elem_id="retry")
        timer = gr.Timer(BADGE_POLL_S)
        self._on(self.blocks.load, self._renew_badge, [badge], [badge, timer], queue=False)
        self._on(retry.click, self._retry, None, [badge, timer], queue=False)
        self._on(timer.tick, self._renew_badge, [badge], [badge, timer], queue=False)

    def _on(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        **options: Any,
    ) -> Any:
        """A private event: the page's own, with the page's own signs of progress."""
        options.setdefault("queue", self._queued)
        return event(
            handler,
            inputs,
            outputs,
            api_visibility="private",
            show_progress="hidden",
            **options,
        )

    # --- the model ---

    def _badge(self) -> str:
        return charts.badge(self._recogniser.holder.status())

    def _renew_badge(self, before: str | None) -> tuple[Any, Any]:
        status = self._recogniser.holder.status()
        settled = status.state == "ready" and status.notice in (None, "compact_offline")
        now = charts.badge(status)
        return gr.skip() if now == before else now, gr.Timer(active=not settled)

    def _retry(self) -> tuple[str, Any]:
        self._recogniser.holder.retry()
        return self._badge(), gr.Timer(active=True)

    # --- recognition ---

    def _recognise(
        self,
        path: str | None,
        granularity: str,
        extract_embedding: bool,
        lang: str,
        request: gr.Request,
    ) -> Iterator[tuple[str, str | None]]:
        """Shows the steps while they run, then the result or the error; never both."""
        if path is None:
            yield charts.failure(MissingAudio()), None
            return
        analyse = partial(
            self._recogniser.analyse,
            Path(path),
            granularity=granularity,
            extract_embedding=extract_embedding,
            lang=_language(lang),
        )
        job = _Job(self._recogniser, Path(path), _counted(request, analyse), charts.progress)
        for steps in self._watch(job, request):
            yield steps, None
        yield self._outcome(job)

    def _watch(self, job: _Job, request: gr.Request) -> Iterator[str]:
        """Runs the job to its end, and gives what it has to say on the way."""
        session = str(request.session_hash)
        self._running[session] = job.stop
        try:
            job.start()
            shown = ""
            while job.is_alive():
                # Drawn anew only when something changed: else its animation would start over.
                if job.progress() != shown:
                    shown = job.progress()
                    yield shown
                job.join(POLL_S)
        finally:
            # Also when the reader closed the page: the generator is closed then.
            job.stop.set()
            self._running.pop(session, None)

    def _announce(
        self, path: str | None, granularity: str, extract_embedding: bool, lang: str
    ) -> tuple[str, None]:
        status = self._recogniser.holder.status()
        return charts.progress(Path(path or "").name, charts.STEPS[0], 0.0, 0.0, status), None

    def _recognise_at_once(
        self,
        path: str | None,
        granularity: str,
        extract_embedding: bool,
        lang: str,
        request: gr.Request,
    ) -> tuple[str, str | None]:
        *_, last = self._recognise(path, granularity, extract_embedding, lang, request)
        return last

    # --- robustness test ---

    def _stress(self, path: str | None, lang: str, request: gr.Request) -> Iterator[str]:
        """Shows how far the test is, then its report or the error."""
        if path is None:
            yield charts.failure(MissingAudio())
            return
        run = partial(self._recogniser.stress, Path(path))
        job = _Job(self._recogniser, Path(path), _counted(request, run), charts.stress_progress)
        yield from self._watch(job, request)
        try:
            yield charts.stress(job.result())
        except Cancelled:
            yield charts.cancelled()
        except Exception as error:
            yield charts.failure(_as_known(error))

    def _announce_stress(self, path: str | None, lang: str) -> str:
        status = self._recogniser.holder.status()
        return charts.stress_progress(Path(path or "").name, charts.STEPS[0], 0.0, 0.0, status)

    def _stress_at_once(self, path: str | None, lang: str, request: gr.Request) -> str:
        *_, last = self._stress(path, lang, request)
        return last

    # --- results ---

    def _outcome(self, job: _Job) -> tuple[str, str | None]:
        try:
            result: Result = job.result()
            assert result.folder is not None
            base = f"file=outputs/{result.folder.name}/"
            return charts.result(result.report, base, _files(result.folder)), result.folder.name
        except Cancelled:
            return charts.cancelled(), None
        except Exception as error:
            return charts.failure(_as_known(error)), None

    def _cancel(self, request: gr.Request) -> None:
        stop = self._running.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    def _example(self, lang: str) -> str:
        path = EXAMPLES / f"{_language(lang)}.wav"
        if not path.is_file():
            raise gr.Error(texts.text("ui.example.missing", _language(lang)), print_exception=False)
        return str(path)

    # --- files ---

    def _export(self, kind: str, name: str | None, lang: str) -> str:
        """Writes one export of the shown result into Gradio's cache and returns its path."""
        try:
            folder = self._settings.outputs / (name or "")
            if not name or not (folder / results.RESULT_NAME).is_file():
                raise ResultNotFound(name=name or "result")
            target = Path(tempfile.mkdtemp(prefix="emotion2vec-export-"))
            if kind == "zip":
                return str(_zip(folder, target / f"{name}.zip"))
            suffix, write = _EXPORTS[kind]
            report = json.loads((folder / results.RESULT_NAME).read_text(encoding="utf-8"))
            path = target / f"{name}{suffix}"
            # newline="": RFC 4180 ends its lines with CR LF on every system.
            with path.open("w", encoding="utf-8", newline="") as file:
                file.write(write(report, _names(_language(lang))))
            return str(path)
        except Exception as error:
            known = _as_known(error)
            words = f"{known.message(_language(lang))} {known.hint(_language(lang))}"
            raise gr.Error(words, print_exception=False) from error

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
    ) -> dict[str, Any]:
        header = request.headers.get("accept-language", "") if request else ""
        lang = self._settings.lang or texts.negotiate(header)
        try:
            if audio is None:
                raise MissingAudio()
            _count(request)
            return self._recogniser.analyse(
                Path(audio),
                granularity=granularity,
                extract_embedding=extract_embedding,
                lang=lang,
            ).report
        except Exception as error:
            known = _as_known(error)
            words = f"{known.message(lang)} {known.hint(lang)}"
            raise gr.Error(words, print_exception=False) from error


def _count(request: gr.Request) -> None:
    """Counts one recognition against the caller's rate limit; raises what `access` raises."""
    getattr(request.request.state, COUNT)()


def _counted(request: gr.Request, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, counted when it is called: the error is then that of the work."""

    def counted(**options: Any) -> Any:
        _count(request)
        return work(**options)

    return counted


class _Job(threading.Thread):
    """One recognition in a thread of its own, so that the page can show how far it is.

    Args:
        recogniser: whose model's state is shown meanwhile.
        path: of the recording.
        work: what is to be done; takes `on_progress` and `cancelled`.
        draw: the progress as HTML, with the arguments of `charts.progress`.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        path: Path,
        work: Callable[..., Any],
        draw: Callable[..., str],
    ) -> None:
        super().__init__(name="page-recognition", daemon=True)
        self.stop = threading.Event()
        self._recogniser = recogniser
        self._path = path
        self._step, self._share = charts.STEPS[0], 0.0
        self._since = time.monotonic()
        self._result: Any = None
        self._error: BaseException | None = None
        self._work = partial(work, on_progress=self._on_progress, cancelled=self.stop.is_set)
        self._draw = draw

    def run(self) -> None:
        """Recognises, and keeps what came of it for `result`."""
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """What came of it; raises what was raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def progress(self) -> str:
        """How far it is, as HTML."""
        return self._draw(
            self._path.name,
            self._step,
            self._share,
            int(time.monotonic() - self._since),
            self._recogniser.holder.status(),
        )

    def _on_progress(self, step: str, share: float) -> None:
        self._step, self._share = step, share


def _as_known(error: Exception) -> EmotionError:
    """The error as strangers may read it; one that nobody foresaw has an id, which is logged."""
    if isinstance(error, EmotionError):
        return error.public()
    error_id = secrets.token_hex(4)
    log.error("internal error %s on the page", error_id, exc_info=error)
    return EmotionError(error_id=error_id)


def _files(folder: Path) -> list[tuple[str, int]]:
    names = (results.RESULT_NAME, results.AUDIO_NAME, results.EMBEDDING_NAME)
    return [(name, (folder / name).stat().st_size) for name in names if (folder / name).is_file()]


def _zip(folder: Path, target: Path) -> Path:
    # Audio and embeddings barely shrink; storing them keeps the download of an hour quick.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, _ in _files(folder):
            archive.write(folder / name, f"{folder.name}/{name}")
    return target


# --- exports: the timeline's formats, from the stored report --------------------------------------


Names = Mapping[str, str]


def _segments(report: Mapping[str, Any]) -> list[timeline.Segment]:
    return [timeline.Segment(**one) for one in report.get("segments", [])]


def _sentences(report: Mapping[str, Any]) -> list[timeline.Segment]:
    return [
        timeline.Segment(one["emotion"], one["start_s"], one["end_s"], one["confidence"])
        for one in report.get("utterances", [])
    ]


def _names(lang: str) -> dict[str, str]:
    return {one: texts.text(f"emotion.{one}", lang) for one in EMOTIONS}


def _csv(report: Mapping[str, Any], names: Names) -> str:
    """Segments, or the nine scores of an utterance; keys, not words: programs read tables."""
    if report["granularity"] == "frame":
        return exports.to_csv(_segments(report))
    rows = [f"{emotion},{score}" for emotion, score in report["scores"].items()]
    return "\r\n".join(["emotion,score", *rows, ""])


def _textgrid(report: Mapping[str, Any], names: Names) -> str:
    duration_s = report["source"]["duration_s"]
    return exports.to_textgrid(_segments(report), names, duration_s=duration_s)


_EXPORTS: dict[str, tuple[str, Callable[[Mapping[str, Any], Names], str]]] = {
    "csv": (".csv", _csv),
    "srt": (".srt", lambda report, names: exports.to_srt(_segments(report), names)),
    "vtt": (".vtt", lambda report, names: exports.to_vtt(_segments(report), names)),
    "textgrid": (".TextGrid", _textgrid),
    "audacity": (".txt", lambda report, names: exports.to_audacity(_segments(report), names)),
    "sentences-csv": (
        "_sentences.csv",
        lambda report, names: exports.to_csv(_sentences(report)),
    ),
    "sentences-srt": (
        "_sentences.srt",
        lambda report, names: exports.to_srt(_sentences(report), names),
    ),
}
"""End of the file's name, and writer of each format."""


# --- language, theme, head ------------------------------------------------------------------------


def _language(lang: str | None) -> str:
    return lang if lang in texts.languages() else texts.languages()[0]


def _key(name: str) -> str:
    # A dot would make svelte-i18n look for nested tables.
    return name.replace(".", "_")


# What stands on components, which the browser translates; all other text is drawn in both.
STATIC_TEXTS = ("ui.", "history.", "emotion.", "band.")


def _translations() -> gr.I18n:
    tables = {
        lang: {
            _key(name): words
            for name, words in texts.catalogue(lang).items()
            if name.startswith(STATIC_TEXTS)
        }
        for lang in texts.languages()
    }
    return gr.I18n(
        en=tables["en"], zh=tables["zh"], **{"zh-CN": tables["zh"], "zh-TW": tables["zh"]}
    )


_I18N = _translations()


def _i18n(name: str) -> Any:
    return _I18N(_key(name))


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=FONTS,
        font_mono=MONOSPACE_FONTS,
    )


def _head(settings: Settings) -> str:
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    # `lang` is one of three fixed words: settings checked it.
    return f'<script>window.emotionPageLang = "{settings.lang}";</script><script>{script}</script>'
