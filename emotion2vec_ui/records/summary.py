"""What a table of many recordings says as a whole; made row by row, in memory that stays small."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal

from emotion2vec_ui.labels import EMOTIONS, NOT_AN_EMOTION
from emotion2vec_ui.records.rows import OK, Row

CLEAREST_OF_EACH = 2
"""Recordings named for each of six emotions: what one hears through in a few minutes."""

DIVIDED = 6
"""Recordings named that the model was least sure of."""

EXAMPLES = 3
"""Recordings named for each problem."""

FAILURES = 100
"""Recordings with an error that are named; the table has all."""

MAX_FOLDERS = 24
MAX_PERIODS = 40
"""Columns of the picture over time: what a phone has room for."""

SAME_TIME_S = 60.0
"""Files all written within this were copied at once: their times say nothing of the recordings."""

Unit = Literal["hour", "day", "month", "year"]

_TIME_FORMATS: dict[Unit, str] = {
    "hour": "%Y-%m-%d %H:00",
    "day": "%Y-%m-%d",
    "month": "%Y-%m",
    "year": "%Y",
}


@dataclass(frozen=True)
class Heard:
    """A recording worth naming.

    Attributes:
        path: as in the table.
        emotion: the leader.
        confidence: its score, 0 to 1.
        second: the emotion after it.
        second_score: of it.
        duration_s: of the recording.
        quality: verdict over the recording.
    """

    path: str
    emotion: str
    confidence: float
    second: str
    second_score: float
    duration_s: float
    quality: str


@dataclass(frozen=True)
class Failure:
    """A recording with an error; `error` is its sentence by language."""

    path: str
    code: str
    error: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """A folder or a period: how many recordings it has of each emotion.

    Attributes:
        name: the folder, or the period's beginning in local time.
        counts: recordings by emotion, those without any left out.
        failed: recordings with an error.
        poor: recordings of poor quality.
    """

    name: str
    counts: Mapping[str, int]
    failed: int = 0
    poor: int = 0

    @property
    def recognised(self) -> int:
        """Recordings that have an emotion."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """All recordings."""
        return self.recognised + self.failed


@dataclass(frozen=True)
class Problem:
    """A warning that recordings have: its code, how many, the first of them."""

    code: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A whole table.

    Attributes:
        counts: recordings by emotion, all nine, the most frequent first.
        mean_confidence: by emotion, of those that occur.
        bands: recordings by band.
        qualities: recordings by verdict.
        failed: recordings with an error.
        audio_s: length of all that were recognised.
        folders: the largest first; the rest together under the name "".
        periods: in order, with those between that have none; empty where the files' times say
            nothing.
        period_unit: length of each.
        problems: the most frequent first.
        clearest: by emotion, the highest scores first.
        divided: the lowest scores first, of recordings that are not poor.
        failures: the first of them.
    """

    counts: Mapping[str, int]
    mean_confidence: Mapping[str, float]
    bands: Mapping[str, int]
    qualities: Mapping[str, int]
    failed: int
    audio_s: float
    folders: tuple[Part, ...]
    periods: tuple[Part, ...]
    period_unit: Unit
    problems: tuple[Problem, ...]
    clearest: tuple[Heard, ...]
    divided: tuple[Heard, ...]
    failures: tuple[Failure, ...]

    @property
    def recognised(self) -> int:
        """Recordings without an error."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """All recordings."""
        return self.recognised + self.failed


class Tally:
    """Collects rows for a `Summary`. Its memory grows with folders and hours, not with rows."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._confidence: dict[str, float] = defaultdict(float)
        self._bands: Counter[str] = Counter()
        self._qualities: Counter[str] = Counter()
        self._warnings: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = defaultdict(list)
        self._folders: dict[str, Counter[str]] = defaultdict(Counter)
        self._hours: dict[int, Counter[str]] = defaultdict(Counter)
        self._first_s, self._last_s = float("inf"), float("-inf")
        self._clearest: dict[str, list[tuple[float, str, Heard]]] = defaultdict(list)
        self._divided: list[tuple[float, str, Heard]] = []
        self._failed = 0
        self._failures: list[Failure] = []
        self._audio_s = 0.0

    def add(self, row: Row, modified_s: float) -> None:
        """Counts one row; `modified_s` is when its file was last written, in s since 1970."""
        folder = self._folders[row.path.rpartition("/")[0]]
        if row.status != OK:
            self._failed += 1
            folder["failed"] += 1
            if len(self._failures) < FAILURES:
                self._failures.append(Failure(row.path, row.status, row.error or {}))
            return
        assert row.emotion and row.scores and row.band and row.quality
        assert row.confidence is not None and row.duration_s is not None
        self._counts[row.emotion] += 1
        self._confidence[row.emotion] += row.confidence
        self._bands[row.band] += 1
        self._qualities[row.quality] += 1
        self._audio_s += row.duration_s
        folder[row.emotion] += 1
        folder["poor"] += row.quality == "poor"
        self._hours[int(modified_s // 3600)][row.emotion] += 1
        self._first_s = min(self._first_s, modified_s)
        self._last_s = max(self._last_s, modified_s)
        for code in row.warnings:
            self._warnings[code] += 1
            if len(self._examples[code]) < EXAMPLES:
                self._examples[code].append(row.path)
        self._consider(row)

    def _consider(self, row: Row) -> None:
        """Names the recording if it stands out."""
        assert row.emotion and row.scores and row.quality
        assert row.confidence is not None and row.duration_s is not None
        if row.quality == "poor" or "unfamiliar" in row.warnings:
            return
        ranked = sorted(zip(row.scores, EMOTIONS, strict=True), reverse=True)
        second_score, second = next(one for one in ranked if one[1] != row.emotion)
        heard = Heard(
            row.path,
            row.emotion,
            row.confidence,
            second,
            second_score,
            row.duration_s,
            row.quality,
        )
        if row.emotion not in ("neutral", *NOT_AN_EMOTION):
            best = self._clearest[row.emotion]
            _keep(best, (row.confidence, row.path, heard), CLEAREST_OF_EACH)
        _keep(self._divided, (-row.confidence, row.path, heard), DIVIDED)

    def summary(self) -> Summary:
        """What was counted so far."""
        unit, periods = self._periods()
        problems = tuple(
            Problem(code, count, tuple(self._examples[code]))
            for code, count in self._warnings.most_common()
        )
        by_count = sorted(EMOTIONS, key=lambda emotion: -self._counts[emotion])
        return Summary(
            counts={emotion: self._counts[emotion] for emotion in by_count},
            mean_confidence={
                emotion: self._confidence[emotion] / count
                for emotion, count in self._counts.items()
            },
            bands=dict(self._bands),
            qualities=dict(self._qualities),
            failed=self._failed,
            audio_s=self._audio_s,
            folders=self._parts(),
            periods=periods,
            period_unit=unit,
            problems=problems,
            clearest=tuple(
                heard
                for emotion in by_count
                for _, _, heard in sorted(self._clearest.get(emotion, ()), reverse=True)
            ),
            divided=tuple(heard for _, _, heard in sorted(self._divided, reverse=True)),
            failures=tuple(self._failures),
        )

    def _parts(self) -> tuple[Part, ...]:
        """Folders, cut to the depth at which there are few enough to show."""
        folders = self._folders
        depth = max((name.count("/") + 1 for name in folders), default=1)
        while len(folders) > MAX_FOLDERS and depth > 1:
            depth -= 1
            cut: dict[str, Counter[str]] = defaultdict(Counter)
            for name, counts in self._folders.items():
                cut["/".join(name.split("/")[:depth])].update(counts)
            folders = cut
        parts = sorted(
            (_part(name or ".", counts) for name, counts in folders.items()),
            key=lambda part: (-part.total, part.name),
        )
        rest: Counter[str] = Counter()
        for part in parts[MAX_FOLDERS:]:
            rest.update({**part.counts, "failed": part.failed, "poor": part.poor})
        shown = parts[:MAX_FOLDERS]
        return (*shown, _part("", rest)) if rest else tuple(shown)

    def _periods(self) -> tuple[Unit, tuple[Part, ...]]:
        """The finest periods of which there are few enough to show."""
        if self._last_s - self._first_s < SAME_TIME_S:
            return "day", ()
        units: tuple[Unit, ...] = ("hour", "day", "month", "year")
        for unit in units:
            names = self._names(unit)
            if len(names) <= MAX_PERIODS:
                break
        periods: dict[str, Counter[str]] = {name: Counter() for name in names[-MAX_PERIODS:]}
        for hour, counts in self._hours.items():
            name = _name(hour, unit)
            if name in periods:
                periods[name].update(counts)
        return unit, tuple(Part(name, dict(counts)) for name, counts in periods.items())

    def _names(self, unit: Unit) -> list[str]:
        """All periods from the first recording to the last, also those without any."""
        step = {"hour": 1, "day": 24, "month": 24 * 27, "year": 24 * 360}[unit]
        first, last = min(self._hours), max(self._hours)
        # More would not be shown, whatever they are.
        hours = [*islice(range(first, last, step), 2 * MAX_PERIODS + 1), last]
        return list(dict.fromkeys(_name(hour, unit) for hour in hours))


def _name(hour: int, unit: Unit) -> str:
    return datetime.fromtimestamp(hour * 3600).strftime(_TIME_FORMATS[unit])


def _part(name: str, counts: Counter[str]) -> Part:
    emotions = {emotion: counts[emotion] for emotion in EMOTIONS if counts[emotion]}
    return Part(name, emotions, counts["failed"], counts["poor"])


def _keep(best: list[tuple[float, str, Heard]], one: tuple[float, str, Heard], count: int) -> None:
    """Adds to a heap that holds the greatest."""
    if len(best) < count:
        heapq.heappush(best, one)
    else:
        heapq.heappushpop(best, one)
