"""The sentences of a report, made from its codes and figures in the language of the reader."""

from __future__ import annotations

from dataclasses import replace

from emotion2vec_ui import texts
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.reading.scoring import Note, log_notes
from emotion2vec_ui.records.report import Report


def in_words(report: Report, lang: str) -> Report:
    """The report with every sentence filled in."""
    return replace(
        report,
        reliability=replace(report.reliability, advice=advice(report, lang)),
        distribution=replace(report.distribution, text=distribution(report, lang)),
        warnings=tuple(
            replace(one, text=texts.text(warning_key(one.code), lang)) for one in report.warnings
        ),
        log=(*log_facts(report), *(note(one, lang) for one in notes(report))),
    )


def advice(report: Report, lang: str) -> str:
    """What to do with the result."""
    return texts.text(f"advice.{report.reliability.advice_code}", lang)


def distribution(report: Report, lang: str) -> str:
    """The shape of the scores; mixed emotions are named."""
    facts = report.distribution
    leader = texts.text(f"emotion.{report.emotion}", lang)
    sentence = texts.text(
        f"shape.{facts.shape}", lang, leader=leader, percent=f"{report.confidence:.1%}"
    )
    if facts.mixture is None:
        return sentence
    beside = tuple(texts.Phrase(f"emotion.{emotion}.inline") for emotion in facts.beside)
    return sentence + texts.text(f"mixture.{facts.mixture}", lang, leader=leader, beside=beside)


def warning_key(code: str) -> str:
    """The text of a warning: they come from the quality checks, the decoder and the reading.

    Raises:
        KeyError: no text has this code.
    """
    for area in ("quality", "warning", "caveat"):
        if texts.has(f"{area}.{code}"):
            return f"{area}.{code}"
    raise KeyError(code)


def log_facts(report: Report) -> tuple[str, ...]:
    """The lines of the processing log whose form is fixed: contract section 8."""
    source, timing = report.source, report.timing
    if source is None or timing is None:
        return ()
    lines = [f"Audio info: duration={source.duration_s:.1f}s, sr={source.sample_rate}"]
    if source.sample_rate != SAMPLE_RATE_HZ:
        lines.append(f"Warning: Resampling from {source.sample_rate} to {SAMPLE_RATE_HZ}")
    if timing.model_load_s:
        lines.append(f"Model loaded in {timing.model_load_s:.1f}s")
    lines.append(f"Inference time: {timing.inference_s:.2f}s")
    return tuple(lines)


def notes(report: Report) -> tuple[Note, ...]:
    """Figures of the processing log that are outside the normal range."""
    if report.source is None or report.timing is None:
        return ()
    return log_notes(
        model_load_s=report.timing.model_load_s or None,
        inference_s=report.timing.inference_s,
        duration_s=report.source.duration_s,
        source_rate_hz=report.source.sample_rate,
    )


def note(one: Note, lang: str) -> str:
    """A note of the processing log as a sentence."""
    return texts.text(f"note.{one.code}", lang, value=one.value, limit=one.limit)
