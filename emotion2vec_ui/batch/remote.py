"""Recordings in S3, Google Cloud Storage or wherever else pyarrow reads: listed and fetched."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from emotion2vec_ui.audio.load import SUFFIXES, Clip, shown_name
from emotion2vec_ui.batch import ahead
from emotion2vec_ui.batch.ahead import Read
from emotion2vec_ui.batch.journal import Todo
from emotion2vec_ui.batch.manifest import Found
from emotion2vec_ui.errors import AudioUnreadable, NoRecordings
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem


def is_address(given: str) -> bool:
    """Whether this is `s3://bucket/folder` or the like, and no path."""
    return "://" in given


@dataclass(frozen=True)
class RemoteSelection:
    """All recordings below an address, as `manifest.Selection` has those below a folder.

    Attributes:
        root: the address that names are relative to.
    """

    root: str

    def files(self, on_unreadable: Callable[[OSError], None]) -> Iterator[Found]:
        """Every recording, by the endings of names; hidden files and folders are none.

        Args:
            on_unreadable: called with why a folder cannot be listed.
        """
        filesystem, top = _opened(self.root)
        yield from _walk(filesystem, top, top, on_unreadable)


def select(address: str) -> RemoteSelection:
    """What an address stands for.

    Raises:
        NoRecordings: nothing reads it, or there is no such folder.
    """
    from pyarrow.fs import FileType

    try:
        filesystem, top = _opened(address)
        found = filesystem.get_file_info(top)
    except (OSError, ValueError) as error:  # pyarrow.ArrowInvalid is a ValueError
        problem = Phrase("batch.folder_unreadable", detail=first_line(error))
        raise NoRecordings(name=address, problem=problem) from error
    if found.type != FileType.Directory:
        raise NoRecordings(name=address, problem=Phrase("batch.no_such_input"))
    return RemoteSelection(address)


def read(root: str, todo: Todo, decode: Callable[[Path, str], Clip]) -> Read:
    """Reads and decodes one file, fetched first where `root` is an address.

    Args:
        root: the folder or address that names are relative to.
        todo: the file.
        decode: path and name in, Clip out.
    """
    if not is_address(root):
        return ahead.read(Path(root), todo, decode)
    name = todo.file.name
    with tempfile.TemporaryDirectory() as folder:
        here = PurePosixPath(name).name
        try:
            _fetch(root, name, Path(folder, here))
        except OSError as error:
            problem = AudioUnreadable(name=shown_name(name), problem=first_line(error))
            return Read(todo.file, error=problem)
        fetched = replace(todo, file=replace(todo.file, name=here))
        one = ahead.read(Path(folder), fetched, decode)
    return replace(one, file=replace(one.file, name=name))


@functools.cache
def _opened(address: str) -> tuple[FileSystem, str]:
    """The file system of an address, and the path in it; credentials are found as pyarrow does."""
    from pyarrow.fs import FileSystem

    filesystem, top = FileSystem.from_uri(address)
    return filesystem, top.rstrip("/")


def _walk(
    filesystem: FileSystem, top: str, folder: str, on_unreadable: Callable[[OSError], None]
) -> Iterator[Found]:
    """One folder at a time, in the order of `manifest`: its files, then the folders in it."""
    from pyarrow.fs import FileSelector, FileType

    try:
        inside = filesystem.get_file_info(FileSelector(folder))
    except OSError as error:
        on_unreadable(OSError(error.errno, first_line(error), folder))
        return
    inside = sorted(
        (one for one in inside if not one.base_name.startswith(".")), key=lambda one: one.base_name
    )
    for one in inside:
        if one.type == FileType.File and os.path.splitext(one.base_name)[1].lower() in SUFFIXES:
            yield Found(one.path.removeprefix(top).lstrip("/"), one.size, _modified_ns(one))
    for one in inside:
        if one.type == FileType.Directory:
            yield from _walk(filesystem, top, one.path, on_unreadable)


def _fetch(root: str, name: str, path: Path) -> None:
    """Copies a file here, with the time it had before it was read.

    Raises:
        OSError: it cannot be read.
    """
    filesystem, top = _opened(root)
    source = f"{top}/{name}"
    modified_ns = _modified_ns(filesystem.get_file_info(source))
    with filesystem.open_input_stream(source) as stream, path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    os.utime(path, ns=(modified_ns, modified_ns))


def _modified_ns(found: FileInfo) -> int:
    return found.mtime_ns or 0


def first_line(error: Exception) -> str:
    """What a library says of an error, without its trace."""
    return str(error).strip().partition("\n")[0]
