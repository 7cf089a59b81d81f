"""A result as files of other programs: CSV, SubRip, WebVTT, Praat, Audacity, zip."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emotion2vec_ui import texts
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.timeline import Segment
from emotion2vec_ui.records import store
from emotion2vec_ui.records.report import Report

PARTS = ("segments", "sentences")
"""What a file over time may hold: stretches of one emotion, or of speech recognised by itself."""


@dataclass(frozen=True)
class Format:
    """A text format.

    Attributes:
        media_type: for HTTP.
        render: the report's stretches and the word of each emotion in, the file's content out.
    """

    media_type: str
    render: Callable[[Report, Sequence[Segment], Mapping[str, str]], str]


def formats() -> dict[str, Format]:
    """The text formats by the ending of their files."""
    return {
        "csv": Format("text/csv; charset=utf-8", _csv),
        "srt": Format("application/x-subrip; charset=utf-8", lambda _, s, names: to_srt(s, names)),
        "vtt": Format("text/vtt; charset=utf-8", lambda _, s, names: to_vtt(s, names)),
        "TextGrid": Format("text/plain; charset=utf-8", _textgrid),
        "txt": Format("text/plain; charset=utf-8", lambda _, s, names: to_audacity(s, names)),
    }


def export(report: Report, kind: str, *, lang: str, part: str = "segments") -> str:
    """The report in one of `formats`.

    Args:
        report: of either granularity; an utterance is one stretch as long as the recording.
        kind: a key of `formats`.
        lang: of the emotions' words; CSV, which programs read, has the keys.
        part: one of `PARTS`.
    """
    names = {one: texts.text(f"emotion.{one}", lang) for one in EMOTIONS}
    return formats()[kind].render(report, stretches(report, part), names)


def stretches(report: Report, part: str = "segments") -> tuple[Segment, ...]:
    """The stretches of a report: its segments or its sentences; an utterance is one."""
    if part == "sentences":
        return tuple(
            Segment(one.emotion, one.start_s, one.end_s, one.confidence)
            for one in report.utterances
        )
    if report.granularity == "frame" or report.source is None:
        return report.segments
    return (Segment(report.emotion, 0.0, report.source.duration_s, report.confidence),)


def write_zip(folder: Path, target: BinaryIO) -> None:
    """Writes every file of a result into a zip archive."""
    # Audio and embeddings barely shrink; storing them keeps the download of an hour quick.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, _ in store.files_in(folder):
            archive.write(folder / name, f"{folder.name}/{name}")


def _csv(report: Report, parts: Sequence[Segment], names: Mapping[str, str]) -> str:
    if report.granularity == "frame":
        return to_csv(parts)
    rows = [f"{emotion},{score}" for emotion, score in report.nine_scores.items()]
    return "\r\n".join(["emotion,score", *rows, ""])


def _textgrid(report: Report, parts: Sequence[Segment], names: Mapping[str, str]) -> str:
    duration_s = None if report.source is None else report.source.duration_s
    return to_textgrid(parts, names, duration_s=duration_s)


def to_csv(parts: Sequence[Segment]) -> str:
    """RFC 4180 with a header: `start_s,end_s,emotion,confidence`; ms and four decimals."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["start_s", "end_s", "emotion", "confidence"])
    for s in parts:
        writer.writerow([f"{s.start_s:.3f}", f"{s.end_s:.3f}", s.emotion, f"{s.confidence:.4f}"])
    return text.getvalue()


def to_srt(parts: Sequence[Segment], names: Mapping[str, str] | None = None) -> str:
    """SubRip subtitles, one cue per segment: `happy 85%`.

    Args:
        parts: Segments in order.
        names: Word to show per emotion; the key itself where there is none.
    """
    cues = []
    for number, s in enumerate(parts, 1):
        times = f"{_clock(s.start_s, ',')} --> {_clock(s.end_s, ',')}"
        cues.append(f"{number}\n{times}\n{_caption(s, names)}\n")
    return "\n".join(cues)


def to_vtt(parts: Sequence[Segment], names: Mapping[str, str] | None = None) -> str:
    """WebVTT (W3C); `&`, `<` and `>` are escaped as it asks. Arguments as `to_srt`."""
    cues = ["WEBVTT\n"]
    for s in parts:
        text = _caption(s, names).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{_clock(s.start_s, '.')} --> {_clock(s.end_s, '.')}\n{text}\n")
    return "\n".join(cues)


def to_textgrid(
    parts: Sequence[Segment],
    names: Mapping[str, str] | None = None,
    *,
    duration_s: float | None = None,
) -> str:
    """Praat TextGrid (long text format): one interval tier `emotion`, gaps as empty intervals.

    Args:
        parts: Segments in order, not overlapping.
        names: As in `to_srt`.
        duration_s: End of the tier; None: the end of the last segment.
    """
    end_s = max([duration_s or 0.0, *(s.end_s for s in parts)])
    intervals: list[tuple[float, float, str]] = []
    at = 0.0
    for s in parts:
        # Praat wants intervals without gaps; a difference under 1 ms is rounding.
        if s.start_s - at >= 0.001:
            intervals.append((at, s.start_s, ""))
            at = s.start_s
        intervals.append((at, s.end_s, _one_line((names or {}).get(s.emotion, s.emotion))))
        at = s.end_s
    if end_s - at >= 0.001 or not intervals:
        intervals.append((at, end_s, ""))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end_s:.6f}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "emotion"',
        "        xmin = 0",
        f"        xmax = {end_s:.6f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (low, high, text) in enumerate(intervals, 1):
        quoted = text.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {low:.6f}",
            f"            xmax = {high:.6f}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"


def to_audacity(parts: Sequence[Segment], names: Mapping[str, str] | None = None) -> str:
    """Audacity label track: start, end and label, separated by tabs. Arguments as `to_srt`."""
    rows = [f"{s.start_s:.6f}\t{s.end_s:.6f}\t{_caption(s, names)}" for s in parts]
    return "".join(row + "\n" for row in rows)


def _caption(segment: Segment, names: Mapping[str, str] | None) -> str:
    word = (names or {}).get(segment.emotion, segment.emotion)
    return f"{_one_line(word)} {segment.confidence:.0%}"


def _one_line(text: str) -> str:
    # A line break ends a cue and a tab a field.
    return " ".join(text.split())


def _clock(time_s: float, point: str) -> str:
    """Hours:minutes:seconds with milliseconds; `point` is `,` in SRT and `.` in VTT."""
    ms = round(time_s * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
