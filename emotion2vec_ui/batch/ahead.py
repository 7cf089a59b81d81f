"""Decodes the files that come next, in child processes, as far ahead as memory allows."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from emotion2vec_ui.audio.load import Clip, shown_name
from emotion2vec_ui.batch.journal import Todo
from emotion2vec_ui.batch.manifest import Found
from emotion2vec_ui.errors import AudioUnreadable, EmotionError, as_known
from emotion2vec_ui.hashing import sha256_of

BYTES_PER_S = 16_000
"""What a file is taken to hold before it is decoded: 128 kbit/s. Only for the bound on memory."""

NOTHING_S = 0.001
"""Sums of floats need not come back to zero."""

POLL_S = 0.05
"""How often an idle model's owner looks for a clip."""


@dataclass(frozen=True)
class Read:
    """One file, decoded or not.

    Attributes:
        file: its size and time just before it was read.
        clip: None where there is an error, or nothing to do.
        error: why there is no clip; None with neither: the content is that of its row.
        sha256: of the file, where it could be read.
    """

    file: Found
    clip: Clip | None = None
    error: EmotionError | None = None
    sha256: str | None = None

    @property
    def duration_s(self) -> float:
        """Of the clip, 0 without one."""
        return self.clip.duration_s if self.clip else 0.0


class Ahead:
    """Threads that each wait for one file at a time to be decoded by `decode`; a queue of clips.

    Args:
        root: the folder that names are relative to.
        todo: the files; taken from by one thread at a time.
        decode: path and name in, Clip out; called by several threads at once.
        readers: number of threads.
        limit_s: seconds of audio decoded and not yet taken; one clip may exceed it.
    """

    def __init__(
        self,
        root: Path,
        todo: Iterator[Todo],
        decode: Callable[[Path, str], Clip],
        *,
        readers: int,
        limit_s: float,
    ) -> None:
        self._root = root
        self._todo = todo
        self._decode = decode
        self._limit_s = limit_s
        self._held_s = 0.0
        self._changed = threading.Condition()
        self._stopped = False
        self._failure: BaseException | None = None
        self._reading = readers
        self._read: queue.SimpleQueue[Read] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"reader-{number}", daemon=True)
            for number in range(readers)
        ]

    def __enter__(self) -> Ahead:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def take(
        self, most_s: float, *, busy: Callable[[], bool], cancelled: Callable[[], bool]
    ) -> list[Read]:
        """Files that were read, `most_s` of audio or a little more; none when all were taken.

        While the model is busy more is waited for; an idle one is given what there is.

        Args:
            most_s: enough, in seconds of audio.
            busy: whether the model has work.
            cancelled: ends the wait.
        """
        taken: list[Read] = []
        taken_s = 0.0
        while taken_s < most_s and not cancelled():
            try:
                one = self._read.get(timeout=POLL_S)
            except queue.Empty:
                if self._failure is not None:
                    raise self._failure from None
                if (taken and not busy()) or (self._reading == 0 and self._read.empty()):
                    break
                continue
            taken.append(one)
            taken_s += one.duration_s
            self._give_back(one.duration_s)
        return taken

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    # The iterator is asked under the lock: one thread at a time.
                    todo = None if self._stopped else next(self._todo, None)
                    if todo is None:
                        return
                    expected_s = max(todo.file.bytes, 0) / BYTES_PER_S
                    while not (self._stopped or self._has_room(expected_s)):
                        self._changed.wait()
                    if self._stopped:
                        return
                    self._held_s += expected_s
                one = read(self._root, todo, self._decode)
                self._give_back(expected_s - one.duration_s)
                self._read.put(one)
        except BaseException as error:  # of the journal: told where the clips are taken
            self._failure = error
        finally:
            with self._changed:
                self._reading -= 1

    def _has_room(self, expected_s: float) -> bool:
        return self._held_s < NOTHING_S or self._held_s + expected_s <= self._limit_s

    def _give_back(self, seconds: float) -> None:
        with self._changed:
            self._held_s = max(0.0, self._held_s - seconds)
            self._changed.notify_all()


def read(root: Path, todo: Todo, decode: Callable[[Path, str], Clip]) -> Read:
    """Reads and decodes one file, unless its content is known.

    Args:
        root: the folder that names are relative to.
        todo: the file.
        decode: path and name in, Clip out.
    """
    name = todo.file.name
    path = root / name
    try:
        status = os.stat(path)
    except OSError as error:
        problem = error.strerror or "I/O error"
        return Read(todo.file, error=AudioUnreadable(name=shown_name(name), problem=problem))
    # Before it is read: what is written to it afterwards makes it another file next time.
    file = Found(name, status.st_size, status.st_mtime_ns)
    known = todo.known_sha256
    if known is not None and file.bytes == todo.file.bytes and _sha256(path) == known:
        return Read(file, sha256=known)
    try:
        return Read(file, clip=decode(path, path.name))
    except Exception as error:  # any: it is this file's, and the others go on
        return Read(file, error=as_known(error, "batch"), sha256=_sha256(path))


def _sha256(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return sha256_of(path)
    return None
