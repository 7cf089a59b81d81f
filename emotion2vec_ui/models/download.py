"""Downloads a model's files from ModelScope or Hugging Face.

`modelscope_hub` (ModelScope's client) and `huggingface_hub` do the transfer. Added here: only the
files that inference needs, a check of the free disk space before the first byte, one progress for
all files, resuming after a restart from Hugging Face too, hashes for either hub, and errors that
say what happened.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion2vec_ui.errors import ModelDownloadError
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models.files import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    MODELSCOPE_REVISION,
    TOKENS_NAME,
    hugging_face_id,
    models_directory,
    modelscope_id,
    resolve,
    verify,
    wanted_id,
)
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

FILES = (CHECKPOINT_NAME, CONFIG_NAME, "configuration.json", TOKENS_NAME)
"""What inference needs; the repositories also hold examples and pictures."""

SPARE_BYTES = 200_000_000
"""Disk space left free for other programs."""

RATE_WINDOW_S = 10.0
"""The reported rate is the mean of this many last seconds."""

REPORT_EVERY_S = 0.2
"""Shortest time between two progress reports."""

LISTING_TIMEOUT_S = 20.0
"""For the list of a repository's files."""

TIMEOUTS_S = (10.0, 60.0)
"""To connect, and between two pieces of a response."""

RETRIES = 5
"""Failed attempts in a row, without a byte received between them."""

RETRY_PAUSE_S = 1.0

CHUNK_BYTES = 1 << 20


class Cancelled(BaseException):
    """Raised by a progress callback to end a download.

    Not an Exception: the clients' retries would catch it.
    """


@dataclass(frozen=True)
class Progress:
    """How much of a download is done.

    Attributes:
        bytes_done: of all files, those of earlier runs included.
        bytes_total: of all files.
        rate_bytes_s: over the last seconds.
    """

    bytes_done: int
    bytes_total: int
    rate_bytes_s: float

    @property
    def fraction(self) -> float | None:
        """Share done, 0 to 1; None when the total is unknown."""
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else None

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate; None while nothing arrives."""
        if self.rate_bytes_s <= 0 or not self.bytes_total:
            return None
        return max(0, self.bytes_total - self.bytes_done) / self.rate_bytes_s


@dataclass(frozen=True)
class _RemoteFile:
    """A file as the hub lists it: size in bytes; hex sha256, or None where it lists none."""

    name: str
    size: int
    sha256: str | None


def fetch(
    settings: Settings,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """The wanted model's directory, verified; downloaded unless it is on this machine.

    Args:
        settings: which model, which hub, and whether the hub's cache may be used.
        on_progress: see `download`.

    Raises:
        ModelDownloadError: it is not here and cannot be downloaded.
        ModelFilesError: the files are here, and they are not those of a complete model.
    """
    location = resolve(settings)
    if location is None:
        return fetch_absent(settings, on_progress)
    return location.path if location.is_built_in else verify(location.path).path


def fetch_absent(settings: Settings, on_progress: Callable[[Progress], None]) -> Path:
    """Downloads the wanted model and verifies it; arguments and errors as of `fetch`."""
    wanted = wanted_id(settings)
    if settings.offline:
        raise ModelDownloadError(model=wanted, problem=Phrase("download.offline"))
    directory = models_directory(settings) if settings.no_hf_weights_cache else None
    path = download(wanted, hub=settings.hub, directory=directory, on_progress=on_progress)
    return verify(path).path


def download(
    model: str,
    *,
    hub: str,
    directory: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Downloads the files of `model` that inference needs; those already complete are kept.

    Args:
        model: id on either hub.
        hub: "ms" or "hf".
        directory: where the files go; None means the hub's cache.
        on_progress: called at most five times a second, from several threads, and once at the
            end; may raise `Cancelled`.

    Returns:
        The directory that holds the files.

    Raises:
        ModelDownloadError: the hub cannot be reached, has no such model, the disk has no room, or
            what arrived is not what the hub lists.
    """
    download_from = _from_modelscope if hub == "ms" else _from_hugging_face
    try:
        return download_from(model, directory, on_progress)
    except ModelDownloadError:
        raise
    except ImportError as error:
        problem = Phrase("model.import_failed", detail=str(error))
        raise ModelDownloadError(model=model, problem=problem) from error
    except Exception as error:  # each client has its own classes, and passes on requests'
        raise ModelDownloadError(model=model, problem=_problem(error)) from error


def _from_modelscope(
    model: str, directory: Path | None, on_progress: Callable[[Progress], None]
) -> Path:
    from modelscope_hub import HubApi, ProgressCallback

    # Endpoint and cache are passed explicitly: the client reads its environment only once.
    api = HubApi(endpoint=os.environ.get("MODELSCOPE_ENDPOINT") or None)
    model = modelscope_id(model)
    listing = api.list_repo_files(model, "model", revision=MODELSCOPE_REVISION)
    files = [
        _RemoteFile(item.path, int(item.size), item.sha256)
        for item in listing
        if item.path in FILES
    ]
    cache = Path(os.environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope")
    _check_listing(model, files, directory or cache)
    meter = _ProgressMeter(sum(file.size for file in files), on_progress)

    class Callback(ProgressCallback):
        """Counts one file's bytes; the client makes one for each file."""

        def update(self, size: int) -> None:
            meter.add(size)

    path = api.download_repo(
        model,
        "model",
        revision=MODELSCOPE_REVISION,
        cache_dir=cache,
        local_dir=directory,
        progress_callbacks=[Callback],
        file_list=[{"Path": file.name, "Size": file.size, "Sha256": file.sha256} for file in files],
    )
    _check_files(model, Path(path), files)
    meter.finish()
    return Path(path)


def _from_hugging_face(
    model: str, directory: Path | None, on_progress: Callable[[Progress], None]
) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from tqdm import tqdm  # type: ignore[import-untyped]

    endpoint = os.environ.get("HF_ENDPOINT") or None
    repository = hugging_face_id(model)
    info = HfApi(endpoint=endpoint).model_info(
        repository, files_metadata=True, timeout=LISTING_TIMEOUT_S
    )
    files = [
        _RemoteFile(item.rfilename, int(item.size or 0), item.lfs.sha256 if item.lfs else None)
        for item in info.siblings or []
        if item.rfilename in FILES
    ]
    cache = Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
    _check_listing(model, files, directory or cache)
    meter = _ProgressMeter(sum(file.size for file in files), on_progress)

    # The client discards a partial file when its process ends. So large files are downloaded here,
    # to where the client looks before it downloads: its cache names content by sha256.
    blobs = cache / ("models--" + repository.replace("/", "--")) / "blobs"
    for file in files:
        if file.sha256:
            target = directory / file.name if directory else blobs / file.sha256
            _download_resumable(repository, str(info.sha), endpoint, file, target, meter)

    class NoBar(tqdm):
        """Shows nothing: the meter reports the progress."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

    path = snapshot_download(
        repository,
        revision=info.sha,
        allow_patterns=[file.name for file in files],
        endpoint=endpoint,
        cache_dir=None if directory else cache,
        local_dir=directory,
        tqdm_class=NoBar,
    )
    _check_files(model, Path(path), files)
    meter.finish()
    return Path(path)


def _download_resumable(
    repository: str,
    commit: str,
    endpoint: str | None,
    file: _RemoteFile,
    target: Path,
    meter: _ProgressMeter,
) -> None:
    """Downloads one file from Hugging Face to `target`, continuing an earlier attempt.

    Raises:
        ModelDownloadError: what arrived has another size or hash than the hub lists.
        requests.RequestException: the hub cannot be reached, several times in a row.
    """
    import requests
    from filelock import FileLock
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    target.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(repository, file.name, revision=commit, endpoint=endpoint)
    # Named by the content's hash: never continued with the bytes of another version.
    partial = target.with_name(f"{file.sha256}.partial")
    with FileLock(f"{partial}.lock"):
        if _has_size(target, file.size):
            meter.add(file.size)
            return
        if partial.exists():
            meter.add(partial.stat().st_size)
        failures = 0
        while not _has_size(partial, file.size):
            start = partial.stat().st_size if partial.exists() else 0
            headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
            if start:
                headers["Range"] = f"bytes={start}-"
            try:
                with (
                    requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS_S) as answer,
                    partial.open("ab") as sink,
                ):
                    if answer.status_code == 416:  # the server has nothing beyond these bytes
                        break
                    answer.raise_for_status()
                    if answer.status_code != 206 and start:
                        sink.truncate(0)
                        meter.add(-start)
                    for chunk in answer.iter_content(CHUNK_BYTES):
                        sink.write(chunk)
                        meter.add(len(chunk))
                        failures = 0
                if not _has_size(partial, file.size):
                    break
            except requests.RequestException as error:
                failures += 1
                refused = error.response is not None and error.response.status_code < 500
                if refused or failures > RETRIES:
                    raise
                time.sleep(RETRY_PAUSE_S * failures)
        if not _has_size(partial, file.size) or sha256_of(partial) != file.sha256:
            partial.unlink(missing_ok=True)
            problem = Phrase("download.damaged", name=file.name)
            raise ModelDownloadError(model=modelscope_id(repository), problem=problem)
        os.replace(partial, target)
    Path(f"{partial}.lock").unlink(missing_ok=True)


class _ProgressMeter:
    """Counts the bytes of all files and reports them, at most every `REPORT_EVERY_S`."""

    def __init__(self, total: int, on_progress: Callable[[Progress], None]) -> None:
        self._total = total
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._done = 0
        self._marks: deque[tuple[float, int]] = deque()
        self._reported_s = 0.0

    def add(self, n_bytes: int) -> None:
        """Counts `n_bytes` more; negative when a file starts over."""
        now = time.monotonic()
        with self._lock:
            self._done += n_bytes
            if n_bytes > 64 << 20 or not self._marks:
                # The bytes of an earlier run, counted at once: no measure of the rate.
                self._marks.clear()
            self._marks.append((now, self._done))
            while len(self._marks) > 2 and now - self._marks[0][0] > RATE_WINDOW_S:
                self._marks.popleft()
            if now - self._reported_s < REPORT_EVERY_S:
                return
            self._reported_s = now
            progress = self._progress(now)
        self._on_progress(progress)

    def finish(self) -> None:
        """Reports that everything is done."""
        with self._lock:
            self._done = self._total
            progress = self._progress(time.monotonic())
        self._on_progress(progress)

    def _progress(self, now: float) -> Progress:
        rate = 0.0
        if self._marks:
            start, done = self._marks[0]
            rate = max(0.0, (self._done - done) / max(now - start, 1e-3)) if now > start else 0.0
        return Progress(min(self._done, self._total), self._total, rate)


def _check_listing(model: str, files: Iterable[_RemoteFile], target: Path) -> None:
    """Raises ModelDownloadError where a file is not on the hub or the disk has too little room."""
    files = list(files)
    missing = set(FILES) - {file.name for file in files} - {"configuration.json"}
    if missing:
        problem = Phrase("download.incomplete_repository", names=", ".join(sorted(missing)))
        raise ModelDownloadError(model=model, problem=problem)
    folder = target
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    needed = sum(file.size for file in files if not _has_size(target / file.name, file.size))
    if needed + SPARE_BYTES > free:
        problem = Phrase(
            "download.no_room", needed_mb=needed / 1e6, free_mb=free / 1e6, path=folder
        )
        raise ModelDownloadError(model=model, problem=problem)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _check_files(model: str, path: Path, files: Iterable[_RemoteFile]) -> None:
    """Compares sizes and hashes with the hub's list; a file that differs is removed.

    Raises:
        ModelDownloadError: a file differs; the next attempt downloads it again.
    """
    for file in files:
        place = path / file.name
        if _has_size(place, file.size) and file.sha256 in (None, "", sha256_of(place)):
            continue
        # In Hugging Face's cache the name is a link to the content: both go.
        place.resolve().unlink(missing_ok=True)
        place.unlink(missing_ok=True)
        problem = Phrase("download.damaged", name=file.name)
        raise ModelDownloadError(model=model, problem=problem)


def _problem(error: BaseException) -> Phrase:
    """The text for a client's exception; the clients' classes are matched by name."""
    # ModelScope's client wraps the errors of single files.
    failed = getattr(error, "failed_files", None)
    if failed:
        return _problem(next(iter(failed.values())))
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < 10:
        chain.append(inner)
    names = {cls.__name__ for link in chain for cls in type(link).__mro__}
    detail = " ".join(str(error).split())[:300] or type(error).__name__
    if any(isinstance(link, OSError) and link.errno == 28 for link in chain):  # ENOSPC
        return Phrase("download.disk_full")
    responses = [getattr(link, "response", None) for link in chain]
    if any(getattr(response, "status_code", None) == 404 for response in responses):
        return Phrase("download.not_found")
    if names & {"NotExistError", "RepositoryNotFoundError", "RevisionNotFoundError"}:
        return Phrase("download.not_found")
    if names & {"FileSizeMismatchError", "FileIntegrityError", "IncompleteDownloadError"}:
        return Phrase("download.mismatch", detail=detail)
    unreachable = {
        "NetworkError", "RequestTimeoutError", "ConnectionError", "ConnectError",
        "TimeoutException", "Timeout", "TimeoutError", "LocalEntryNotFoundError", "ProtocolError",
        "RemoteProtocolError", "NetworkException", "TransportError", "_DownloadDeadlineError",
    }  # fmt: skip
    if names & unreachable:
        return Phrase("download.unreachable", detail=detail)
    return Phrase("download.failed", detail=detail)
