"""Holds the one instance of the model: a thread that finds, downloads and loads it; its state.

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
from emotion2vec_ui.models.files import Location, built_in, resolve, revision_of, wanted_id
from emotion2vec_ui.models.loader import Loaded, load
from emotion2vec_ui.settings import AUTO, Settings
from emotion2vec_ui.texts import Phrase

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""Retry-After while the model loads, which takes 1 to 15 s."""

BACKOFF_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses between attempts to download in the background; the last is repeated."""


@dataclass(frozen=True)
class Status:
    """What the holder does now, and which model answers.

    Attributes:
        state: "idle", "importing", "downloading", "loading", "quantising", "ready" or "failed".
        seconds: since this state began.
        wanted: id of the model that `--model` asks for.
        answering: id of the model that answers now, or None.
        answering_built_in: whether that is the built-in model.
        notice: why another than the wanted model answers, or None:
            "compact_while_downloading", "compact_while_loading", "compact_offline",
            "compact_download_failed" or "compact_load_failed".
        progress: share of the download that is done, 0 to 1; None when nothing downloads or the
            size is unknown.
        bytes_done: of the download.
        bytes_total: of the download; 0 when unknown.
        rate_bytes_s: of the last seconds.
        eta_s: until the download is done, or None.
        error: the last failure, or None.
        retry_in_s: until the next automatic attempt, or None.
    """

    state: str
    seconds: float
    wanted: str
    answering: str | None
    answering_built_in: bool
    notice: str | None = None
    progress: float | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_s: float = 0.0
    eta_s: float | None = None
    error: EmotionError | None = None
    retry_in_s: float | None = None


class ModelHolder:
    """Loads the model in a thread of its own; `get` returns it.

    With `auto` and no plus_large on this machine, the built-in model answers at once, and
    plus_large replaces it when it is downloaded and loaded. A `Loaded` that `get` returned stays
    usable after that.
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
        """Starts loading, unless that runs already or is done."""
        with self._changed:
            running = self._thread is not None and self._thread.is_alive()
            if running or self._stopping.is_set() or self._state == "ready":
                return
            self._set_state("importing")
            self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)
            self._thread.start()

    def retry(self) -> None:
        """Tries again at once after a failure, also during the pause before the next attempt."""
        self._again.set()
        with self._changed:
            waiting = self._retry_at is not None
        if not waiting:
            self.start()

    def lost(self, loaded: Loaded) -> None:
        """Reports that the device of `loaded` failed: it answers no more and is loaded again.

        Where the device stays unavailable, loading fails, and `status` and `get` say so.
        """
        with self._changed:
            loading = self._thread is not None and self._thread.is_alive()
            if self._current is not loaded or loading:
                return
            self._current = None
            self._set_state("idle")
        logger.error("%s failed; loading %s again.", loaded.network.device, loaded.id)
        self.start()

    def stop(self) -> None:
        """Ends the download and the thread; `get` raises afterwards."""
        self._stopping.set()
        self._again.set()
        with self._changed:
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def status(self) -> Status:
        """A snapshot; takes microseconds."""
        with self._changed:
            now = time.monotonic()
            progress = self._progress if self._state == "downloading" else None
            return Status(
                state=self._state,
                seconds=now - self._since,
                wanted=wanted_id(self._settings),
                answering=None if self._current is None else self._current.id,
                answering_built_in=self._current is not None and self._current.is_built_in,
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
                    # A new object: several threads may raise it, each with its own traceback.
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
        except Exception as error:  # a bug: it must be reported, or every request would hang
            logger.exception("Loading the model failed.")
            problem = Phrase("model.build_failed", detail=f"{type(error).__name__}: {error}")
            self._fail(ModelLoadError(model=wanted_id(self._settings), problem=problem))

    def _run_named(self) -> None:
        """Loads the model that `--model` names, and no other."""
        location = resolve(self._settings)
        if location is None:
            location = self._download()
        self._use(load(location, self._settings, self._set_state), notice=None)

    def _run_auto(self) -> None:
        """Loads plus_large; the built-in model answers until then, and where there is none."""
        location = resolve(self._settings)
        if location is not None:
            self._load_or_use_built_in(location)
            return
        notice = "compact_offline" if self._settings.offline else "compact_while_downloading"
        try:
            self._use_built_in(notice)
        except (ModelFilesError, ModelLoadError) as error:
            if self._settings.offline:
                raise
            # Requests then wait for the download, as they do for a model given by name.
            logger.error("The built-in model cannot be loaded: %s", error)
        if self._settings.offline:
            return
        self._load_or_use_built_in(self._download_with_retries())

    def _load_or_use_built_in(self, location: Location) -> None:
        """Loads plus_large; where its files cannot be used the built-in model answers.

        DeviceUnavailable is not caught: the device is missing for the built-in model too.
        """
        try:
            self._use(load(location, self._settings, self._set_state), notice=None)
        except (ModelFilesError, ModelLoadError) as error:
            if self._current is None:
                with contextlib.suppress(ModelFilesError, ModelLoadError):
                    self._use_built_in("compact_load_failed")
            with self._changed:
                self._notice = "compact_load_failed"
            self._fail(error)

    def _use_built_in(self, notice: str) -> None:
        if self._current is None:
            self._use(load(built_in(), self._settings, self._set_state), notice=notice)
        logger.warning("The built-in compact model answers (%s).", notice)

    def _download_with_retries(self) -> Location:
        """Downloads; after a failure waits, ever longer, and tries again."""
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
        path = download.fetch_absent(self._settings, self._on_progress)
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
