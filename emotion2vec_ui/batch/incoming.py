"""Takes in the files of a job: names and amounts are checked while they come, one zip is unpacked.

What comes is untrusted. A name is a path below the job's folder or an error; of an archive, nothing
but regular files is unpacked, within the same bounds as files that come one by one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import lzma
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from emotion2vec_ui.audio.load import shown_name
from emotion2vec_ui.errors import (
    DiskFull,
    JobTooLarge,
    NoFiles,
    OutputError,
    UploadTooLarge,
    UploadUnusable,
)
from emotion2vec_ui.texts import Phrase

ARCHIVE_SUFFIX = ".zip"

MAX_RATIO = 100
"""Unpacked to packed bytes of a whole archive. Speech as WAV packs to half, an hour of digital
silence to a thousandth; deflate cannot do more than 1032."""

RATIO_FROM_BYTES = 20_000_000
"""Smaller contents are no bomb, whatever their ratio."""

MAX_NAME_BYTES = 255
"""Of one part of a path, as in nearly every file system."""

MAX_PATH_BYTES = 1024

LISTING_BYTES_PER_FILE = 512
"""Of an archive's list of contents, which zipfile reads into memory whole: 46 and the name."""

COPY_BYTES = 1 << 20

ENCRYPTED, NAME_IS_UTF8 = 0x1, 0x800
"""Bits of a member's flags: PKWARE's APPNOTE.TXT, 4.4.4."""

DRIVE = re.compile(r"[A-Za-z]:")

UNIX = 3
"""Of `create_system`: the upper half of `external_attr` is then a file's mode."""


@dataclass(frozen=True)
class Bounds:
    """How much one job may hold.

    Attributes:
        files: how many.
        bytes: of all of them together, unpacked.
        file_bytes: of each.
    """

    files: int
    bytes: int
    file_bytes: int


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tells of a folder that cannot be written; whether a name is free is not told so.

    Raises:
        DiskFull, OutputError: it cannot be written.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(free_mb=0.0) from error
        problem = error.strerror or "I/O error"
        raise OutputError(path=folder, problem=problem) from error


class Incoming:
    """A folder that is being filled; whoever made the folder removes it after an error.

    Args:
        folder: for the files; made here. An archive stands beside it until it is unpacked.
        bounds: of what it may hold.

    Attributes:
        folder: as given.
        name: of the first file or of the archive, as the sender called it.
        files: how many there are.
        bytes: of them together.
    """

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self.folder = folder
        self._bounds = bounds
        self._archive: Path | None = None
        self._file: BinaryIO | None = None
        self._file_bytes = 0
        self.name = ""
        self.files = 0
        self.bytes = 0
        with writing(folder):
            folder.mkdir(parents=True)

    def begin(self, name: str) -> None:
        """Opens the next file.

        Raises:
            UploadUnusable: a file cannot have this name here, or none can come beside an archive.
            JobTooLarge: it is one too many.
            DiskFull, OutputError: it cannot be written.
        """
        is_archive = PurePosixPath(name).suffix.lower() == ARCHIVE_SUFFIX
        if self._archive is not None or (is_archive and self.files):
            raise UploadUnusable(name=shown_name(name), problem=Phrase("job.problem.beside"))
        self.name = self.name or shown_name(name)
        if is_archive:
            self._archive = self.folder.with_name(f"{self.folder.name}{ARCHIVE_SUFFIX}")
            with writing(self.folder):
                self._file = self._archive.open("xb")
        else:
            self._open(name)

    def write(self, content: bytes) -> None:
        """Adds to the file that was opened last.

        Raises:
            UploadTooLarge: the file is larger than a file may be.
            JobTooLarge: all together are.
        """
        assert self._file is not None
        self._file_bytes += len(content)
        self.bytes += len(content)
        # An archive as a whole is bounded as the job is; what is in it, as files are.
        if self._archive is None and self._file_bytes > self._bounds.file_bytes:
            raise UploadTooLarge(limit_mb=self._bounds.file_bytes / 1e6)
        if self.bytes > self._bounds.bytes:
            raise self._too_large()
        with writing(self.folder):
            self._file.write(content)

    def end(self) -> None:
        """Closes the file that was opened last; without one it does nothing."""
        file, self._file = self._file, None
        if file is not None:
            with writing(self.folder):
                file.close()

    def finish(self) -> None:
        """Unpacks what came as an archive.

        Raises:
            NoFiles: there is no file.
            UploadUnusable: the archive cannot be unpacked, or something in it is no plain file.
            JobTooLarge, UploadTooLarge: what is in it is larger than it may be.
        """
        if self._archive is not None:
            archive, self._archive = self._archive, None
            self.bytes = 0
            try:
                self._unpack(archive)
            finally:
                archive.unlink()
        if not self.files:
            raise NoFiles()

    def _open(self, name: str) -> None:
        if self.files >= self._bounds.files:
            raise self._too_large()
        path = self.folder / _checked(name)
        self._file_bytes = 0
        try:
            with writing(self.folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            # The same name again, also in the spelling of this file system; or "a" and "a/b".
            problem = Phrase("job.problem.twice")
            raise UploadUnusable(name=shown_name(name), problem=problem) from None
        self.files += 1

    def _too_large(self) -> JobTooLarge:
        return JobTooLarge(limit_files=self._bounds.files, limit_mb=self._bounds.bytes / 1e6)

    # --- the archive ---

    def _unpack(self, path: Path) -> None:
        try:
            with (
                _Listed(path, LISTING_BYTES_PER_FILE * self._bounds.files) as file,
                zipfile.ZipFile(file) as archive,
            ):
                members = self._members(archive, path.stat().st_size)
                for member in members:
                    self._open(_name(member))
                    try:
                        with archive.open(member) as source:
                            while content := source.read(COPY_BYTES):
                                self.write(content)
                    finally:
                        self.end()
        except _ListTooLong:
            raise self._too_large() from None
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            raise self._damaged(str(error)) from error
        except NotImplementedError as error:  # a way of packing that Python does not know
            raise self._damaged(str(error)) from error

    def _damaged(self, detail: str) -> UploadUnusable:
        problem = Phrase("job.problem.damaged", detail=detail[:200])
        return UploadUnusable(name=self.name, problem=problem)

    def _members(self, archive: zipfile.ZipFile, packed_bytes: int) -> list[zipfile.ZipInfo]:
        """What is to be unpacked, checked by what the archive says of itself."""
        members = []
        for member in archive.infolist():
            if member.is_dir() or _is_litter(member.filename):
                continue
            problem = _problem(member)
            if problem is not None:
                raise UploadUnusable(name=shown_name(member.filename), problem=problem)
            members.append(member)
        # `zipfile` reads no more of a member than this; what comes is counted all the same.
        total = sum(member.file_size for member in members)
        if len(members) > self._bounds.files or total > self._bounds.bytes:
            raise self._too_large()
        if total > max(RATIO_FROM_BYTES, MAX_RATIO * packed_bytes):
            problem = Phrase("job.problem.ratio", ratio=total / packed_bytes)
            raise UploadUnusable(name=self.name, problem=problem)
        return members


def _name(member: zipfile.ZipInfo) -> str:
    """A member's name: where the archive does not say that it is UTF-8, it may be all the same.

    Explorer on a Chinese Windows writes GB 2312, whose bytes are no letters of western names.
    """
    if not member.flag_bits & NAME_IS_UTF8:
        raw = member.filename.encode("cp437")  # as `zipfile` has read it: APPNOTE.TXT, appendix D
        for encoding in ("utf-8", "gb2312"):
            with contextlib.suppress(UnicodeDecodeError):
                return raw.decode(encoding)
    return member.filename


def _problem(member: zipfile.ZipInfo) -> Phrase | None:
    """Why something in an archive cannot be taken; None where it can."""
    if member.flag_bits & ENCRYPTED:
        return Phrase("job.problem.encrypted")
    kind = stat.S_IFMT(member.external_attr >> 16) if member.create_system == UNIX else 0
    if kind not in (0, stat.S_IFREG):
        return Phrase("job.problem.link")
    if PurePosixPath(member.filename).suffix.lower() == ARCHIVE_SUFFIX:
        return Phrase("job.problem.nested")
    return None


def _is_litter(name: str) -> bool:
    """Whether a file system's own notes lie here: macOS packs them along."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    # ".." is no hidden file: it is told.
    return any(part.startswith(".") and part != ".." for part in parts) or "__MACOSX" in parts


def _checked(name: str) -> str:
    """A file's name as a path below the job's folder, with `/`.

    Raises:
        UploadUnusable: it leads elsewhere, or no file can have it.
    """
    # Windows writes "\\", in archives and where whole folders are sent.
    path = name.replace("\\", "/")
    parts = path.split("/")
    problem = None
    if path.startswith("/") or DRIVE.match(path) or ".." in parts:
        problem = Phrase("job.problem.outside")
    elif not path or any(unicodedata.category(char) in ("Cc", "Cs") for char in path):
        problem = Phrase("job.problem.name")
    elif any(len(part.encode()) > MAX_NAME_BYTES for part in parts) or (
        len(path.encode()) > MAX_PATH_BYTES
    ):
        problem = Phrase("job.problem.long")
    elif parts[-1] in ("", "."):
        problem = Phrase("job.problem.name")
    if problem is not None:
        raise UploadUnusable(name=shown_name(name) or "?", problem=problem)
    return PurePosixPath(path).as_posix()


class _ListTooLong(Exception):
    """An archive's list of contents is longer than that of as many files as are allowed."""


class _Listed(io.FileIO):
    """An archive that zipfile reads: its list of contents, which is read at once, has a bound.

    Args:
        path: of the archive.
        limit: bytes read at once; unpacking reads far less.
    """

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, "rb")
        self._limit = max(limit, 2 * COPY_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads as a file does.

        Raises:
            _ListTooLong: it is more than the bound.
        """
        if size is not None and size > self._limit:
            raise _ListTooLong
        return super().read(-1 if size is None else size)
