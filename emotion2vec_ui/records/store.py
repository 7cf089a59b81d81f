"""One recognition as it is kept: the report, and its folder in `outputs/`.

A folder is complete or absent. It is written under `outputs/.writing/` and then renamed, which the
file system does in one step: also when the process is killed, also with other processes writing
beside it. Nothing is ever overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
import wave
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from emotion2vec_ui.audio.load import Source, to_pcm16
from emotion2vec_ui.errors import DiskFull, OutputError
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

SCHEMA = "emotion2vec_ui.result/1"
WRITING_DIR = ".writing"
RESULT_NAME = "result.json"
AUDIO_NAME = "processed_audio.wav"
EMBEDDING_NAME = "embedding.npy"
FOLDER_PREFIX = "outputs_"
RESULT_FOLDER = re.compile(r"outputs_[0-9]{8}_[0-9]{6}(_[0-9]{1,9})?")
"""A name is matched against this and never resolved: no "..", no link, nothing else in there."""

DECIMALS = 6
"""Nine scores then sum to 1 within 4.5e-6; the contract allows 1e-5."""


@dataclass(frozen=True)
class ModelFacts:
    """Which model answered, and how it was run.

    Attributes:
        id: hub id, directory name or "compact".
        origin: where its files came from.
        revision: of the hub, where known.
        weights_sha256: of the checkpoint, where known.
        device, precision: such as "cuda:0" and "bf16".
    """

    id: str
    origin: str
    revision: str | None
    weights_sha256: str | None
    device: str
    precision: str


@dataclass(frozen=True)
class Timing:
    """Seconds each step took; `model_load_s` is 0 for a request that did not wait for the model."""

    decode_s: float
    model_load_s: float
    inference_s: float
    total_s: float


@dataclass(frozen=True)
class EmbeddingFacts:
    """What embedding.npy holds.

    Attributes:
        file: its name in the folder.
        shape: (dim,) or (frames, dim).
        dtype: always "float32".
        norm: L2 norm of the utterance embedding.
        norm_verdict: "normal", "low", "high" or "unknown", against `norm_range`.
        norm_range: what is normal for this model, or None where that was not measured.
        article_range: what the guide of the original WebUI gives.
        article_verdict: against `article_range`.
    """

    file: str
    shape: tuple[int, ...]
    dtype: str
    norm: float
    norm_verdict: str
    norm_range: tuple[float, float] | None
    article_range: tuple[float, float]
    article_verdict: str


@dataclass(frozen=True)
class Report:
    """Everything result.json holds; the fields of `to_dict` are its keys, in its order.

    Attributes:
        emotion, confidence: the utterance's leader and its score, in both granularities.
        scores: the nine utterance scores by English name; they sum to 1.
        granularity: "utterance" or "frame".
        timestamp: local time, "YYYY-MM-DD HH:MM:SS".
        frame_scores: float (frames, labels) in the order of `labels`; frame granularity only.
        time: what frame granularity adds: `weighted`, `segments`, `utterances`.
    """

    emotion: str
    confidence: float
    scores: dict[str, float]
    granularity: str
    timestamp: str
    source: Source
    model: ModelFacts
    reliability: dict[str, Any]
    distribution: dict[str, Any]
    quality: dict[str, Any]
    timing: Timing
    embedding: EmbeddingFacts | None
    warnings: list[dict[str, Any]]
    log: list[str]
    labels: tuple[str, ...] = ()
    frame_scores: np.ndarray | None = None
    time: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: contract section 3."""
        result: dict[str, Any] = {
            "emotion": self.emotion,
            "confidence": round(self.confidence, DECIMALS),
            "scores": _tidy(self.scores),
            "granularity": self.granularity,
            "timestamp": self.timestamp,
            "schema": SCHEMA,
        }
        if self.frame_scores is not None:
            result["scores"] = np.round(self.frame_scores, DECIMALS).tolist()
            result["labels"] = list(self.labels)
            result["frame_rate"] = 50
            result["utterance_scores"] = _tidy(self.scores)
            result |= _tidy(self.time)
        result |= {
            "source": asdict(self.source),
            "model": asdict(self.model),
            "reliability": self.reliability,
            "distribution": self.distribution,
            "quality": _tidy(self.quality),
            "timing": _tidy(asdict(self.timing)),
            "embedding": None if self.embedding is None else asdict(self.embedding),
            "warnings": self.warnings,
            "log": self.log,
        }
        return result


def with_urls(report: dict[str, Any], folder_name: str, root_path: str = "") -> dict[str, Any]:
    """A report with the addresses of its files below `root_path`: contract section 5."""
    base = f"{root_path.rstrip('/')}/file=outputs/{folder_name}"
    has_embedding = report.get("embedding") is not None
    return report | {
        "output_dir": f"outputs/{folder_name}",
        "result_url": f"{base}/{RESULT_NAME}",
        "audio_url": f"{base}/{AUDIO_NAME}",
        "embedding_url": f"{base}/{EMBEDDING_NAME}" if has_embedding else None,
    }


def now_text(moment: datetime | None = None) -> str:
    """Local time as the contract writes it."""
    return (moment or datetime.now()).strftime("%Y-%m-%d %H:%M:%S")


def save(
    outputs: Path, report: dict[str, Any], samples: np.ndarray, embedding: np.ndarray | None
) -> Path:
    """Writes one result folder.

    Args:
        outputs: the folder of all results; made when absent.
        report: content of result.json; its `timestamp` names the folder.
        samples: float32 (n,), 16 kHz mono: what the model heard.
        embedding: float32 (dim,) or (frames, dim), or None.

    Returns:
        The folder, `outputs_YYYYMMDD_HHMMSS` with `_2`, `_3`, ... when the second is taken.

    Raises:
        DiskFull: and nothing was left behind.
        OutputError: the folder cannot be written.
    """
    stamp = report["timestamp"].replace("-", "").replace(":", "").replace(" ", "_")
    writing = outputs / WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        writing.mkdir(parents=True)
        text = json.dumps(report, ensure_ascii=False, indent=_indent(report), allow_nan=False)
        (writing / RESULT_NAME).write_text(text + "\n", encoding="utf-8")
        _write_wav(writing / AUDIO_NAME, samples)
        if embedding is not None:
            with (writing / EMBEDDING_NAME).open("wb") as file:
                np.save(file, np.ascontiguousarray(embedding, np.float32), allow_pickle=False)
        return _claim(writing, outputs / f"{FOLDER_PREFIX}{stamp}")
    except OSError as error:
        shutil.rmtree(writing, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(free_mb=_free_mb(outputs)) from error
        raise OutputError(path=outputs.name, problem=error.strerror or "I/O error") from error
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise


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
    for folder in outputs.glob(f"{FOLDER_PREFIX}*"):
        try:
            if folder.is_dir() and not folder.is_symlink() and folder.stat().st_mtime < limit:
                discard(folder)
                removed += 1
        except OSError:
            continue  # removed by somebody else meanwhile, or not ours to remove
    return removed


def remove_excess(outputs: Path, max_bytes: int) -> int:
    """Removes the oldest result folders until all together hold at most `max_bytes`."""
    folders = []
    for folder in outputs.glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):  # removed by somebody else meanwhile
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
    doomed = folder.parent / WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
    doomed.parent.mkdir(exist_ok=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


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
        wav.writeframes(to_pcm16(samples).astype("<i2", copy=False).tobytes())


def _free_mb(path: Path) -> float:
    try:
        return shutil.disk_usage(path).free / 1e6
    except OSError:
        return 0.0


def _indent(report: dict[str, Any]) -> int | None:
    # An hour of frames would be millions of lines.
    return None if isinstance(report["scores"], list) else 1


def _tidy(value: Any) -> Any:
    """Plain data with its floats cut to `DECIMALS`, so that files can be read by people too."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {name: _tidy(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidy(item) for item in value]
    return value


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
