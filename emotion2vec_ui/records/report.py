"""One recognition as it is kept: codes and figures, typed all the way down.

`Report` is the content of result.json and of the API's answer: its fields are the keys, in their
order (contract section 3). `to_json` writes it, `parse` reads it back, files of older schemas too.
Sentences (`advice`, `text`, `log`) are empty until `sentences.in_words` fills them in a language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import numpy as np

from emotion2vec_ui.audio.checks import Quality
from emotion2vec_ui.audio.load import Source
from emotion2vec_ui.frames import FRAMES_PER_S
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.files import BUILT_IN
from emotion2vec_ui.reading import scoring
from emotion2vec_ui.reading.scoring import Band, NormRange, Shape, Weighted
from emotion2vec_ui.reading.timeline import Curve, Segment
from emotion2vec_ui.records.adapters import adapter

SCHEMA = "emotion2vec_ui.result/2"

GRANULARITIES = ("utterance", "frame")
BANDS = get_args(Band)

DECIMALS = 6
"""Nine scores then sum to 1 within 4.5e-6; the contract allows 1e-5."""

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Model:
    """Which model answered, and how it was run."""

    id: str
    """Hub id, directory name or "compact"."""
    origin: str
    """Where its files came from: "cache", "models/", "directory", "downloaded" or "built in"."""
    revision: str | None
    """Of the hub, where known."""
    weights_sha256: str | None
    """Of the checkpoint, where known."""
    device: str
    """Such as "cpu" or "cuda:0"."""
    precision: str
    """fp32, bf16 or fp16."""
    runtime: str | None = None
    """What ran it: "pytorch"; null in results of earlier versions."""

    @property
    def is_built_in(self) -> bool:
        """Whether this is the compact model that comes with the program."""
        return self.origin == BUILT_IN


@dataclass(frozen=True)
class Reliability:
    """How far the result can be relied on: contract section 4."""

    band: Band
    """Of the calibrated confidence, or where there is none of the confidence: above 0.85 high, from
    0.70 medium, from 0.50 low."""
    advice_code: str
    """What to do with the result, from band, familiarity, recording and model together."""
    caveats: tuple[str, ...]
    """Codes of what limits the result."""
    familiarity: float | None = None
    """How like what the model learnt from: the share of known speech, not used in learning, that
    lies at least as far from it, 0 to 1; null where the model has no reference."""
    calibrated_confidence: float | None = None
    """The leader's score after tempering by that distance, 0 to 1; of the built-in model, whose
    scores are tempered already, the confidence; null where the model has no reference."""
    advice: str = ""
    """`advice_code` as a sentence."""


@dataclass(frozen=True)
class Leading:
    """An emotion that leads or is named beside the leader."""

    emotion: str
    """One of the nine keys."""
    score: float
    """0 to 1."""


@dataclass(frozen=True)
class Distribution:
    """The shape of the nine scores: contract section 4."""

    shape: Shape
    """One over 0.7 and all others under 0.1; two over 0.3; all between 0.08 and 0.15; else."""
    leading: tuple[Leading, ...]
    """The leader, then every other emotion from 0.10 on, by falling score."""
    mixture: str | None
    """"with" where emotions stand beside the leader, "dissatisfaction_under_calm" for strong angry
    with neutral, null where there is nothing to name."""
    margin: float
    """The leader's score less the second's, 0 to 1."""
    entropy: float
    """Shannon entropy in bits, 0 (certain) to 3.17."""
    entropy_normalised: float
    """The same divided by log2(9), 0 to 1."""
    text: str = ""
    """All of this as a sentence."""

    @property
    def beside(self) -> tuple[str, ...]:
        """The emotions named beside the leader; `other` and `unknown` are none."""
        names = (one.emotion for one in self.leading[1:])
        return tuple(name for name in names if name not in scoring.NOT_AN_EMOTION)


@dataclass(frozen=True)
class SubclassScores:
    """How the score of a base emotion divides among sub-classes of one's own."""

    version: int
    """Of the set of sub-classes, from 1."""
    base: str
    """The emotion that is divided, one of the nine keys."""
    scores: dict[str, float]
    """Each sub-class's part of the base's score, by name, 0 to 1."""
    none: float
    """What none of them has: all of the base's score where the recording is unlike every sample,
    else 0. With it the scores sum to the base's."""
    small: bool
    """Whether it was trained on too few samples or speakers to be relied on."""


@dataclass(frozen=True)
class Timing:
    """How long each step took."""

    decode_s: float
    """Reading, resampling and judging the recording, in s."""
    model_load_s: float
    """Waiting for the model, in s; 0 for a request that did not wait."""
    inference_s: float
    """In the model, in s."""
    total_s: float
    """From accepted to described, in s."""


@dataclass(frozen=True)
class Embedding:
    """What embedding.npy holds."""

    file: str
    """Its name in the folder."""
    shape: tuple[int, ...]
    """(dim,) of an utterance, (frames, dim) of frames."""
    dtype: str
    """Always float32."""
    norm: float
    """L2 norm of the utterance embedding."""
    norm_verdict: NormRange
    """Against `norm_range`."""
    norm_range: tuple[float, float] | None
    """Lowest and highest usual norm of this model; null where it was not measured."""
    article_range: tuple[float, float]
    """What the guide of the original WebUI gives."""
    article_verdict: NormRange
    """Against `article_range`."""


@dataclass(frozen=True)
class ReportWarning:
    """Something that limits the result."""

    code: str
    """Of a quality check, of a caveat, or "truncated"."""
    text: str = ""
    """The same as a sentence."""


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech recognised by itself."""

    emotion: str
    """Its leader, one of the nine keys."""
    start_s: float
    """From the start of the recording, in s."""
    end_s: float
    """More than `start_s`."""
    confidence: float
    """The leader's score, 0 to 1."""
    band: Band
    """Of its confidence, calibrated where the model has a reference."""
    scores: dict[str, float]
    """All nine, summing to 1."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One recognition.

    What a result of the first WebUI does not tell (source, model, quality, timing) is None.
    """

    emotion: str
    """The utterance's leader, one of the nine keys, in both granularities."""
    confidence: float
    """The leader's score, 0 to 1."""
    scores: dict[str, float] | list[list[float]]
    """utterance: the nine scores by English name, summing to 1; frame: a row of nine per 20 ms, in
    the order of `labels`."""
    granularity: Literal["utterance", "frame"]
    """What `scores` holds."""
    timestamp: str
    """Local time, "YYYY-MM-DD HH:MM:SS"."""
    schema: str = SCHEMA
    """Version of this form."""

    labels: tuple[str, ...] | None = None
    """frame: the nine keys in the order of each row of `scores`; absent for an utterance, as are
    the six fields that follow."""
    frame_rate: int | None = None
    """frame: rows of `scores` per second, 50."""
    utterance_scores: dict[str, float] | None = None
    """frame: the nine scores of the whole recording by name."""
    weighted: Weighted | None = None
    """frame: the article's weighted window over the frames."""
    segments: tuple[Segment, ...] = ()
    """frame: stretches of one emotion, without gaps."""
    utterances: tuple[Utterance, ...] = ()
    """frame: each stretch of speech recognised by itself; empty for a single one."""
    curve: Curve | None = None
    """frame: smoothed scores over time, thinned out for drawing."""

    source: Source | None = None
    """The file as it came."""
    model: Model | None = None
    """Which model answered."""
    reliability: Reliability
    """How far to rely on it."""
    distribution: Distribution
    """The shape of the scores."""
    subclasses: dict[str, SubclassScores] | None = None
    """By the name of the set: how scores divide among sub-classes; null where none were asked for,
    and in results of earlier versions. The nine scores do not depend on it."""
    quality: Quality | None = None
    """What is right and wrong with the recording: each check with figure, threshold, verdict."""
    timing: Timing | None = None
    """How long each step took."""
    embedding: Embedding | None = None
    """What embedding.npy holds; null when none was asked for."""
    warnings: tuple[ReportWarning, ...] = ()
    """What limits this result."""
    log: tuple[str, ...] = ()
    """The processing log: contract section 8."""

    @property
    def nine_scores(self) -> dict[str, float]:
        """The nine scores of the whole recording by name, in either granularity."""
        if isinstance(self.scores, dict):
            return self.scores
        assert self.utterance_scores is not None
        return self.utterance_scores

    def recording_name(self, otherwise: str) -> str:
        """The name of the recording's file; `otherwise` for a result of the first WebUI."""
        return otherwise if self.source is None else self.source.name


_FRAME_FIELDS = (
    "labels",
    "frame_rate",
    "utterance_scores",
    "weighted",
    "segments",
    "utterances",
    "curve",
)


@dataclass(frozen=True)
class Files:
    """Where the files of a result are served: contract section 5."""

    output_dir: str
    """The folder, relative to the program's."""
    result_url: str
    """Address of result.json."""
    audio_url: str
    """Address of processed_audio.wav: what the model heard."""
    embedding_url: str | None
    """Address of embedding.npy; null when there is none."""


class Unreadable(ValueError):
    """Not the content of a result.json that this version can use."""


def now_text() -> str:
    """Local time as the contract writes it."""
    return datetime.now().strftime(TIME_FORMAT)


def is_time(value: str, form: str = TIME_FORMAT) -> bool:
    """Whether `value` is written just so: strptime alone takes "2026-1-4", which sorts wrongly."""
    try:
        return datetime.strptime(value, form).strftime(form) == value
    except (ValueError, TypeError):
        return False


# --- to and from JSON -----------------------------------------------------------------------------


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain data for JSON, floats to six decimals."""
    from pydantic_core import to_jsonable_python

    # By the values and not by the classes, whose adapter takes longer to be made than a clip.
    content: dict[str, Any] = to_jsonable_python(report)
    if report.granularity == "utterance":
        for name in _FRAME_FIELDS:
            del content[name]
    # Rows of frames are rounded where they are made, in numpy: an hour has 1.6 million figures.
    return {
        name: value if name == "scores" and isinstance(value, list) else rounded(value)
        for name, value in content.items()
    }


def to_json(report: Report) -> bytes:
    """The content of result.json: UTF-8, indented for people except where it holds frames."""
    from pydantic_core import to_json as encode

    # By pydantic's encoder: the standard one holds up every other thread for the 15 MB of an hour.
    indent = None if report.granularity == "frame" else 1
    return encode(to_dict(report), indent=indent, inf_nan_mode="null") + b"\n"


def with_files(content: bytes, files: Files) -> bytes:
    """The API's answer: the content of a result.json, and where its files are."""
    from pydantic_core import to_json as encode

    more = encode(files)
    return content.rstrip().removesuffix(b"}").rstrip() + b"," + more[1:]


def parse(content: bytes) -> Report:
    """The report in a result.json, of this schema or an older one.

    Raises:
        Unreadable: it is no JSON, no result, or of a later schema.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    try:
        data = from_json(content, allow_inf_nan=False)
        report = adapter(Report).validate_python(_upgraded(data))
    except (ValueError, ValidationError, LookupError, TypeError, AttributeError) as error:
        raise Unreadable(str(error)) from error
    if report.emotion not in EMOTIONS or not 0 <= report.confidence <= 1:
        raise Unreadable(f"emotion {report.emotion!r} with confidence {report.confidence!r}")
    if not is_time(report.timestamp):
        raise Unreadable(f"timestamp {report.timestamp!r}")
    if sorted(report.nine_scores) != sorted(EMOTIONS):
        raise Unreadable(f"scores of {', '.join(report.nine_scores)}")
    return report


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Plain data of any older schema as data of this one."""
    schema = data.get("schema")
    if schema == SCHEMA:
        return data
    if schema == "emotion2vec_ui.result/1":
        return data | {"schema": SCHEMA, "quality": _quality_of_schema_1(data["quality"])}
    if schema is not None:
        raise ValueError(f"schema {schema!r} is not known to this version")
    return _of_the_first_webui(data)


def _quality_of_schema_1(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Checks did not say which way their thresholds point."""

    def bound(check: Mapping[str, Any]) -> str:
        if check["threshold"] is None:
            return "none"
        if check["code"] == "duration":
            return "at_least" if check["threshold"] <= 1.0 else "at_most"
        at_most = ("clipping", "dropouts", "dc_offset", "onset", "offset")
        return "at_most" if check["code"] in at_most else "at_least"

    checks = [{**check, "bound": bound(check)} for check in quality["checks"]]
    return {**quality, "checks": checks}


def _of_the_first_webui(data: Mapping[str, Any]) -> dict[str, Any]:
    """Five fields and no more; what follows from the scores alone is filled in."""
    scores = data["scores"]
    more: dict[str, Any] = {}
    if isinstance(scores, list):
        # It wrote no scores of the utterance beside its frames; their mean stands in.
        labels = data.get("labels", EMOTIONS)
        mean = np.asarray(scores, np.float64).mean(axis=0)
        scores = dict(zip(labels, mean.tolist(), strict=True))
        more = {"labels": labels, "frame_rate": FRAMES_PER_S}
    nine = {emotion: float(scores[emotion]) for emotion in EMOTIONS}
    if more:
        more["utterance_scores"] = nine
    reading = scoring.read(nine, quality_verdict=None, built_in=False)
    return {
        "emotion": data["emotion"],
        "confidence": data["confidence"],
        "scores": data["scores"] if more else nine,
        "granularity": data["granularity"],
        "timestamp": data["timestamp"],
        **more,
        "reliability": reliability(reading, reading.advice),
        "distribution": distribution(reading, nine),
    }


def reliability(reading: scoring.Reading, advice_code: str) -> Reliability:
    """The part of a report that a reading of its scores gives, with the advice to give."""
    return Reliability(
        band=reading.band,
        advice_code=advice_code,
        caveats=reading.caveats,
        familiarity=reading.familiarity,
        calibrated_confidence=reading.calibrated_confidence,
    )


def distribution(reading: scoring.Reading, scores: Mapping[str, float]) -> Distribution:
    """The part of a report that tells the shape of its scores."""
    return Distribution(
        shape=reading.shape,
        leading=tuple(Leading(emotion, scores[emotion]) for emotion in reading.leading),
        mixture=reading.mixture or None,
        margin=reading.margin,
        entropy=reading.entropy_bits,
        entropy_normalised=reading.entropy_normalised,
    )


def rounded(value: Any) -> Any:
    """Plain data with its floats cut to `DECIMALS`, so that files can be read by people too."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value
