"""Where log records go: standard error, and `debug.log` while such a file exists.

Operators of the original WebUI created an empty `debug.log` to see what goes wrong. That works
here as well, and without a restart: the file is looked for as records come.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from emotion2vec_ui.settings import ROOT_DIR

DEBUG_LOG_NAME = "debug.log"
LOOK_AGAIN_S = 1.0
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class DebugFile(logging.Handler):
    """Appends every record to each `debug.log` that exists in `folders`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter(FORMAT))
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
                with path.open("a", encoding="utf-8") as file:
                    file.write(self.format(record) + "\n")
            except OSError:
                self._found = []


class JsonLines(logging.Formatter):
    """One JSON object a line: time (s since 1970), level, logger, message, and `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, "request_id", None):
            entry["request_id"] = request_id
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(log_format: str = "text") -> None:
    """Sets up logging for the program; called once by the command line, never at import."""
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO)
    console.setFormatter(
        JsonLines() if log_format == "json" else logging.Formatter(FORMAT, "%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [console, DebugFile([ROOT_DIR, Path.cwd(), Path.home()])]
    root.setLevel(logging.WARNING)
    # Ours in full; other libraries' chatter only from warnings on.
    logging.getLogger("emotion2vec_ui").setLevel(logging.DEBUG)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
