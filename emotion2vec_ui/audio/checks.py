"""How good a recording is: clipping, spectrum, noise, silence, each with figure and verdict.

Two steps, because preprocessing hides faults: `SourceMeter` sees the decoded file as it is, block
by block, and `assess` sees the 16 kHz mono samples that the model hears.
No model of emotions, no language, no page; every conclusion is a code.

Check codes, with the unit of their figure, and the warning codes they may raise:

==================  ========  ======================================================================
check               unit      warnings
==================  ========  ======================================================================
clipping            fraction  clipping
clipping_hidden     dbfs      clipping_hidden (the level at which the tops are flat)
bandwidth           hz        bandwidth_telephone, bandwidth_upsampled, bandwidth_lossy,
                              bandwidth_narrow
low_band            db        low_band_weak (100-300 Hz, relative to all speech)
presence_band       db        presence_band_weak (2-4 kHz, relative to all speech)
dropouts            fraction  dropouts (share of speech quieter than the recording's own noise)
snr                 db        snr_low (under 20), snr_unstable (under 10)
level               dbfs      level_low
speech_present      s         speech_missing, speech_short
speech_share        fraction  speech_share_low
leading_silence     s         leading_silence_short
trailing_silence    s         trailing_silence_short
onset               db        onset_cut (level of the first 20 ms, relative to speech)
offset              db        offset_cut (the same of the last 20 ms)
duration            s         duration_short, duration_long
dc_offset           fraction  dc_offset
channels            corr      channels_opposed, channels_differ
codec               (none)    codec_telephone
resampling          hz        resampled_up
==================  ========  ======================================================================

Remedies: ``lower_gain``, ``undo_gain_at_source``, ``use_original_recording``, ``use_wider_band``,
``use_higher_bitrate``, ``check_low_cut``, ``uncover_microphone``, ``check_connection``,
``quieter_place``, ``move_closer``, ``speak``, ``trim_silence``, ``keep_300_ms``,
``start_earlier``, ``stop_later``, ``record_longer``, ``aim_for_3_to_8_s``, ``split_by_sentence``,
``remove_dc``, ``fix_channel_polarity``, ``split_channels``, ``use_lossless``; empty when there is
nothing to do.

What is left out: several speakers in one channel and overlapping speech. Telling them needs a
speaker model; pitch and level cannot do it honestly on emotional speech. Two *channels* that hold
different sounds are told (``channels_differ``), since mixing them to mono makes speakers overlap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emotion2vec_ui.audio.decibels import db
from emotion2vec_ui.audio.levels import (
    SMOOTH_FRAMES,
    SNR_CEILING_DB,
    Levels,
    Picture,
    frame_powers,
    measure_levels,
    picture,
)
from emotion2vec_ui.audio.source import SourceFigures
from emotion2vec_ui.audio.speech import speech_probability, speech_segments
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

# "The article" is the guide of the WebUI that this program rebuilds.

# The article: aim for 20 dB; under 10 dB the result is unstable and neutral rises.
SNR_TARGET_DB = 20.0
SNR_UNSTABLE_DB = 10.0
# The article: keep 0.3 s at both ends. Speech is found two windows (64 ms) early at most.
MARGIN_S = 0.3
MARGIN_MEASURED_S = 0.236
# The article: best 3-8 s, advised 1-30 s.
DURATION_BEST_S = (3.0, 8.0)
DURATION_ADVISED_S = (1.0, 30.0)
# Chosen, not calibrated: one clipped sample in a thousand is a few clipped peaks per second.
CLIPPED_WARN = 0.001
CLIPPED_FAIL = 0.01
# The model hears up to 8 kHz; resamplers and codecs take the last kHz without harm.
BANDWIDTH_FULL_HZ = 7000.0
# A fall of this much, from the mean of the 500 Hz below to everything 300 Hz above, is an edge.
# Chosen between natural speech and the steep filters of codecs and resamplers.
EDGE_DROP_DB = 20.0
# Narrow-band telephony passes 300-3400 Hz (ITU-T G.712) and ends below 4 kHz (8 kHz sampling).
BANDWIDTH_TELEPHONE_HZ = 4200.0
BANDWIDTH_FAIL_HZ = 2500.0
# Set on 300 recordings of three corpora (EMO-DB, RAVDESS, nEMO). The low band is under -33 dB in
# 98 % of them once everything under 300 Hz is cut; as they are, in no man's voice, but in a tenth
# of the women's of RAVDESS, who shout above 300 Hz. So it is a hint only.
# The upper band is never under -26 dB.
LOW_BAND_WEAK_DB = -33.0
PRESENCE_BAND_WEAK_DB = -35.0
# A linear recording never gets quieter than its own noise. In the narrow band (200 Hz, 40 ms) noise
# power scatters by 1.5 dB: 12 dB below its mean is eight standard deviations.
DROPOUT_BELOW_NOISE_DB = 12.0
DROPOUT_WARN = 0.02
DROPOUT_FAIL = 0.10
# Chosen, not calibrated.
LEVEL_LOW_DBFS = -45.0
SPEECH_SHORT_S = 0.5
SPEECH_SHARE_LOW = 0.3
DC_OFFSET_WARN = 0.02
# The first or last 20 ms are speech when they come this near to the active level and stand clear of
# the noise.
EDGE_S = 0.02
EDGE_NEAR_SPEECH_DB = -20.0
EDGE_ABOVE_NOISE_DB = 10.0
EDGE_MARGIN_S = 0.1
# Two channels: mixing loses more than 6 dB / they have little in common.
CHANNELS_OPPOSED_CORR = -0.5
CHANNELS_DIFFER_CORR = 0.3
CHANNEL_SILENT_DB = 25.0

# Verdicts of these never lower the verdict on the whole: hints for next time, or things that the
# model does not hear (it normalises each clip, which removes level and offset).
ADVISORY = frozenset(
    {"low_band", "leading_silence", "trailing_silence", "level", "dc_offset", "codec", "resampling"}
)

LOSSY_CODECS = ("mp3", "mp2", "aac", "opus", "vorbis", "wma", "ac3")
TELEPHONE_CODECS = ("ulaw", "mulaw", "alaw", "amr", "gsm", "g72", "g711", "speex", "evrc", "qcelp")


@dataclass(frozen=True)
class Check:
    """One property of the recording."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    code: str
    """Which property, such as "clipping" or "snr"."""
    value: float | None
    """The figure, in `unit`; null where it cannot be told."""
    unit: str
    """fraction, dbfs, db, hz, s, corr or empty."""
    threshold: float | None
    """What the figure is compared with, in `unit`; null where there is none."""
    verdict: str
    """ok, warn, fail or unknown."""
    remedy: str = ""
    """A code for what to do; empty when there is nothing. A check that is ok may carry a tip."""
    warning: str = ""
    """A code for what is wrong; empty when the verdict is ok or unknown."""


@dataclass(frozen=True)
class Quality:
    """The report on one recording."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    verdict: str
    """good, fair (a check warns) or poor (a check fails); tips do not count."""
    checks: tuple[Check, ...]
    """Each property of the recording, in a fixed order."""
    warnings: tuple[str, ...]
    """Codes of what is wrong, in the order of the checks."""
    speech: tuple[tuple[float, float], ...]
    """Start and end in s of each stretch of speech, in order, not overlapping."""
    picture: Picture
    """Envelope and spectrum, for drawing."""
    source: SourceFigures
    """Figures of the file as it came."""


def assess(
    samples: np.ndarray,
    source: SourceFigures,
    *,
    codec: str = "",
    source_rate_hz: int,
    duration_s: float,
) -> Quality:
    """Report on a recording.

    Never raises on odd audio (silence, constants, 25 ms): what cannot be told is `unknown`.

    Args:
        samples: float32 (n,), mono, 16 kHz: what the model hears.
        source: What `SourceMeter` found in the file.
        codec: Name of the codec as the decoder gives it (`mp3`, `pcm_mulaw`, `ULAW`), or empty.
        source_rate_hz: Sample rate of the file.
        duration_s: Duration of the file.
    """
    x = np.ascontiguousarray(samples, dtype=np.float32).reshape(-1)
    if not np.isfinite(x).all():
        x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    frames = frame_powers(x)
    probability = speech_probability(x)
    speech = speech_segments(probability, len(x) / SAMPLE_RATE_HZ)
    heard = measure_levels(x, frames, probability, speech)

    # Letters and digits only: decoders write the same codec as pcm_mulaw, ULAW and mu-law.
    codec_name = re.sub(r"[^a-z0-9]", "", codec.lower())
    checks = (
        *_clipping_checks(source),
        _bandwidth_check(source, codec_name, source_rate_hz),
        *_band_checks(heard),
        *_level_checks(heard),
        *_speech_checks(heard),
        _duration_check(duration_s),
        _held("dc_offset", source.dc_offset, "fraction", DC_OFFSET_WARN, "remove_dc", "dc_offset",
              over=True),
        *_channel_checks(source),
        _codec_check(codec_name),
        _held("resampling", float(source_rate_hz), "hz", float(SAMPLE_RATE_HZ), "use_wider_band",
              "resampled_up"),
    )  # fmt: skip
    counted = {c.verdict for c in checks if c.code not in ADVISORY}
    return Quality(
        verdict="poor" if "fail" in counted else "fair" if "warn" in counted else "good",
        checks=checks,
        warnings=tuple(c.warning for c in checks if c.warning),
        speech=speech,
        picture=picture(x, frames),
        source=source,
    )


def _held(
    code: str,
    value: float | None,
    unit: str,
    limit: float,
    remedy: str,
    warning: str,
    *,
    fail_at: float | None = None,
    fail_warning: str = "",
    over: bool = False,
    shown: float | None = None,
) -> Check:
    """A figure held against a limit: under it is bad, or over it with `over`.

    `shown` is the threshold to report where measuring allows for less than is asked.
    """
    threshold = limit if shown is None else shown
    if value is None:
        return Check(code, None, unit, threshold, "unknown")

    def beyond(bound: float | None) -> bool:
        return bound is not None and (value > bound if over else value < bound)

    if beyond(fail_at):
        return Check(code, value, unit, threshold, "fail", remedy, fail_warning or warning)
    if beyond(limit):
        return Check(code, value, unit, threshold, "warn", remedy, warning)
    return Check(code, value, unit, threshold, "ok")


def _clipping_checks(source: SourceFigures) -> tuple[Check, Check]:
    clipping = _held(
        "clipping", source.clipped_fraction, "fraction", CLIPPED_WARN, "lower_gain", "clipping",
        fail_at=CLIPPED_FAIL, over=True,
    )  # fmt: skip
    level = source.hidden_clipping_dbfs
    if level is None or clipping.verdict == "ok":
        return clipping, Check("clipping_hidden", level, "dbfs", None, "ok")
    return clipping, Check(
        "clipping_hidden", level, "dbfs", None, "warn", "undo_gain_at_source", "clipping_hidden"
    )


def _bandwidth_check(source: SourceFigures, codec_name: str, source_rate_hz: int) -> Check:
    # Above 8 kHz the model hears nothing, whatever the file holds.
    band_hz = min(source.bandwidth_hz, SAMPLE_RATE_HZ / 2)
    warning, remedy = "bandwidth_narrow", "use_wider_band"
    if band_hz <= BANDWIDTH_TELEPHONE_HZ:
        warning = "bandwidth_telephone"
        if source_rate_hz >= SAMPLE_RATE_HZ:
            # An 8 kHz recording in a bigger file: the lost band cannot come back.
            warning, remedy = "bandwidth_upsampled", "use_original_recording"
    elif any(c in codec_name for c in LOSSY_CODECS):
        warning, remedy = "bandwidth_lossy", "use_higher_bitrate"
    return _held("bandwidth", band_hz or None, "hz", BANDWIDTH_FULL_HZ, remedy, warning,
                 fail_at=BANDWIDTH_FAIL_HZ)  # fmt: skip


def _band_checks(heard: Levels) -> tuple[Check, Check, Check]:
    frames = heard.frames
    total = float(frames.total[heard.in_speech].mean()) if heard.in_speech.any() else 0.0

    def relative_db(band: NDArray[np.float32]) -> float | None:
        return db(float(band[heard.in_speech].mean()) / total) if total > 0 else None

    lost_share: float | None = None
    if total > 0 and heard.pauses_suffice:
        lost = np.zeros(len(frames.total), dtype=bool)
        for band in (frames.low, frames.presence):
            smooth = ndimage.uniform_filter1d(band, SMOOTH_FRAMES, mode="nearest")
            # The median: a dropout may also fall into a pause.
            noise = float(np.median(smooth[heard.pause]))
            # A mean over five frames this low means that all five are low.
            lost |= ndimage.maximum_filter1d(
                smooth < noise * 10 ** (-DROPOUT_BELOW_NOISE_DB / 10), SMOOTH_FRAMES
            )
        lost_share = float(lost[heard.in_speech].mean())
    return (
        _held("low_band", relative_db(frames.low), "db", LOW_BAND_WEAK_DB, "check_low_cut",
              "low_band_weak"),
        _held("presence_band", relative_db(frames.presence), "db", PRESENCE_BAND_WEAK_DB,
              "uncover_microphone", "presence_band_weak"),
        _held("dropouts", lost_share, "fraction", DROPOUT_WARN, "check_connection", "dropouts",
              fail_at=DROPOUT_FAIL, over=True),
    )  # fmt: skip


def _level_checks(heard: Levels) -> tuple[Check, Check]:
    snr_db = level_dbfs = None
    if heard.speech_power is not None:
        level_dbfs = db(heard.speech_power)
        if heard.noise is not None:
            snr_db = min(SNR_CEILING_DB, db(heard.speech_power / heard.noise))
    return (
        _held("snr", snr_db, "db", SNR_TARGET_DB, "quieter_place", "snr_low",
              fail_at=SNR_UNSTABLE_DB, fail_warning="snr_unstable"),
        _held("level", level_dbfs, "dbfs", LEVEL_LOW_DBFS, "move_closer", "level_low"),
    )  # fmt: skip


def _speech_checks(heard: Levels) -> tuple[Check, ...]:
    length_s = len(heard.x) / SAMPLE_RATE_HZ
    speech_s = share = leading_s = trailing_s = None
    if heard.speech:
        speech_s = float(sum(end - start for start, end in heard.speech))
        share = speech_s / length_s
        leading_s = heard.speech[0][0]
        trailing_s = max(0.0, length_s - heard.speech[-1][1])
    if heard.vad_known and not heard.speech:
        present = Check(
            "speech_present", 0.0, "s", SPEECH_SHORT_S, "fail", "speak", "speech_missing"
        )
    else:
        present = _held(
            "speech_present", speech_s, "s", SPEECH_SHORT_S, "record_longer", "speech_short"
        )
    edge = max(1, round(EDGE_S * SAMPLE_RATE_HZ))
    return (
        present,
        _held("speech_share", share, "fraction", SPEECH_SHARE_LOW, "trim_silence",
              "speech_share_low"),
        _held("leading_silence", leading_s, "s", MARGIN_MEASURED_S, "keep_300_ms",
              "leading_silence_short", shown=MARGIN_S),
        _held("trailing_silence", trailing_s, "s", MARGIN_MEASURED_S, "keep_300_ms",
              "trailing_silence_short", shown=MARGIN_S),
        _edge_check("onset", heard, heard.x[:edge], leading_s, "start_earlier"),
        _edge_check("offset", heard, heard.x[-edge:], trailing_s, "stop_later"),
    )  # fmt: skip


def _edge_check(
    code: str, heard: Levels, part: NDArray[np.float32], margin_s: float | None, remedy: str
) -> Check:
    """Whether the first or last 20 ms are speech already: it was cut into."""
    if margin_s is None or heard.speech_power is None:
        return Check(code, None, "db", EDGE_NEAR_SPEECH_DB, "unknown")
    power = float(np.var(part, dtype=np.float64))
    value = db(power / heard.speech_power)
    cut = (
        value > EDGE_NEAR_SPEECH_DB
        and power > (heard.noise or 0.0) * 10 ** (EDGE_ABOVE_NOISE_DB / 10)
        # A knock before a pause is no speech; silero takes up to 0.1 s to be sure of speech.
        and margin_s <= EDGE_MARGIN_S
    )
    if cut:
        return Check(code, value, "db", EDGE_NEAR_SPEECH_DB, "warn", remedy, f"{code}_cut")
    return Check(code, value, "db", EDGE_NEAR_SPEECH_DB, "ok")


def _duration_check(duration_s: float) -> Check:
    shortest, longest = DURATION_ADVISED_S
    if duration_s < shortest:
        return _held("duration", duration_s, "s", shortest, "record_longer", "duration_short")
    if duration_s > longest:
        return _held("duration", duration_s, "s", longest, "split_by_sentence", "duration_long",
                     over=True)  # fmt: skip
    best = DURATION_BEST_S[0] <= duration_s <= DURATION_BEST_S[1]
    return Check("duration", duration_s, "s", longest, "ok", "" if best else "aim_for_3_to_8_s")


def _channel_checks(source: SourceFigures) -> tuple[Check, ...]:
    """Nothing for mono; two channels that cancel or that hold different sounds are told."""
    if source.channels < 2:
        return ()
    value = source.channel_correlation
    silent = (source.channel_level_difference_db or 0.0) > CHANNEL_SILENT_DB
    if value is None or silent:
        # One channel is empty: the mix is the other one, only quieter.
        return (Check("channels", value, "corr", CHANNELS_DIFFER_CORR, "ok"),)
    if value < CHANNELS_OPPOSED_CORR:
        return (_held("channels", value, "corr", CHANNELS_OPPOSED_CORR, "fix_channel_polarity",
                      "channels_opposed"),)  # fmt: skip
    return (_held("channels", value, "corr", CHANNELS_DIFFER_CORR, "split_channels",
                  "channels_differ"),)  # fmt: skip


def _codec_check(codec_name: str) -> Check:
    if any(c in codec_name for c in TELEPHONE_CODECS):
        return Check("codec", None, "", None, "warn", "use_lossless", "codec_telephone")
    lossy = any(c in codec_name for c in LOSSY_CODECS)
    tip = "use_lossless" if lossy else ""
    return Check("codec", None, "", None, "ok" if codec_name else "unknown", tip)
