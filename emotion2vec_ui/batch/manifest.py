"""What is to be recognised: a folder, a pattern or a manifest, as a stream of files."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from emotion2vec_ui.audio.load import SUFFIXES
from emotion2vec_ui.errors import NoRecordings
from emotion2vec_ui.records import manifests
from emotion2vec_ui.texts import Phrase

MANIFEST_SUFFIX = ".csv"


@dataclass(frozen=True)
class Found:
    """A file to recognise.

    Attributes:
        name: relative to the root with `/`, as it stands in the table; it may hold bytes that are
            no text, as `os.fsdecode` gives them.
        bytes: its size; -1 where it could not be asked.
        modified_ns: when it was last written, in ns since 1970; 0 where it could not be asked.
    """

    name: str
    bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Selection:
    """What was given.

    Attributes:
        root: the folder that names are relative to: the one given, a pattern's part before its
            first wildcard, a manifest's own.
        names: every name, in order; a manifest may have one twice. It is called with what to do
            about a folder that cannot be read.
    """

    root: Path
    names: Callable[[Callable[[OSError], None]], Iterator[str]]

    def files(self, on_unreadable: Callable[[OSError], None]) -> Iterator[Found]:
        """Every file with its size and time; nothing that is no file, such as a pipe.

        A name in a manifest that leads nowhere is a file without size.
        """
        for name in self.names(on_unreadable):
            try:
                status = os.stat(self.root / name)
            except OSError:
                yield Found(name, -1, 0)
                continue
            if stat.S_ISREG(status.st_mode):
                yield Found(name, status.st_size, status.st_mtime_ns)


def select(given: str, *, path_column: str = "path", any_columns: bool = False) -> Selection:
    """Tells what was given: a folder, a manifest, a single recording or a pattern.

    Args:
        given: on the command line.
        path_column: of a manifest.
        any_columns: whether a manifest may have columns that no command knows.

    Raises:
        NoRecordings: there is no such thing, or the folder cannot be read.
        ManifestError: it cannot be read, or has other columns.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            raise _unreadable(given, error) from error
        return Selection(path.resolve(), lambda on_unreadable: _walk(path, on_unreadable))
    if path.is_file():
        root = path.parent.resolve()
        if path.suffix.lower() != MANIFEST_SUFFIX:
            return Selection(root, lambda _: iter([path.name]))
        allowed = None if any_columns else manifests.KNOWN_COLUMNS

        def listed() -> Iterator[str]:
            for row in manifests.read(path, (path_column,), allowed=allowed):
                if row[path_column]:
                    yield tidy(row[path_column], root)

        next(listed(), None)  # a wrong header is told before anything else happens
        return Selection(root, lambda _: listed())
    if not glob.has_magic(given):
        raise NoRecordings(name=given, problem=Phrase("batch.no_such_input"))
    root = _fixed_part(path)
    if not root.is_dir():
        raise NoRecordings(name=given, problem=Phrase("batch.no_such_folder", path=root))
    pattern = str(path.relative_to(root))
    return Selection(
        root.resolve(),
        # A pattern may name what is no recording: all that it names is tried.
        lambda _: (
            PurePath(name).as_posix()
            for name in sorted(glob.iglob(pattern, root_dir=root, recursive=True))
        ),
    )


def _walk(top: Path, on_unreadable: Callable[[OSError], None]) -> Iterator[str]:
    """Recordings below a folder, by their endings, in order; hidden files and folders are none."""
    for folder, folders, names in os.walk(top, onerror=on_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(folder, top)
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield name if inside == "." else PurePath(inside, name).as_posix()


def tidy(name: str, root: Path) -> str:
    """One spelling for each file: a name in the manifest's folder is relative, others are not."""
    whole = os.path.normpath(root / name)
    inside = os.path.relpath(whole, root)
    return PurePath(whole if inside.startswith("..") else inside).as_posix()


def _fixed_part(pattern: Path) -> Path:
    """The folder before the first wildcard."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _unreadable(given: str, error: OSError) -> NoRecordings:
    problem = Phrase("batch.folder_unreadable", detail=error.strerror or "I/O error")
    return NoRecordings(name=given, problem=problem)
