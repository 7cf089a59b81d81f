"""The recording: its waveform, the player over it, and what the quality checks found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from emotion2vec_ui.audio.checks import Check, Quality
from emotion2vec_ui.drawing import figures, svg
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.drawing.svg import Tick, Wave

_MARKS = {"ok": "✓", "warn": "!", "fail": "✕", "unknown": "?"}
_KINDS = {"good": "ok", "fair": "warn", "poor": "fail"}
# A figure within two bounds is shown with the upper one, which is the check's threshold.
_SIGNS = {"at_least": "≥", "at_most": "≤"}


@dataclass(frozen=True)
class WaveView(View):
    """The envelope: speech dark, the rest light, clipped peaks red."""

    template: ClassVar[str] = "wave.html"

    quality: Quality

    @cached_property
    def wave(self) -> Wave:
        """The envelope as paths."""
        return svg.wave(self.quality)


@dataclass(frozen=True)
class AxisView(View):
    """The time axis below a drawing."""

    template: ClassVar[str] = "axis.html"

    duration_s: float

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Its labels."""
        return svg.ticks(self.duration_s)


@dataclass(frozen=True)
class PlayerView(View):
    """A player whose position is a line over drawings of the recording, where a click seeks."""

    template: ClassVar[str] = "player.html"

    duration_s: float
    audio_url: str
    drawings: tuple[View, ...]

    @property
    def axis(self) -> AxisView:
        """As long as the recording."""
        return AxisView(self.duration_s)


@dataclass(frozen=True)
class PictureView(View):
    """The waveform and its time axis, without a player."""

    template: ClassVar[str] = "picture.html"

    wave: WaveView
    axis: AxisView


@dataclass(frozen=True)
class CheckView(View):
    """One quality check: what was found, what is asked, what to do."""

    template: ClassVar[str] = "check.html"

    check: Check
    codec: str

    @property
    def mark(self) -> str:
        """The verdict as a sign."""
        return _MARKS[self.check.verdict]

    @property
    def figure(self) -> str:
        """What was found."""
        if self.check.code == "codec":
            return self.codec
        return figures.check_figure(self.check.value, self.check.unit)

    @property
    def limit(self) -> str | None:
        """What is asked; None where nothing is, or nothing could be told."""
        check = self.check
        if check.bound == "none" or check.threshold is None or check.value is None:
            return None
        return f"{_SIGNS[check.bound]} {figures.check_figure(check.threshold, check.unit)}"


@dataclass(frozen=True)
class QualityView(View):
    """The verdict on the recording, its checks, and its spectrum.

    Attributes:
        quality: as the report has it.
        codec: of the file.
        drawing: of the recording; None where another card has it.
        unfolded: everything is in sight: paper cannot be unfolded.
    """

    template: ClassVar[str] = "quality.html"

    quality: Quality
    codec: str
    drawing: PlayerView | PictureView | None
    unfolded: bool = False

    @property
    def kind(self) -> str:
        """The verdict as the class of a pill."""
        return _KINDS[self.quality.verdict]

    @property
    def faults(self) -> tuple[CheckView, ...]:
        """Checks that something is wrong with, the worst first."""
        return self._checks("fail") + self._checks("warn")

    @property
    def others(self) -> tuple[CheckView, ...]:
        """The other checks, in their order."""
        return self._checks("ok", "unknown")

    @property
    def fine_count(self) -> int:
        """Checks that are passed."""
        return len(self._checks("ok"))

    @property
    def unknown_count(self) -> int:
        """Checks that could not tell."""
        return len(self._checks("unknown"))

    @property
    def spectrum(self) -> str:
        """Path of the mean spectrum; empty where there is none."""
        return svg.spectrum(self.quality.picture)

    def _checks(self, *verdicts: str) -> tuple[CheckView, ...]:
        return tuple(
            CheckView(one, self.codec) for one in self.quality.checks if one.verdict in verdicts
        )
