"""The one instance of the model: a thread that finds, downloads and loads it, and its state.

plus_large's checkpoint is 1.95 GB, three copies of its weights. The first load keeps what
inference needs as `model.slim.safetensors`; later loads read that file straight into the module.

Importing this module imports neither torch nor funasr.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass

from emotion2vec_ui.errors import (
    EmotionError,
    ModelFilesError,
    ModelLoadError,
    ModelNotReady,
    ShuttingDown,
)
from emotion2vec_ui.models import download
from emotion2vec_ui.models.files import Location, fetch_wanted, resolve, revision_of, wanted_id
from emotion2vec_ui.models.loader import Loaded, load
from emotion2vec_ui.settings import AUTO, COMPACT, Settings
from emotion2vec_ui.texts import Phrase

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""What a client is told to wait while the model loads; loading takes 1 to 15 s."""

BACKOFF_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses between attempts to download in the background; the last one repeats."""


@dataclass(frozen=True)
class Status:
    """How far the holder is.

    Attributes:
        state: "idle", "importing", "downloading", "loading", "ready" or "failed".
        seconds: since this state began.
        wanted: id of the model that `--model` asks for.
        answering: id of the model that answers now, or None.
        answering_built_in: whether that is the compact model that comes with the program.
        notice: why another than the wanted model answers, or None:
            "compact_while_downloading", "compact_while_loading", "compact_offline",
            "compact_download_failed" or "compact_load_failed".
        progress: done part of the download, 0 to 1; None when nothing downloads or the size is
            unknown.
        bytes_done: of the download.
        bytes_total: of the download; 0 when unknown.
        rate_bytes_s: of the last seconds.
        eta_s: until the download is done, or None.
        error: what went wrong last, or None; it has `code`, `message(lang)` and `hint(lang)`.
        retry_in_s: until the next attempt by itself, or None.
    """

    state: str
    seconds: float
    wanted: str
    answering: str | None
    answering_built_in: bool = False
    notice: str | None = None
    progress: float | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_s: float = 0.0
    eta_s: float | None = None
    error: EmotionError | None = None
    retry_in_s: float | None = None


class ModelHolder:
    """Loads the model in a thread of its own and hands it out.

    With `auto` and no plus_large on this machine, the built-in model answers at once, and
    plus_large takes its place when it is downloaded and loaded. A `Loaded` that was handed out
    stays valid whatever the holder does next.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._again = threading.Event()
        self._current: Loaded | None = None
        self._state = "idle"
        self._since = time.monotonic()
        self._notice: str | None = None
        self._progress: download.Progress | None = None
        self._error: EmotionError | None = None
        self._retry_at: float | None = None

    def start(self) -> None:
        """Begins to load, unless that is under way or done."""
        with self._changed:
            running = self._thread is not None and self._thread.is_alive()
            if running or self._stopping.is_set() or self._state == "ready":
                return
            self._set_state("importing")
            self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)
            self._thread.start()

    def retry(self) -> None:
        """Tries again at once after a failure; during the pause before the next attempt too."""
        self._again.set()
        with self._changed:
            waiting = self._retry_at is not None
        if not waiting:
            self.start()

    def lost(self, loaded: Loaded) -> None:
        """Tells that the device of `loaded` failed: it answers no more, and is loaded anew.

        Where the device stays away, loading fails, and status and every request tell that.
        """
        with self._changed:
            loading = self._thread is not None and self._thread.is_alive()
            if self._current is not loaded or loading:
                return
            self._current = None
            self._set_state("idle")
        logger.error("%s failed; loading %s again.", loaded.device, loaded.id)
        self.start()

    def stop(self) -> None:
        """Ends the download and the thread; `get` raises from now on."""
        self._stopping.set()
        self._again.set()
        with self._changed:
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def status(self) -> Status:
        """A snapshot; cheap."""
        with self._changed:
            now = time.monotonic()
            progress = self._progress if self._state == "downloading" else None
            return Status(
                state=self._state,
                seconds=now - self._since,
                wanted=wanted_id(self._settings),
                answering=None if self._current is None else self._current.id,
                answering_built_in=self._current is not None and self._current.is_compact,
                notice=None if self._current is None else self._notice,
                progress=progress.fraction if progress else None,
                bytes_done=progress.bytes_done if progress else 0,
                bytes_total=progress.bytes_total if progress else 0,
                rate_bytes_s=progress.rate_bytes_s if progress else 0.0,
                eta_s=progress.eta_s if progress else None,
                error=self._error,
                retry_in_s=None if self._retry_at is None else max(0.0, self._retry_at - now),
            )

    @property
    def current(self) -> Loaded | None:
        """The model that answers now."""
        return self._current

    def get(self, timeout_s: float) -> Loaded:
        """The model that answers, as soon as there is one.

        Args:
            timeout_s: longest wait, in seconds.

        Raises:
            ModelNotReady: none within that time.
            ModelError: loading failed.
            ShuttingDown: the holder was stopped.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._stopping.is_set():
                    raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
                if self._current is not None:
                    return self._current
                if self._state == "failed" and self._error is not None:
                    # A new one: several threads may raise it, each with its own traceback.
                    raise type(self._error)(**self._error.facts) from self._error
                left = deadline - time.monotonic()
                if left <= 0:
                    seconds = time.monotonic() - self._since
                    raise ModelNotReady(
                        state=self._state, seconds=seconds, retry_after_s=RETRY_AFTER_S
                    )
                self._changed.wait(left)

    # --- the thread ---

    def _run(self) -> None:
        try:
            if self._settings.model == AUTO:
                self._run_auto()
            else:
                self._run_named()
        except download.Cancelled:
            pass
        except EmotionError as error:
            self._fail(error)
        except Exception as error:  # anything else is a bug: it must show, not hang every request
            logger.exception("Loading the model failed.")
            problem = Phrase("model.build_failed", detail=f"{type(error).__name__}: {error}")
            self._fail(ModelLoadError(model=wanted_id(self._settings), problem=problem))

    def _run_named(self) -> None:
        """`--model` names one: that one, or an error."""
        location = resolve(self._settings)
        if location is None:
            location = self._download()
        self._use(load(location, self._settings, self._set_state), notice=None)

    def _run_auto(self) -> None:
        location = resolve(self._settings)
        if location is not None:
            self._load_or_compact(location)
            return
        notice = "compact_offline" if self._settings.offline else "compact_while_downloading"
        try:
            self._use_compact(notice)
        except (ModelFilesError, ModelLoadError) as error:
            if self._settings.offline:
                raise
            # Requests wait for the download then, as they do for a model named outright.
            logger.error("The built-in model cannot be loaded: %s", error)
        if self._settings.offline:
            return
        self._load_or_compact(self._download_patiently())

    def _load_or_compact(self, location: Location) -> None:
        """Loads plus_large; where its files cannot be used the built-in model answers.

        A missing device is a missing device for either model: that error stays an error.
        """
        try:
            self._use(load(location, self._settings, self._set_state), notice=None)
        except (ModelFilesError, ModelLoadError) as error:
            logger.error("%s", error)
            if self._current is None:
                with contextlib.suppress(ModelFilesError, ModelLoadError):
                    self._use_compact("compact_load_failed")
            with self._changed:
                self._notice = "compact_load_failed"
            self._fail(error)

    def _use_compact(self, notice: str) -> None:
        if self._current is None:
            compact = Location(None, COMPACT, "built in")
            self._use(load(compact, self._settings, self._set_state), notice=notice)
        logger.warning("The built-in compact model answers (%s).", notice)

    def _download_patiently(self) -> Location:
        """Downloads, and after a failure tries again by itself, in growing intervals."""
        attempt = 0
        while True:
            try:
                with self._changed:
                    self._notice = "compact_while_downloading"
                return self._download()
            except EmotionError as error:
                pause_s = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                attempt += 1
                with self._changed:
                    self._notice = "compact_download_failed"
                    self._retry_at = time.monotonic() + pause_s
                self._again.clear()
                self._fail(error)
                self._again.wait(pause_s)
                with self._changed:
                    self._retry_at = None
            if self._stopping.is_set():
                raise download.Cancelled

    def _download(self) -> Location:
        self._set_state("downloading")
        path = fetch_wanted(self._settings, self._on_progress)
        with self._changed:
            if self._current is not None:
                self._notice = "compact_while_loading"
        return Location(path, wanted_id(self._settings), "downloaded", revision_of(path))

    def _on_progress(self, progress: download.Progress) -> None:
        if self._stopping.is_set():
            raise download.Cancelled
        with self._changed:
            self._progress = progress

    def _set_state(self, state: str) -> None:
        with self._changed:
            if state != self._state:
                self._state, self._since = state, time.monotonic()
            if state in ("downloading", "ready"):
                self._error = None
            self._changed.notify_all()

    def _use(self, loaded: Loaded, notice: str | None) -> None:
        with self._changed:
            self._current, self._notice = loaded, notice
            self._set_state("ready")

    def _fail(self, error: EmotionError) -> None:
        logger.error("%s", error)
        with self._changed:
            self._error = error
            self._set_state("failed")
