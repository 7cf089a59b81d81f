"""What the commands share: exit codes, the user's language, and where messages go."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from emotion2vec_ui import texts
from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.settings import Settings

OK, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130
"""The shell's number for Ctrl-C."""


def language(settings: Settings) -> str:
    """The language of messages: `--lang`, else the locale's."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return settings.lang or texts.negotiate(locale.partition(".")[0].replace("_", "-"))


def in_words(error: EmotionError, lang: str) -> str:
    """What was found, and what to do about it."""
    return f"{error.message(lang)} {error.hint(lang)}".strip()


def say(line: str) -> None:
    """A message for people: on standard error."""
    print(line, file=sys.stderr)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object as a line on standard output."""
    print(json.dumps(value, ensure_ascii=False))
