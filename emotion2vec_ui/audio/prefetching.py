"""Decodes files in order, each while the model is busy with the one before."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from emotion2vec_ui.audio.load import Clip, load


class Prefetcher:
    """A thread that runs `audio.load`, one file ahead of what is asked for.

    The command line's: a thread and not a process, which would take longer to start than most
    files to decode.

    Args:
        paths: the files in the order in which they will be asked for; the first is begun at once.
        max_duration_s: longest recording accepted.
    """

    def __init__(self, paths: Sequence[Path], max_duration_s: float) -> None:
        self._max_duration_s = max_duration_s
        self._paths = iter(paths)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._coming = self._begin()

    def __call__(self, path: Path, name: str) -> Clip:
        """Returns the clip of the next file and begins the one after it; decodes any other now.

        Args:
            path: of the file.
            name: what its report calls it; of one decoded ahead, its own name.

        Raises:
            InputError: whatever `audio.load` raised.
        """
        if self._coming is None or (path, name) != (self._coming[0], self._coming[0].name):
            return load(path, name=name, max_duration_s=self._max_duration_s)
        clip = self._coming[1]
        # The only thread takes them in turn: this one begins when that one is done.
        self._coming = self._begin()
        return clip.result()

    def stop(self) -> None:
        """Begins no other file; does not wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> tuple[Path, Future[Clip]] | None:
        path = next(self._paths, None)
        if path is None:
            return None
        clip = self._thread.submit(load, path, name=path.name, max_duration_s=self._max_duration_s)
        return path, clip
