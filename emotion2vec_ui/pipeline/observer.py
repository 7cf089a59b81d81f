"""What a recogniser tells of its work: who asked for what, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Front = Literal["api", "page", "gradio", "cli", "job"]
"""Where a request came in; each recording of a job is one."""

Kind = Literal["predict", "robustness", "similar"]


@dataclass(frozen=True)
class Ended:
    """How one request ended.

    Attributes:
        front: where it came in.
        kind: what was asked for.
        error: what it raised, or None.
        taken_s: from its arrival here to its end.
        audio_s: length of the recording that was used; 0 where it was not decoded.
    """

    front: Front
    kind: Kind
    error: BaseException | None
    taken_s: float
    audio_s: float


class Observer(Protocol):
    """What is told of a recogniser's work, by several threads at once."""

    def batch_done(self, windows: int, padded_s: float, taken_s: float) -> None:
        """One forward pass: how many windows, their padded length together, its time."""

    def request_ended(self, ended: Ended) -> None:
        """One request was answered, refused or given up."""
