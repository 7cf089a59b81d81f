"""Lists of recordings: CSV in UTF-8 with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion2vec_ui.errors import ManifestError
from emotion2vec_ui.texts import Phrase

KNOWN_COLUMNS = ("label", "emotion", "speaker", "gender", "age", "language", "corpus")
"""What any command reads from a manifest besides the path: one list serves them all."""


def read(
    path: Path, required: Sequence[str], *, allowed: Sequence[str] | None = None
) -> Iterator[dict[str, str]]:
    """Each line by its columns, cells stripped, a missing cell empty; read as it is asked for.

    Args:
        path: of the manifest.
        required: columns that there must be.
        allowed: what other columns there may be; None: any.

    Raises:
        ManifestError: it cannot be read, lacks a column, or has one that is not allowed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            found = ", ".join(columns) or "-"
            for column in required:
                if column not in columns:
                    problem = Phrase("manifest.no_column", column=column, found=found)
                    raise ManifestError(name=path, problem=problem)
            if allowed is not None:
                unknown = [one for one in columns if one not in (*required, *allowed)]
                if unknown:
                    problem = Phrase(
                        "manifest.unknown_columns",
                        unknown=", ".join(unknown),
                        known=", ".join((*required, *allowed)),
                    )
                    raise ManifestError(name=path, problem=problem)
            for row in reader:
                yield {column: (row[column] or "").strip() for column in columns}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = Phrase("manifest.unreadable", detail=str(error))
        raise ManifestError(name=path, problem=problem) from error
