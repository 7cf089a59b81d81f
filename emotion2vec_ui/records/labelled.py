"""Labelled recordings to judge a model by, in the forms that corpora come in.

* CSV with a header (`manifests`);
* JSON lines of EmoBox (https://github.com/emo-box/EmoBox): `wav`, `emo`, `dataset`, with the
  `label_map.json` of the corpus where it stands beside or above them;
* audformat (https://audeering.github.io/audformat): a folder with `db.yaml`;
* a folder of audio as Hugging Face's `datasets` reads it: `metadata.csv` or `metadata.jsonl` with
  `file_name`, or folders named after classes.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emotion2vec_ui.audio.load import SUFFIXES
from emotion2vec_ui.errors import ManifestError, PackageMissing
from emotion2vec_ui.records import emotion_names, manifests
from emotion2vec_ui.texts import Phrase

Form = Literal["csv", "emobox", "audformat", "audiofolder"]

AUDFORMAT_HEADER = "db.yaml"
METADATA = ("metadata.csv", "metadata.jsonl")
LABEL_MAP = "label_map.json"

GENDERS = {"f": "female", "m": "male", "w": "female"}
"""Abbreviations in corpora: English, and German (weiblich)."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None: the usual name of the form.

    Attributes:
        path: of the recording.
        label: the emotion.
        speaker, gender, language, corpus: used where they are there.
        any_columns: whether a CSV may have columns that no command knows.
        tables: of audformat, those that hold the labels; all where none is named.
    """

    path: str | None = None
    label: str | None = None
    speaker: str = "speaker"
    gender: str = "gender"
    language: str = "language"
    corpus: str = "corpus"
    any_columns: bool = False
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledClip:
    """One recording and what is known of it; empty where it is not.

    Attributes:
        path: of the file.
        label: as written.
        truth: the model's emotion that it stands for.
        speaker, gender, language, corpus: as written, but for abbreviations of the gender.
    """

    path: Path
    label: str
    truth: str
    speaker: str
    gender: str
    language: str
    corpus: str


@dataclass(frozen=True)
class LabelSet:
    """All labelled recordings that can be judged, and what cannot.

    Attributes:
        form: that they came in.
        root: the folder that most paths lie in.
        clips: each file once.
        names: how many recordings have which label, and the emotion it stands for.
        left_out: how many have which label that stands for no emotion of the model's.
        repeated: lines that named a file again, with the same label.
        segments: labels of parts of longer files, which are not judged.
    """

    form: Form
    root: Path
    clips: tuple[LabelledClip, ...]
    names: Mapping[str, tuple[str, int]]
    left_out: Mapping[str, int]
    repeated: int
    segments: int


@dataclass(frozen=True)
class _Line:
    """One labelled recording as a form gives it, the label as written."""

    path: Path
    label: str
    speaker: str = ""
    gender: str = ""
    language: str = ""
    corpus: str = ""


def read(
    given: Path, columns: Columns, names: Mapping[str, str], *, root: Path | None = None
) -> LabelSet:
    """Reads labelled recordings; the form is told by what is there.

    Args:
        given: a file or a folder.
        columns: which column holds what.
        names: emotion by label, besides `emotion_names.NAMES`.
        root: the folder that paths are relative to, where it is not that of the file.

    Raises:
        ManifestError: it cannot be read, is none of the forms, or lacks a column.
        PackageMissing: audformat is not installed.
    """
    segments = 0
    form: Form
    if given.is_dir() and (given / AUDFORMAT_HEADER).is_file():
        given = given / AUDFORMAT_HEADER
    if given.name == AUDFORMAT_HEADER:
        form, folder = "audformat", root or given.parent
        lines, segments = _audformat(given, folder, columns)
    elif given.is_dir():
        form, folder = "audiofolder", root or given
        lines = list(_audio_folder(given, folder, columns))
    elif not given.is_file():
        raise ManifestError(name=given, problem=Phrase("manifest.not_there"))
    elif given.suffix.lower() == ".jsonl":
        rows = list(_json_lines(given))
        if "file_name" in rows[0]:
            form, folder = "audiofolder", root or given.parent
            lines = list(_metadata(given, rows, folder, columns))
        else:
            form = "emobox"
            folder = root or _emobox_root(given, str(rows[0].get(columns.path or "wav") or ""))
            lines = list(_emobox(given, rows, folder, columns))
    elif given.suffix.lower() == ".csv":
        form, folder = "csv", root or given.parent
        lines = list(_csv(given, folder, columns))
    else:
        raise ManifestError(name=given, problem=Phrase("manifest.no_form"))
    return _label_set(given, form, folder, lines, names, segments)


def _label_set(
    given: Path,
    form: Form,
    root: Path,
    lines: Iterable[_Line],
    names: Mapping[str, str],
    segments: int,
) -> LabelSet:
    clips: dict[str, LabelledClip] = {}
    used: dict[str, tuple[str, int]] = {}
    left_out: Counter[str] = Counter()
    repeated = 0
    for line in lines:
        truth = emotion_names.counterpart(line.label, names)
        if truth is None:
            left_out[line.label] += 1
            continue
        key = os.path.normpath(line.path)
        known = clips.get(key)
        if known is not None:
            if known.truth != truth:
                problem = Phrase(
                    "manifest.two_labels", file=line.path.name, one=known.label, other=line.label
                )
                raise ManifestError(name=given, problem=problem)
            repeated += 1
            continue
        used[line.label] = (truth, used.get(line.label, (truth, 0))[1] + 1)
        clips[key] = LabelledClip(
            path=line.path,
            label=line.label,
            truth=truth,
            speaker=line.speaker,
            gender=GENDERS.get(line.gender.lower(), line.gender.lower()),
            language=line.language,
            corpus=line.corpus,
        )
    return LabelSet(
        form=form,
        root=root,
        clips=tuple(clips.values()),
        names=dict(sorted(used.items(), key=lambda item: (item[1][0], item[0]))),
        left_out=dict(left_out.most_common()),
        repeated=repeated,
        segments=segments,
    )


# --- CSV ------------------------------------------------------------------------------------------


def _csv(path: Path, root: Path, columns: Columns) -> Iterator[_Line]:
    paths, label = columns.path or "path", columns.label or "emotion"
    others = (columns.speaker, columns.gender, columns.language, columns.corpus)
    allowed = None if columns.any_columns else (*others, *manifests.KNOWN_COLUMNS)
    for row in manifests.read(path, (paths, label), allowed=allowed):
        if row[paths]:
            yield _line(row, root / row[paths], row[label], columns)


def _line(row: Mapping[str, Any], path: Path, label: str, columns: Columns) -> _Line:
    def cell(name: str) -> str:
        value = row.get(name)
        return "" if value is None else str(value).strip()

    return _Line(
        path=path,
        label=label,
        speaker=cell(columns.speaker),
        gender=cell(columns.gender),
        language=cell(columns.language),
        corpus=cell(columns.corpus),
    )


# --- EmoBox ---------------------------------------------------------------------------------------


def _emobox(
    path: Path, rows: Sequence[Mapping[str, Any]], root: Path, columns: Columns
) -> Iterator[_Line]:
    names = _emobox_names(path)
    for row in rows:
        label = str(_required(path, row, columns.label or "emo"))
        wav = root / str(_required(path, row, columns.path or "wav"))
        row = {columns.corpus: row.get("dataset"), **row}
        yield _line(row, wav, names.get(label, label), columns)


def _emobox_names(path: Path) -> dict[str, str]:
    """The corpus's own map of labels: beside the lines, or above them where they are a fold's."""
    for folder in (path.parent, path.parent.parent):
        try:
            found = json.loads((folder / LABEL_MAP).read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problem = Phrase("manifest.unreadable", detail=str(error))
            raise ManifestError(name=folder / LABEL_MAP, problem=problem) from error
        return {str(label): str(name) for label, name in found.items()}
    return {}


def _emobox_root(path: Path, first: str) -> Path:
    """The folder that paths are relative to: EmoBox's is that above `data/<corpus>/<fold>`."""
    for folder in path.resolve().parents:
        if (folder / first).is_file():
            return folder
    return path.parent


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every object of a file of JSON lines; at least one.

    Raises:
        ManifestError: a line is no object, or there is none.
    """
    number, some = 0, False
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"{type(row).__name__}, expected an object")
                some = True
                yield row
    except (OSError, ValueError) as error:
        problem = Phrase("manifest.bad_line", line=number, detail=str(error))
        raise ManifestError(name=path, problem=problem) from error
    if not some:
        raise ManifestError(name=path, problem=Phrase("manifest.empty"))


def _required(path: Path, row: Mapping[str, Any], column: str) -> Any:
    if row.get(column) is None:
        problem = Phrase("manifest.no_column", column=column, found=", ".join(row) or "-")
        raise ManifestError(name=path, problem=problem)
    return row[column]


# --- Hugging Face ---------------------------------------------------------------------------------


def _audio_folder(folder: Path, root: Path, columns: Columns) -> Iterator[_Line]:
    """Lines of every metadata file below the folder; without any, the classes are the folders."""
    found = sorted(path for name in METADATA for path in folder.rglob(name))
    for path in found:
        here = path.parent if root == folder else root
        is_csv = path.suffix == ".csv"
        rows = manifests.read(path, ("file_name",)) if is_csv else _json_lines(path)
        yield from _metadata(path, rows, here, columns)
    if found:
        return
    some = False
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in SUFFIXES and len(inside.parts) > 1 and not hidden:
            some = True
            yield _Line(path, path.parent.name)
    if not some:
        raise ManifestError(name=folder, problem=Phrase("manifest.no_form"))


def _metadata(
    path: Path, rows: Iterable[Mapping[str, Any]], root: Path, columns: Columns
) -> Iterator[_Line]:
    for row in rows:
        usual = "emotion" if "emotion" in row else "label"
        label = str(_required(path, row, columns.label or usual)).strip()
        yield _line(row, root / str(_required(path, row, "file_name")), label, columns)


# --- audformat ------------------------------------------------------------------------------------


def _audformat(header: Path, root: Path, columns: Columns) -> tuple[list[_Line], int]:
    """Labels of whole files, and how many there are of parts of files."""
    try:
        import audformat
    except ImportError as error:
        raise PackageMissing(
            package="audformat", install="audformat", purpose=AUDFORMAT_HEADER
        ) from error
    scheme = columns.label or "emotion"
    try:
        database = audformat.Database.load(str(header.parent))
        whole = [name for name, table in database.tables.items() if table.is_filewise]
        wanted = [name for name in columns.tables or whole if name in whole]
        labels = _by_file(database, scheme, wanted)
        others = [
            _by_file(database, name, whole)
            for name in (columns.speaker, columns.gender, columns.language, columns.corpus)
        ]
        parts = [name for name in columns.tables or database.tables if name not in whole]
        segments = len(database.get(scheme, tables=parts)) if parts else 0
    # Any: damaged tables raise what pandas and PyYAML raise; a wrong table name, audformat itself.
    except Exception as error:
        problem = Phrase("manifest.unreadable", detail=str(error).partition("\n")[0])
        raise ManifestError(name=header, problem=problem) from error
    if not labels:
        found = ", ".join(sorted({*database.schemes, *database.tables})) or "-"
        problem = Phrase("manifest.no_file_labels", column=scheme, found=found, segments=segments)
        raise ManifestError(name=header, problem=problem)
    (language,) = database.languages if len(database.languages) == 1 else ("",)
    lines = []
    for file, label in labels.items():
        speaker, gender, spoken, corpus = (values.get(file, "") for values in others)
        lines.append(
            _Line(root / file, label, speaker, gender, spoken or language, corpus or database.name)
        )
    return lines, segments


def _by_file(database: Any, scheme: str, tables: list[str]) -> dict[str, str]:
    """A scheme's label of each whole file; those without one are left out.

    One scheme at a time and tables of whole files only: asked for both at once, audformat 1.4.3
    gives labels of other files.
    """
    frame = database.get(scheme, tables=tables) if tables else None
    if frame is None or frame.empty:
        return {}
    values = frame.iloc[:, 0].dropna()
    return {str(file): str(label) for file, label in values.items()}
