"""The folders in `outputs/`, one per result.

A folder is complete or absent. It is written under `outputs/.writing/` and then renamed, which the
file system does in one step: also when the process is killed, also with other processes writing
beside it. Nothing is ever overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion2vec_ui.audio.load import to_pcm16
from emotion2vec_ui.errors import DiskFull, OutputError, ResultNotFound
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.records.report import Files, Report, to_json

WRITING_DIR = ".writing"
RESULT_NAME = "result.json"
AUDIO_NAME = "processed_audio.wav"
EMBEDDING_NAME = "embedding.npy"
KEPT_EMBEDDING_NAME = ".embedding.npy"
"""The utterance embedding, float16 (dim,), for the index: where embedding.npy, which is there only
when it was asked for, does not hold it. In the folder, because the folders are the truth and the
index can be deleted at any time; hidden, because it is no part of the result: it is neither served
nor exported. 2 KB with plus_large."""
ORIGIN_NAME = ".origin"
"""What a result was made for, in its maker's words; hidden as the above. It is written with the
result, so that who was killed before noting the folder finds it by them: see `origins`."""
FOLDER_PREFIX = "outputs_"
WAV_SAMPLES = 1 << 20
"""Samples converted and written at a time."""

RESULT_FOLDER = re.compile(r"outputs_[0-9]{8}_[0-9]{6}(_[0-9]{1,9})?")


@dataclass(frozen=True)
class Saved:
    """A result folder that was written.

    Attributes:
        folder: where.
        content: of its result.json.
    """

    folder: Path
    content: bytes


def save(
    outputs: Path,
    report: Report,
    samples: np.ndarray,
    embedding: np.ndarray | None,
    *,
    kept_embedding: np.ndarray | None = None,
    origin: str = "",
) -> Saved:
    """Writes one result folder.

    Args:
        outputs: the folder of all results; made when absent.
        report: content of result.json, with its sentences; its `timestamp` names the folder.
        samples: float32 (n,), 16 kHz mono: what the model heard.
        embedding: float32 (dim,) or (frames, dim) for embedding.npy, or None.
        kept_embedding: float32 (dim,) of the utterance, for the index, or None.
        origin: by which `origins` finds it again, or empty.

    Returns:
        The folder, `outputs_YYYYMMDD_HHMMSS` with `_2`, `_3`, ... when the second is taken, and
        what was written as its result.json.

    Raises:
        DiskFull: and nothing was left behind.
        OutputError: the folder cannot be written.
    """
    content = to_json(report)
    stamp = report.timestamp.replace("-", "").replace(":", "").replace(" ", "_")
    writing = outputs / WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        writing.mkdir(parents=True)
        (writing / RESULT_NAME).write_bytes(content)
        _write_wav(writing / AUDIO_NAME, samples)
        if embedding is not None:
            with (writing / EMBEDDING_NAME).open("wb") as file:
                np.save(file, np.ascontiguousarray(embedding, np.float32), allow_pickle=False)
        if kept_embedding is not None and (embedding is None or embedding.ndim != 1):
            _keep_embedding(writing, kept_embedding)
        if origin:
            (writing / ORIGIN_NAME).write_bytes(os.fsencode(origin))
        return Saved(_claim(writing, outputs / f"{FOLDER_PREFIX}{stamp}"), content)
    except OSError as error:
        shutil.rmtree(writing, ignore_errors=True)
        raise _as_known(error, outputs) from error
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise


def files_of(folder_name: str, *, has_embedding: bool, root_path: str = "") -> Files:
    """The addresses of a result's files below `root_path`: contract section 5."""
    base = f"{root_path.rstrip('/')}/file=outputs/{folder_name}"
    return Files(
        output_dir=f"outputs/{folder_name}",
        result_url=f"{base}/{RESULT_NAME}",
        audio_url=f"{base}/{AUDIO_NAME}",
        embedding_url=f"{base}/{EMBEDDING_NAME}" if has_embedding else None,
    )


def result_folders(outputs: Path) -> Iterator[os.DirEntry[str]]:
    """Every result in `outputs`, in no order; links and anything else in there are none."""
    try:
        entries = os.scandir(outputs)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if is_result_name(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry


def origins(outputs: Path, prefix: str) -> dict[str, str]:
    """The folder of each result whose origin begins so, by the rest of its origin."""
    found = {}
    for entry in result_folders(outputs):
        with contextlib.suppress(OSError):  # most have none; any may be removed meanwhile
            origin = os.fsdecode((Path(entry.path) / ORIGIN_NAME).read_bytes())
            if origin.startswith(prefix):
                found[origin[len(prefix) :]] = entry.name
    return found


def is_result_name(name: str) -> bool:
    """Whether a result's folder may have this name."""
    return RESULT_FOLDER.fullmatch(name) is not None


def find(outputs: Path, name: str) -> Path:
    """The folder of a result. The name is matched, never resolved: no "..", no link.

    Raises:
        ResultNotFound: there is none, or the name is not one of a result.
    """
    path = outputs / name
    if not is_result_name(name) or path.is_symlink() or not path.is_dir():
        raise ResultNotFound(name=name[:200])
    return path


def files_in(folder: Path) -> tuple[tuple[str, int], ...]:
    """Name and size in bytes of each file of a result."""
    sizes = []
    for name in (RESULT_NAME, AUDIO_NAME, EMBEDDING_NAME):
        with contextlib.suppress(FileNotFoundError):
            sizes.append((name, (folder / name).stat().st_size))
    return tuple(sizes)


def utterance_embedding(folder: Path) -> np.ndarray | None:
    """The utterance embedding of a result, (dim,) in any float type; None where it has none.

    The files may be anything: only what can be an embedding is returned.
    """
    asked_for = _array(folder / EMBEDDING_NAME)
    if asked_for is not None and asked_for.ndim == 1:
        return np.array(asked_for)
    kept = _array(folder / KEPT_EMBEDDING_NAME)
    if kept is not None and kept.ndim == 1:
        return np.array(kept)
    # Results of earlier versions, and of --no-index, may have frames alone; the embedding of an
    # utterance is the mean of its frames.
    if asked_for is not None and asked_for.ndim == 2 and len(asked_for):
        return np.asarray(asked_for.mean(axis=0, dtype=np.float64))
    return None


def _array(path: Path) -> np.ndarray | None:
    """The floats in a file, mapped: an hour of frames has 700 MB; None where there are none."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size > 0
    return array if usable else None


def add_embedding(folder: Path, embedding: np.ndarray) -> None:
    """Keeps the utterance embedding of a result that was saved without one.

    Args:
        folder: of the result.
        embedding: float32 (dim,), of the model that its report names.

    Raises:
        DiskFull: and nothing was left behind.
        OutputError: it cannot be written, or the result was removed meanwhile.
    """
    outputs = folder.parent
    writing = outputs / WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        # The folder's time says how old the result is (`remove_old`), and that it was changed
        # (`records/index`): it goes back, to a microsecond later.
        times = folder.stat()
        writing.mkdir(parents=True)
        _keep_embedding(writing, embedding)
        (writing / KEPT_EMBEDDING_NAME).replace(folder / KEPT_EMBEDDING_NAME)
        os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns + 1000))
    except OSError as error:
        raise _as_known(error, outputs) from error
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _keep_embedding(folder: Path, embedding: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # to infinity: then it is not indexed
        kept = np.ascontiguousarray(embedding, np.float16)
    with (folder / KEPT_EMBEDDING_NAME).open("wb") as file:
        np.save(file, kept, allow_pickle=False)


def sweep(outputs: Path) -> None:
    """Removes what killed processes left half-written; other running processes keep theirs."""
    for folder in (outputs / WRITING_DIR).glob("*-*"):
        pid = folder.name.split("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def remove_old(outputs: Path, keep_days: float) -> int:
    """Removes result folders older than `keep_days`; returns how many."""
    limit = time.time() - keep_days * 86_400
    removed = 0
    for entry in result_folders(outputs):
        # Removed by another process meanwhile, or not ours to remove.
        with contextlib.suppress(OSError):
            if entry.stat(follow_symlinks=False).st_mtime < limit:
                discard(Path(entry.path))
                removed += 1
    return removed


def remove_excess(outputs: Path, max_bytes: int) -> int:
    """Removes the oldest result folders until all together hold at most `max_bytes`."""
    folders = []
    for entry in result_folders(outputs):
        with contextlib.suppress(OSError):  # removed by another process meanwhile
            folder = Path(entry.path)
            size = sum(item.stat().st_size for item in folder.iterdir())
            folders.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in folders)
    removed = 0
    for _, size, folder in sorted(folders):
        if total <= max_bytes:
            break
        with contextlib.suppress(OSError):
            discard(folder)
            removed += 1
        total -= size
    return removed


def discard(folder: Path) -> None:
    """Removes one result folder in one step as seen from outside: renamed first, then deleted."""
    removed_folder = folder.parent / WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
    removed_folder.parent.mkdir(exist_ok=True)
    folder.rename(removed_folder)
    shutil.rmtree(removed_folder, ignore_errors=True)


def _claim(writing: Path, wanted: Path) -> Path:
    """Renames to the first free name. rename(2) onto a folder that holds files fails: no race."""
    number = 1
    while True:
        target = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            writing.rename(target)
            return target
        except OSError as error:
            # Linux says ENOTEMPTY or EEXIST; Windows EACCES for an existing folder.
            if not target.exists():
                raise
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
                raise
        number += 1


def _write_wav(path: Path, samples: np.ndarray) -> None:
    # The standard library's writer: a full disk stays an OSError, which libsndfile would hide.
    with path.open("wb") as file, wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE_HZ)
        wav.setnframes(len(samples))
        # In pieces: each conversion makes copies, and an hour has 230 MB.
        for start in range(0, len(samples), WAV_SAMPLES):
            piece = to_pcm16(samples[start : start + WAV_SAMPLES])
            wav.writeframesraw(piece.astype("<i2", copy=False).tobytes())


def _as_known(error: OSError, outputs: Path) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(free_mb=_free_mb(outputs))
    return OutputError(path=outputs.name, problem=error.strerror or "I/O error")


def _free_mb(path: Path) -> float:
    try:
        return shutil.disk_usage(path).free / 1e6
    except OSError:
        return 0.0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
