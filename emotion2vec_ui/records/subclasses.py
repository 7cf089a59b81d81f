"""Sets of sub-classes as they are kept: `subclasses/<name>/<version>/` in the outputs folder.

A version is a card (`card.json`) and the head (`head.safetensors`); nothing in it is code. It is
complete or absent, and never changed: training again adds a version. `current` names the one that
is used; it can go back to an older one. Like the results, a folder is the truth and may be copied
to another machine. What belongs to one model's weights is refused for any other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from emotion2vec_ui.errors import (
    DiskFull,
    OutputError,
    SubclassDamaged,
    SubclassNotFound,
    SubclassOfOtherModel,
    SubclassRefused,
)
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.subclass_head import Head
from emotion2vec_ui.records.adapters import adapter
from emotion2vec_ui.texts import Phrase

FORMAT = "emotion2vec_ui.subclass/1"

FOLDER_NAME = "subclasses"
CARD_NAME = "card.json"
HEAD_NAME = "head.safetensors"
CURRENT_NAME = "current"

NAME = re.compile(r"\w[\w-]{0,39}")
"""Letters of any script, digits, "_" and "-": safe as a folder, in an address, in a CSV."""

MAX_LABEL_CHARACTERS = 40

Gap = Literal["few_samples", "few_speakers", "one_gender", "unequal", "poor_quality"]
MoreSamples = Literal["would_help", "would_not_help", "unclear"]
Reason = Literal["no_speaker", "copy", "near_copy", "unusable"]


@dataclass(frozen=True)
class Durations:
    """Lengths of recordings, in s."""

    min: float
    """Of the shortest, in s."""
    median: float
    """Median, in s."""
    max: float
    """Of the longest, in s."""
    total: float
    """All together, in s."""


@dataclass(frozen=True)
class Coverage:
    """What the samples of one sub-class cover."""

    samples: int
    """Recordings that are used."""
    speakers: int
    """Different ones."""
    genders: dict[str, int]
    """Samples by gender as the manifest has it; "unknown" where it has none."""
    ages: dict[str, int]
    """Samples by age: ten years together, such as "30-39"; else as the manifest has it; "unknown"
    where it has none."""
    duration_s: Durations
    """Of the samples, in s."""
    quality: dict[str, int]
    """Samples by the verdict on the recording: good, fair, poor."""
    copies: int
    """Recordings left out because their bytes are those of a sample."""
    near_copies: int
    """Recordings left out because their embedding is that of a sample."""
    gaps: tuple[Gap, ...]
    """What is thin: few_samples, few_speakers, one_gender, unequal (less than a third of the
    largest sub-class), poor_quality (more than a third of the recordings)."""


@dataclass(frozen=True)
class LeftOut:
    """A line of the manifest that is not used."""

    path: str
    """As the manifest has it."""
    reason: Reason
    """no_speaker, copy, near_copy or unusable."""
    detail: str
    """What it is a copy of, or the error's code."""


@dataclass(frozen=True)
class Judged:
    """How one kind of head does on speakers that it was not trained on."""

    uar: float
    """Unweighted average recall, 0 to 1."""
    uar_interval: tuple[float, float]
    """95 % interval, drawing whole speakers."""


@dataclass(frozen=True)
class Bin:
    """Recordings whose leading sub-class has about the same share, for a reliability diagram."""

    from_share: float
    """Lowest leading share, 0 to 1."""
    to_share: float
    """Highest."""
    samples: int
    """Recordings in it."""
    share: float
    """Mean leading share, each class weighing the same."""
    right: float
    """How often the leader is right, each class weighing the same."""


@dataclass(frozen=True)
class CurvePoint:
    """How well a head does that was trained on a part of the samples."""

    samples: int
    """It was trained on, on average."""
    uar: float
    """On speakers it was not trained on."""


@dataclass(frozen=True)
class NoneRule:
    """When a recording is none of the sub-classes."""

    neighbours: int
    """The distance is the cosine distance to this nearest sample."""
    above: float
    """Further than this is none of them: `quantile` of the samples' distances to those of other
    speakers."""
    quantile: float
    """0 to 1: the share of new speakers' recordings of a trained kind that is kept."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a version of a set of sub-classes is, what it was trained on, and how well it does."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    name: str
    """Of the set."""
    version: int
    """From 1."""
    base: str
    """The emotion that is divided, one of the nine keys."""
    model: str
    """Id of the model whose embeddings it judges."""
    classes: tuple[str, ...]
    """Names of the sub-classes."""
    samples: int
    """Recordings it was trained on."""
    speakers: int
    """Different ones."""
    uar: float
    """Unweighted average recall on speakers that it was not trained on, 0 to 1."""
    uar_interval: tuple[float, float]
    """95 % interval of it, drawing whole speakers."""
    coverage: dict[str, Coverage]
    """Of the samples, by sub-class."""
    small: bool
    """Whether a sub-class has fewer than 200 samples or 5 speakers: every result then says so."""

    format: str = FORMAT
    """Version of this form."""
    created: str
    """Local time, "YYYY-MM-DD HH:MM:SS"."""
    weights_sha256: str
    """Of the model's checkpoint; another model is refused."""
    precision: str
    """In which the model computed the embeddings."""
    licence: str
    """Of the head, as given: what recordings allow; empty where it was not."""
    data_sha256: str
    """Of the samples' hashes and labels: equal for two versions of the same samples."""
    chance: float
    """UAR of guessing: one divided by the number of sub-classes."""
    above_chance: bool
    """Whether the whole interval lies above it: else nothing was shown to be learnt."""
    others: dict[str, Judged]
    """The same figures, on the same folds, of `lda` and `nearest_centroid`."""
    confusion: tuple[tuple[int, ...], ...]
    """Recordings of speakers not trained on: rows truth, columns answer, as `classes`."""
    ece: float
    """Expected calibration error of the leading share, 0 to 1."""
    reliability: tuple[Bin, ...]
    """The reliability diagram behind it."""
    learning_curve: tuple[CurvePoint, ...]
    """By falling number of samples left away."""
    more_samples: MoreSamples
    """What the curve says: would_help, would_not_help, unclear."""
    none: NoneRule
    """When a recording is none of the sub-classes."""
    regularisation: float
    """C of the logistic regression, chosen by speaker."""
    temperature: float
    """Logits are divided by it; fitted by speaker."""
    left_out: tuple[LeftOut, ...]
    """Lines of the manifest that were not used."""


@dataclass(frozen=True)
class Trained:
    """A version that can be used.

    Attributes:
        card: what it is.
        head: what it judges by.
    """

    card: Card
    head: Head

    def require(self, weights_sha256: str, model: str) -> None:
        """Raises SubclassOfOtherModel where it was trained on another model's embeddings."""
        if self.card.weights_sha256 != weights_sha256:
            raise SubclassOfOtherModel(name=self.card.name, trained_on=self.card.model, model=model)


def checked_name(name: str) -> str:
    """The name of a set, in the one form that folders have.

    Raises:
        SubclassRefused: it cannot be one, or is a base emotion's.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if name.lower() in EMOTIONS:
        raise SubclassRefused(problem=Phrase("subclass.name_is_base", name=name))
    if NAME.fullmatch(name) is None:
        raise SubclassRefused(problem=Phrase("subclass.bad_name", name=repr(name)[:60]))
    return name


def to_json(about: Card) -> bytes:
    """The content of card.json, and the API's answer."""
    return adapter(Card).dump_json(about, indent=1) + b"\n"


# --- finding and reading --------------------------------------------------------------------------


def names(outputs: Path) -> list[str]:
    """Every set that has a version, in order."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = sorted(entry.name for entry in os.scandir(outputs / FOLDER_NAME) if entry.is_dir())
        return [name for name in found if NAME.fullmatch(name) and versions(outputs, name)]
    return []


def versions(outputs: Path, name: str) -> list[int]:
    """Versions of a set, rising; none where there is no such set."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        entries = os.scandir(outputs / FOLDER_NAME / name)
        return sorted(int(one.name) for one in entries if _is_version(one.name) and one.is_dir())
    return []


def current(outputs: Path, name: str) -> int:
    """The version that is used.

    Raises:
        SubclassNotFound: there is no such set.
    """
    there = versions(outputs, name) if NAME.fullmatch(name) else []
    if not there:
        raise _not_found(outputs, name)
    with contextlib.suppress(OSError, ValueError):
        chosen = int((outputs / FOLDER_NAME / name / CURRENT_NAME).read_text("utf-8"))
        if chosen in there:
            return chosen
    return there[-1]


def card(outputs: Path, name: str, version: int | None = None) -> Card:
    """The card of a version; of the current one where none is named.

    Raises:
        SubclassNotFound: there is no such set or version.
        SubclassDamaged: its card cannot be read.
    """
    folder = _find(outputs, name, version)
    try:
        read = adapter(Card).validate_json((folder / CARD_NAME).read_bytes())
        if read.format != FORMAT:
            raise ValueError(f"format is {read.format!r}, expected {FORMAT!r}")
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    # A folder that was copied under another name or number is what its place says.
    return replace(read, name=name, version=int(folder.name))


def load(outputs: Path, name: str, version: int | None = None) -> Trained:
    """A version, ready to use; the current one where none is named.

    Raises:
        SubclassNotFound: there is no such set or version.
        SubclassDamaged: its files cannot be used.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    about = card(outputs, name, version)
    folder = _find(outputs, name, about.version)
    try:
        arrays = load_file(folder / HEAD_NAME)
        head = Head(
            classes=about.classes,
            mean=arrays["mean"],
            scale=arrays["scale"],
            weights=arrays["weights"],
            bias=arrays["bias"],
            temperature=about.temperature,
            samples=arrays["samples"].astype(np.float32),
            neighbours=about.none.neighbours,
            none_above=about.none.above,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return Trained(about, head)


def _find(outputs: Path, name: str, version: int | None) -> Path:
    newest = current(outputs, name)
    if version is not None and version not in versions(outputs, name):
        raise _not_found(outputs, f"{name} {version}")
    return outputs / FOLDER_NAME / name / str(newest if version is None else version)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and not name.startswith("0")


def _not_found(outputs: Path, name: str) -> SubclassNotFound:
    return SubclassNotFound(name=name[:100], known=", ".join(names(outputs)) or "-")


def _damaged(folder: Path, error: Exception) -> SubclassDamaged:
    problem = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
    return SubclassDamaged(name=f"{folder.parent.name} {folder.name}", problem=problem or "?")


# --- writing --------------------------------------------------------------------------------------


def save(outputs: Path, trained: Trained) -> Card:
    """Writes a new version and makes it the current one; returns its card, with its number.

    Raises:
        DiskFull, OutputError: and nothing was left behind.
    """
    from safetensors.numpy import save_file

    head = trained.head
    arrays = {
        "mean": head.mean,
        "scale": head.scale,
        "weights": head.weights,
        "bias": head.bias,
        # Only distances are asked of them: half the precision moves a cosine by 1e-4 at most.
        "samples": head.samples.astype(np.float16),
    }
    name = trained.card.name
    with _writing(outputs, name) as (folder, writing):
        save_file(
            {key: np.ascontiguousarray(value) for key, value in arrays.items()},
            writing / HEAD_NAME,
            metadata={"format": FORMAT, "weights_sha256": trained.card.weights_sha256},
        )
        number = max(versions(outputs, name), default=0) + 1
        while True:
            written = replace(trained.card, version=number)
            (writing / CARD_NAME).write_bytes(to_json(written))
            try:
                writing.rename(folder / str(number))
                break
            except OSError as error:
                # Taken meanwhile by another process; see records/store.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
                    raise
                if not (folder / str(number)).exists():
                    raise
            number += 1
    make_current(outputs, name, number)
    return written


def make_current(outputs: Path, name: str, version: int) -> None:
    """Has a version be used from now on.

    Raises:
        SubclassNotFound: there is no such version.
        DiskFull, OutputError: it cannot be written; the version before stays in use.
    """
    _find(outputs, name, version)
    with _writing(outputs, name) as (folder, writing):
        (writing / CURRENT_NAME).write_text(f"{version}\n", "utf-8")
        os.replace(writing / CURRENT_NAME, folder / CURRENT_NAME)


def remove(outputs: Path, name: str, version: int | None = None) -> list[int]:
    """Removes a version, or without one all of them; returns which.

    Raises:
        SubclassNotFound: there is no such set or version.
        OutputError: it cannot be removed.
    """
    _find(outputs, name, version)
    folder = outputs / FOLDER_NAME / name
    removed = versions(outputs, name) if version is None else [version]
    everything = removed == versions(outputs, name)
    target = folder if everything else folder / str(removed[0])
    # Renamed first: absent in one step, also when the process is killed meanwhile.
    gone = outputs / FOLDER_NAME / f".removed-{os.getpid()}-{uuid.uuid4().hex}"
    try:
        target.rename(gone)
    except OSError as error:
        raise OutputError(path=target.name, problem=error.strerror or "I/O error") from error
    shutil.rmtree(gone, ignore_errors=True)
    return removed


@contextlib.contextmanager
def _writing(outputs: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """The set's folder, and a folder beside its versions to write in; the latter is removed.

    Raises:
        DiskFull, OutputError: something could not be written.
    """
    folder = outputs / FOLDER_NAME / name
    writing = folder / f".writing-{os.getpid()}-{uuid.uuid4().hex}"
    try:
        writing.mkdir(parents=True)
        yield folder, writing
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(free_mb=0.0) from error
        raise OutputError(path=FOLDER_NAME, problem=error.strerror or "I/O error") from error
    finally:
        shutil.rmtree(writing, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing came of a first version
