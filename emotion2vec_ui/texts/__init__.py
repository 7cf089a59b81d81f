"""Every sentence that a person reads: one catalogue per language, `<language>.json` beside this.

Keys are `<area>.<code>`; the codes are those that the other modules emit, so a test can check that
each code has its words. Placeholders are `str.format` fields named after the fact they show.
A further language is one more file with the same keys: it then stands in every menu.
Only the standard library is imported: `doctor` must run where nothing is installed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


@functools.cache
def catalogue(lang: str) -> Mapping[str, str]:
    """All texts of one language by key."""
    content: dict[str, str] = json.loads((_FOLDER / f"{lang}.json").read_text(encoding="utf-8"))
    return content


@functools.cache
def languages() -> tuple[str, ...]:
    """The languages there are, in the order of menus."""
    found = [path.stem for path in _FOLDER.glob("*.json")]
    return tuple(sorted(found, key=lambda lang: int(catalogue(lang)["language.position"])))


def has(key: str) -> bool:
    """Whether there is such a text."""
    return key in catalogue("en")


def text(key: str, lang: str, **facts: Any) -> str:
    """The text of `key` in `lang` with its placeholders filled.

    A fact may be a `Phrase`, or a tuple of them, which is joined as that language joins a list.

    Raises:
        KeyError: there is no such text, or a fact it names is missing: a bug, found by tests.
    """
    words = {name: _in_language(fact, lang) for name, fact in facts.items()}
    return catalogue(lang)[key].format(**words)


def _in_language(fact: Any, lang: str) -> Any:
    if isinstance(fact, Phrase):
        return text(fact.key, lang, **fact.facts)
    if isinstance(fact, tuple):
        *first, last = (_in_language(one, lang) for one in fact)
        joined = catalogue(lang)["list.join"].join(first)
        return f"{joined}{catalogue(lang)['list.last']}{last}" if first else last
    return fact


@dataclass(frozen=True, init=False)
class Phrase:
    """A fact that is itself a text: put into another text, it is in that text's language."""

    key: str
    facts: dict[str, Any]

    def __init__(self, key: str, **facts: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "facts", facts)

    def __str__(self) -> str:
        return text(self.key, "en", **self.facts)


def negotiate(accept_language: str, default: str = "en") -> str:
    """The language of an Accept-Language header (RFC 9110, 12.5.4) among those there are."""
    ranked: list[tuple[float, str]] = []
    for part in accept_language.split(","):
        tag, _, q_text = part.strip().partition(";q=")
        try:
            quality = float(q_text) if q_text else 1.0
        except ValueError:
            quality = 0.0
        primary = tag.lower().split("-")[0]
        if primary in languages():
            ranked.append((quality, primary))
    # max() keeps the first of equals: the order of the header.
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else default
