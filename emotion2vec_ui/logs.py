"""Where log records go: standard error, and `debug.log` while such a file exists.

Operators of the original WebUI created an empty `debug.log` to see what goes wrong. That works
here as well, and without a restart: the file is looked for as records come.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from emotion2vec_ui.settings import ROOT_DIR

DEBUG_LOG_NAME = "debug.log"
LOOK_AGAIN_S = 1.0
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


MAX_MESSAGE_CHARS = 4000
"""More of one message is of no use to a reader, and a stranger's request may decide its length."""


class Lines(logging.Formatter):
    """One line a message, whatever a request put into it: control characters are written out.

    A file name with a line break could else forge a record, and one with an escape sequence
    command the terminal that shows the log. Tracebacks stay as they are.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The record's line without its traceback."""
        message = record.message.strip()
        if len(message) > MAX_MESSAGE_CHARS:
            message = message[:MAX_MESSAGE_CHARS] + f"... ({len(message)} characters)"
        record.message = "".join(
            char if char.isprintable() else ascii(char)[1:-1] for char in message
        )
        return super().formatMessage(record)


class DebugFile(logging.Handler):
    """Appends every record to each `debug.log` that exists in `folders`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(Lines(FORMAT))
        self._paths = [folder / DEBUG_LOG_NAME for folder in folders]
        self._found: list[Path] = []
        self._looked_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Appends one record; a file that cannot be written never stops the program."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_AGAIN_S:
            self._looked_at = now
            # One file may be reached by two of the folders.
            self._found = sorted({path.resolve() for path in self._paths if path.is_file()})
        for path in self._found:
            try:
                with open(path, "a", encoding="utf-8", opener=_existing) as file:
                    file.write(self.format(record) + "\n")
            except OSError:
                self._found = []


def _existing(path: str, flags: int) -> int:
    # Removed a moment ago: it must not come back by being written to.
    return os.open(path, flags & ~os.O_CREAT)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (s since 1970), level, logger, message, and `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE_CHARS],
        }
        if request_id := getattr(record, "request_id", None):
            entry["request_id"] = request_id
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        # A lone surrogate from a file name cannot be written as UTF-8.
        return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace").decode()


def configure(log_format: str = "text") -> None:
    """Sets up logging for the program; called once by the command line, never at import."""
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO)
    console.setFormatter(JsonLines() if log_format == "json" else Lines(FORMAT, "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [console, DebugFile([ROOT_DIR, Path.cwd(), Path.home()])]
    root.setLevel(logging.WARNING)
    # Ours in full; those of other libraries only from warnings on.
    logging.getLogger("emotion2vec_ui").setLevel(logging.DEBUG)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
