"""Judges a recording: clipping, spectrum, noise, speech, each with figure, threshold and verdict.

The figures come from two places, because preprocessing hides faults: `audio.source` measures the
decoded file, `audio.speech` and `audio.levels` the 16 kHz mono samples that the model gets.
Every conclusion is a code; the words for the codes are in `texts`.

Check codes, with the unit of their figure, and the warning codes they may give:

==================  ========  ======================================================================
check               unit      warnings
==================  ========  ======================================================================
clipping            fraction  clipping
clipping_hidden     dbfs      clipping_hidden (the level at which the tops are flat)
bandwidth           hz        bandwidth_telephone, bandwidth_upsampled, bandwidth_lossy,
                              bandwidth_narrow
low_band            db        low_band_weak (100-300 Hz, relative to all speech)
presence_band       db        presence_band_weak (2-4 kHz, relative to all speech)
dropouts            fraction  dropouts (share of speech in gaps, or under the recording's own noise)
reverberation       s         reverberant (time in which sound falls by 60 dB)
voices              db        voices_several (quietest 5 % of speech, relative to its mean)
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
channel_lag         ms        channels_spaced (one sound, later in one channel)
codec               (none)    codec_telephone
bit_rate            bit/s     bit_rate_low (per channel)
resampling          hz        resampled_up
==================  ========  ======================================================================

Remedies: ``lower_gain``, ``undo_gain_at_source``, ``use_original_recording``, ``use_wider_band``,
``use_higher_bitrate``, ``check_low_cut``, ``uncover_microphone``, ``check_connection``,
``quieter_place``, ``move_closer``, ``speak``, ``trim_silence``, ``keep_300_ms``,
``start_earlier``, ``stop_later``, ``record_longer``, ``aim_for_3_to_8_s``, ``split_by_sentence``,
``remove_dc``, ``fix_channel_polarity``, ``split_channels``, ``use_lossless``, ``damp_room``,
``one_voice``, ``use_one_channel``; empty when there is nothing to do.

While several voices are heard at once, the signal-to-noise ratio is `unknown`: the voices behind
count as speech, and a figure would be too high by 10 dB and more. Not checked: several speakers who
take turns in one channel; that needs a speaker model. Two *channels* with different content are
reported (``channels_differ``), since mixing them to mono makes speakers overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.audio import coding
from emotion2vec_ui.audio.decibels import db
from emotion2vec_ui.audio.gaps import find_gaps
from emotion2vec_ui.audio.levels import (
    SMOOTH_FRAMES,
    Levels,
    Picture,
    frame_powers,
    inside,
    measure_levels,
    picture,
)
from emotion2vec_ui.audio.moving import moving_maximum, moving_mean
from emotion2vec_ui.audio.room import ROOM_S, Room, measure_room
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
# An SNR over this says more about the codec's silence than about the room.
SNR_CEILING_DB = 60.0
# The article: best 3-8 s, advised 1-30 s.
DURATION_BEST_S = (3.0, 8.0)
DURATION_ADVISED_S = (1.0, 30.0)
# Chosen, not calibrated: one clipped sample in a thousand is a few clipped peaks per second.
CLIPPED_WARN = 0.001
CLIPPED_FAIL = 0.01
# The model gets content up to 8 kHz; resamplers and codecs remove the last kHz without harm.
BANDWIDTH_FULL_HZ = 7000.0
# Narrow-band telephony passes 300-3400 Hz (ITU-T G.712) and ends below 4 kHz (8 kHz sampling).
BANDWIDTH_TELEPHONE_HZ = 4200.0
BANDWIDTH_FAIL_HZ = 2500.0
# Set on 300 recordings of three corpora (EMO-DB, RAVDESS, nEMO). The low band is under -33 dB in
# 98 % of them once everything under 300 Hz is cut. Uncut, it is so for no male speaker, but in a
# tenth of the recordings of RAVDESS's female speakers, who shout above 300 Hz: a hint only.
# The upper band is never under -26 dB.
LOW_BAND_WEAK_DB = -33.0
PRESENCE_BAND_WEAK_DB = -35.0
# A linear recording never gets quieter than its own noise. In the narrow band (200 Hz, 40 ms) noise
# power scatters by 1.5 dB: 12 dB below its mean is eight standard deviations.
DROPOUT_BELOW_NOISE_DB = 12.0
# A share of such frames below this may be chance. Gaps with hard edges are no chance: one lost
# packet of 20 ms in 10 s of speech is reported.
DROPOUT_BELOW_NOISE_LEAST = 0.02
DROPOUT_WARN = 0.002
DROPOUT_FAIL = 0.10
# Chosen, not calibrated.
LEVEL_LOW_DBFS = -45.0
SPEECH_SHORT_S = 0.5
SPEECH_SHARE_LOW = 0.3
DC_OFFSET_WARN = 0.02
# The first or last 20 ms are speech when they are this close to the speech level and this far above
# the noise.
EDGE_S = 0.02
EDGE_NEAR_SPEECH_DB = -20.0
EDGE_ABOVE_NOISE_DB = 10.0
EDGE_MARGIN_S = 0.1
# Two channels: mixing loses more than 6 dB / they have little in common.
CHANNELS_OPPOSED_CORR = -0.5
CHANNELS_DIFFER_CORR = 0.3
CHANNEL_SILENT_DB = 25.0
# One sound in both channels: the coherence at the best lag is 0.43 and more with two microphones
# in a room whose reverberation is as strong as the direct sound, and at most 0.05 with two talkers
# (0.26 in 9 of 10 when each is heard in the other's channel 20 dB lower). From 0.5 ms on, the mix
# to mono has notches below 1 kHz.
CHANNELS_SAME_COHERENCE = 0.35
CHANNEL_LAG_MS = 0.5

# These never lower the verdict on the whole: hints for the next recording, or properties without
# effect on the model (it normalises each clip, which removes level and offset).
ADVISORY = frozenset(
    {"low_band", "leading_silence", "trailing_silence", "level", "dc_offset", "codec", "resampling"}
)


CheckVerdict = Literal["ok", "warn", "fail", "unknown"]
QualityVerdict = Literal["good", "fair", "poor"]
Bound = Literal["at_least", "at_most", "none"]
Unit = Literal["fraction", "dbfs", "db", "hz", "s", "ms", "bit/s", "corr", ""]


@dataclass(frozen=True)
class Check:
    """One property of the recording."""

    code: str
    """Which property, such as `clipping`, `snr` or `duration`."""
    value: float | None
    """The figure, in `unit`; null where it cannot be measured."""
    unit: Unit
    """Unit of `value` and `threshold`: `fraction` is a share from 0 to 1, `corr` a correlation
    from -1 to 1, `dbfs` dB relative to full scale; empty where there is no figure."""
    threshold: float | None
    """What `value` is compared with; null where there is nothing to compare. For the silence before
    and after speech 0.3 s is asked for and 0.236 s is enough: speech is found up to 64 ms early."""
    bound: Bound
    """`at_least`: good from `threshold` up; `at_most`: good up to `threshold`; `none`: there is no
    threshold."""
    verdict: CheckVerdict
    """`ok`, `warn`, `fail`, or `unknown` where it cannot be measured."""
    remedy: str = ""
    """Code of what to do; empty when there is nothing to do. With `ok` it is a tip."""
    warning: str = ""
    """Code of what is wrong; empty with `ok` and `unknown`."""


@dataclass(frozen=True)
class Quality:
    """All checks of one recording and what they were made from."""

    verdict: QualityVerdict
    """`good`, `fair` (a check warns) or `poor` (a check fails); checks that are hints only do not
    count."""
    checks: tuple[Check, ...]
    """The checks, always in the same order; `channels` and `channel_lag` only with two channels or
    more, `bit_rate` only with a lossy codec."""
    warnings: tuple[str, ...]
    """Codes of what is wrong, in the order of the checks."""
    speech: tuple[tuple[float, float], ...]
    """(start, end) in s of each stretch of speech, in order, not overlapping."""
    picture: Picture
    """Envelope and spectrum of the 16 kHz samples, for drawing."""
    source: SourceFigures
    """Figures of the decoded file."""


def assess(
    samples: np.ndarray,
    source: SourceFigures,
    *,
    codec: str = "",
    bits_per_s: float | None = None,
    source_rate_hz: int,
    duration_s: float,
) -> Quality:
    """Returns all checks of a recording.

    Never raises on unusual audio (silence, constants, 25 ms): what cannot be measured is `unknown`.

    Args:
        samples: float32 (n,), mono, 16 kHz: the model's input.
        source: What `SourceMeter` measured in the file.
        codec: Name of the codec as the decoder gives it (`mp3`, `pcm_mulaw`, `ULAW`), or empty.
        bits_per_s: Bit rate of the sound where a lossy codec is busy, in bit/s; None: not known.
        source_rate_hz: Sample rate of the file.
        duration_s: Duration of the file.
    """
    x = np.ascontiguousarray(samples, dtype=np.float32).reshape(-1)
    if not np.isfinite(x).all():
        x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    frames = frame_powers(x)
    probability = speech_probability(x)
    speech = speech_segments(probability, len(x) / SAMPLE_RATE_HZ)
    levels = measure_levels(x, frames, probability, speech)

    room = measure_room(x, speech)
    codec_name = coding.plain_name(codec)
    checks = (
        *_clipping_checks(source),
        _bandwidth_check(source, codec_name, source_rate_hz),
        *_band_checks(levels),
        _dropout_check(levels),
        *_room_checks(room),
        *_level_checks(levels, room),
        *_speech_checks(levels),
        _duration_check(duration_s),
        _compare("dc_offset", source.dc_offset, "fraction", "at_most", DC_OFFSET_WARN, "remove_dc",
                 "dc_offset"),
        *_channel_checks(source),
        *_codec_checks(codec_name, bits_per_s, source.channels),
        _compare("resampling", float(source_rate_hz), "hz", "at_least", float(SAMPLE_RATE_HZ),
                 "use_wider_band", "resampled_up"),
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


def _compare(
    code: str,
    value: float | None,
    unit: Unit,
    bound: Literal["at_least", "at_most"],
    limit: float,
    remedy: str,
    warning: str,
    *,
    fail_limit: float | None = None,
    fail_warning: str = "",
    shown_limit: float | None = None,
) -> Check:
    """Returns the check of a figure that must be at least or at most a limit.

    Args:
        code: Of the check.
        value: The figure; None gives `unknown`.
        unit: Of the figure.
        bound: Whether the figure must be at least or at most `limit`.
        limit: Beyond it the verdict is `warn`.
        remedy: Code of what to do beyond the limit.
        warning: Code of what is wrong beyond the limit.
        fail_limit: Beyond it the verdict is `fail`; None: never.
        fail_warning: Code of what is wrong beyond `fail_limit`; empty: `warning`.
        shown_limit: The threshold to report where the limit allows for an error of measurement;
            None: `limit`.
    """
    threshold = limit if shown_limit is None else shown_limit
    if value is None:
        return Check(code, None, unit, threshold, bound, "unknown")

    def beyond(end: float | None) -> bool:
        return end is not None and (value > end if bound == "at_most" else value < end)

    if beyond(fail_limit):
        return Check(code, value, unit, threshold, bound, "fail", remedy, fail_warning or warning)
    if beyond(limit):
        return Check(code, value, unit, threshold, bound, "warn", remedy, warning)
    return Check(code, value, unit, threshold, bound, "ok")


def _clipping_checks(source: SourceFigures) -> tuple[Check, Check]:
    clipping = _compare(
        "clipping", source.clipped_fraction, "fraction", "at_most", CLIPPED_WARN, "lower_gain",
        "clipping", fail_limit=CLIPPED_FAIL,
    )  # fmt: skip
    level = source.hidden_clipping_dbfs
    if level is None or clipping.verdict == "ok":
        return clipping, Check("clipping_hidden", level, "dbfs", None, "none", "ok")
    return clipping, Check(
        "clipping_hidden", level, "dbfs", None, "none", "warn", "undo_gain_at_source",
        "clipping_hidden",
    )  # fmt: skip


def _bandwidth_check(source: SourceFigures, codec_name: str, source_rate_hz: int) -> Check:
    # The model gets nothing above 8 kHz, whatever the file contains.
    band_hz = min(source.bandwidth_hz, SAMPLE_RATE_HZ / 2)
    warning, remedy = "bandwidth_narrow", "use_wider_band"
    if band_hz <= BANDWIDTH_TELEPHONE_HZ:
        warning = "bandwidth_telephone"
        if source_rate_hz >= SAMPLE_RATE_HZ:
            # An 8 kHz recording in a bigger file: the lost band cannot come back.
            warning, remedy = "bandwidth_upsampled", "use_original_recording"
    elif coding.is_lossy(codec_name):
        warning, remedy = "bandwidth_lossy", "use_higher_bitrate"
    return _compare("bandwidth", band_hz or None, "hz", "at_least", BANDWIDTH_FULL_HZ, remedy,
                    warning, fail_limit=BANDWIDTH_FAIL_HZ)  # fmt: skip


def _band_checks(levels: Levels) -> tuple[Check, Check]:
    frames, in_speech = levels.frames, levels.in_speech
    total = float(frames.total[in_speech].mean()) if in_speech.any() else 0.0

    def relative_db(band: NDArray[np.float32]) -> float | None:
        return db(float(band[in_speech].mean()) / total) if total > 0 else None

    return (
        _compare("low_band", relative_db(frames.low), "db", "at_least", LOW_BAND_WEAK_DB,
                 "check_low_cut", "low_band_weak"),
        _compare("presence_band", relative_db(frames.presence), "db", "at_least",
                 PRESENCE_BAND_WEAK_DB, "uncover_microphone", "presence_band_weak"),
    )  # fmt: skip


def _dropout_check(levels: Levels) -> Check:
    frames, in_speech = levels.frames, levels.in_speech
    lost_share: float | None = None
    if levels.speech_power is not None:
        lost = np.zeros(len(frames.total), dtype=bool)
        if levels.pauses_suffice:
            for band in (frames.low, frames.presence):
                smooth = moving_mean(band, SMOOTH_FRAMES)
                # The median: a dropout may also lie in a pause.
                noise = float(np.median(smooth[levels.pause]))
                # A mean over five frames this low means that all five are low.
                lost |= moving_maximum(
                    smooth < noise * 10 ** (-DROPOUT_BELOW_NOISE_DB / 10), SMOOTH_FRAMES
                )
            if lost[in_speech].mean() < DROPOUT_BELOW_NOISE_LEAST:
                lost[:] = False
        # A gap is 0 where it was made after an offset came in, else the offset.
        for zero in {0.0, float(levels.x.mean(dtype=np.float64))}:
            lost |= inside(frames.time_s, find_gaps(levels.x, zero, levels.speech_power))
        lost_share = float(lost[in_speech].mean())
    return _compare("dropouts", lost_share, "fraction", "at_most", DROPOUT_WARN, "check_connection",
                    "dropouts", fail_limit=DROPOUT_FAIL)  # fmt: skip


def _room_checks(room: Room) -> tuple[Check, Check]:
    reverberation = _compare("reverberation", room.decay_s, "s", "at_most", ROOM_S, "damp_room",
                             "reverberant")  # fmt: skip
    if room.valley_db is None or room.valley_limit_db is None:
        return reverberation, Check("voices", None, "db", None, "none", "unknown")
    return reverberation, _compare("voices", room.valley_db, "db", "at_most", room.valley_limit_db,
                                   "one_voice", "voices_several")  # fmt: skip


def _level_checks(levels: Levels, room: Room) -> tuple[Check, Check]:
    snr_db = level_dbfs = None
    if levels.speech_power is not None:
        level_dbfs = db(levels.speech_power)
        if levels.noise is not None and not room.several_voices:
            snr_db = min(SNR_CEILING_DB, db(levels.speech_power / levels.noise))
    return (
        _compare("snr", snr_db, "db", "at_least", SNR_TARGET_DB, "quieter_place", "snr_low",
                 fail_limit=SNR_UNSTABLE_DB, fail_warning="snr_unstable"),
        _compare("level", level_dbfs, "dbfs", "at_least", LEVEL_LOW_DBFS, "move_closer",
                 "level_low"),
    )  # fmt: skip


def _speech_checks(levels: Levels) -> tuple[Check, ...]:
    length_s = len(levels.x) / SAMPLE_RATE_HZ
    speech_s = share = leading_s = trailing_s = None
    if levels.speech:
        speech_s = float(sum(end - start for start, end in levels.speech))
        share = speech_s / length_s
        leading_s = levels.speech[0][0]
        trailing_s = max(0.0, length_s - levels.speech[-1][1])
    if levels.vad_known and not levels.speech:
        present = Check("speech_present", 0.0, "s", SPEECH_SHORT_S, "at_least", "fail", "speak",
                        "speech_missing")  # fmt: skip
    else:
        present = _compare("speech_present", speech_s, "s", "at_least", SPEECH_SHORT_S,
                           "record_longer", "speech_short")  # fmt: skip
    edge = max(1, round(EDGE_S * SAMPLE_RATE_HZ))
    onset = _edge_check("onset", levels, levels.x[:edge], leading_s, "start_earlier")
    offset = _edge_check("offset", levels, levels.x[-edge:], trailing_s, "stop_later")
    return (
        present,
        _compare("speech_share", share, "fraction", "at_least", SPEECH_SHARE_LOW, "trim_silence",
                 "speech_share_low"),
        _silence_check("leading_silence", leading_s, onset),
        _silence_check("trailing_silence", trailing_s, offset),
        onset,
        offset,
    )  # fmt: skip


def _silence_check(code: str, margin_s: float | None, edge: Check) -> Check:
    """Checks the silence at one end; short is a tip, and a warning only where speech is cut."""
    found = _compare(code, margin_s, "s", "at_least", MARGIN_MEASURED_S, "keep_300_ms",
                     f"{code}_short", shown_limit=MARGIN_S)  # fmt: skip
    if found.warning and not edge.warning:
        return Check(code, margin_s, "s", None, "none", "ok", "keep_300_ms")
    return found


def _edge_check(
    code: str, levels: Levels, part: NDArray[np.float32], margin_s: float | None, remedy: str
) -> Check:
    """Checks whether the first or last 20 ms are speech already, which means that it was cut."""
    if margin_s is None or levels.speech_power is None:
        return Check(code, None, "db", EDGE_NEAR_SPEECH_DB, "at_most", "unknown")
    power = float(np.var(part, dtype=np.float64))
    value = db(power / levels.speech_power)
    may_be_speech = (
        power > (levels.noise or 0.0) * 10 ** (EDGE_ABOVE_NOISE_DB / 10)
        # A knock before a pause is no speech; silero takes up to 0.1 s to detect speech.
        and margin_s <= EDGE_MARGIN_S
    )
    if may_be_speech or value <= EDGE_NEAR_SPEECH_DB:
        return _compare(code, value, "db", "at_most", EDGE_NEAR_SPEECH_DB, remedy, f"{code}_cut")
    # Loud, but noise or a knock: the threshold is one for speech.
    return Check(code, value, "db", None, "none", "ok")


def _duration_check(duration_s: float) -> Check:
    shortest, longest = DURATION_ADVISED_S
    if duration_s < shortest:
        return _compare("duration", duration_s, "s", "at_least", shortest, "record_longer",
                        "duration_short")  # fmt: skip
    if duration_s > longest:
        return _compare("duration", duration_s, "s", "at_most", longest, "split_by_sentence",
                        "duration_long")  # fmt: skip
    best = DURATION_BEST_S[0] <= duration_s <= DURATION_BEST_S[1]
    tip = "" if best else "aim_for_3_to_8_s"
    return Check("duration", duration_s, "s", longest, "at_most", "ok", tip)


def _channel_checks(source: SourceFigures) -> tuple[Check, ...]:
    """Checks whether two channels cancel each other, differ or lag; empty for mono."""
    if source.channels < 2:
        return ()
    value = source.channel_correlation
    lag_ms, coherence = source.channel_lag_ms, source.channel_coherence
    silent = (source.channel_level_difference_db or 0.0) > CHANNEL_SILENT_DB
    if value is None or silent:
        # One channel is empty: the mix is the other one, only quieter, whatever the correlation.
        empty = Check("channels", value, "corr", None, "none", "ok")
        return empty, Check("channel_lag", None, "ms", None, "none", "ok")
    same = lag_ms is not None and coherence is not None and abs(coherence) > CHANNELS_SAME_COHERENCE
    if same and abs(lag_ms or 0.0) > CHANNEL_LAG_MS:
        # One talk through two microphones: at no lag the correlation says little.
        lag = _compare("channel_lag", abs(lag_ms or 0.0), "ms", "at_most", CHANNEL_LAG_MS,
                       "use_one_channel", "channels_spaced")  # fmt: skip
        return Check("channels", coherence, "corr", None, "none", "ok"), lag
    if value < CHANNELS_OPPOSED_CORR:
        channels = _compare("channels", value, "corr", "at_least", CHANNELS_OPPOSED_CORR,
                            "fix_channel_polarity", "channels_opposed")  # fmt: skip
    else:
        channels = _compare("channels", value, "corr", "at_least", CHANNELS_DIFFER_CORR,
                            "split_channels", "channels_differ")  # fmt: skip
    if not same:
        return channels, Check("channel_lag", None, "ms", None, "none", "ok")
    return channels, _compare("channel_lag", abs(lag_ms or 0.0), "ms", "at_most", CHANNEL_LAG_MS,
                              "use_one_channel", "channels_spaced")  # fmt: skip


def _codec_checks(codec_name: str, bits_per_s: float | None, channels: int) -> tuple[Check, ...]:
    """Checks the codec, and the bit rate of a lossy one."""
    if coding.is_telephone(codec_name):
        return (Check("codec", None, "", None, "none", "warn", "use_lossless", "codec_telephone"),)
    lossy = coding.is_lossy(codec_name)
    verdict: CheckVerdict = "ok" if codec_name else "unknown"
    codec = Check("codec", None, "", None, "none", verdict, "use_lossless" if lossy else "")
    if not lossy:
        return (codec,)
    # Two channels at most: the others of surround sound share their bits unevenly.
    rate = None if bits_per_s is None else bits_per_s / min(2, max(1, channels))
    return codec, _compare("bit_rate", rate, "bit/s", "at_least",
                           coding.least_bits_per_s(codec_name), "use_higher_bitrate",
                           "bit_rate_low")  # fmt: skip
