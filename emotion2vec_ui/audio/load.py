"""Reads a file into a `Clip`: decoded within bounds, mono, 16 kHz, finite, long enough.

libsndfile is tried first (WAV, FLAC, OGG, Opus, MP3, AIFF, ...), then FFmpeg through PyAV (M4A/AAC,
WebM from browsers, the sound of a video). Both decode in blocks, so the memory is one block and the
16 kHz result, whatever the file's own rate and channels are.

Channels are averaged with equal weights: FFmpeg's own down-mix to mono differs from that by up to
3 dB. Resampling is soxr's "very high quality" (its `VHQ` recipe): pass band to 0.91 of the lower
Nyquist frequency, stop band below -175 dB.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emotion2vec_ui.audio import coding
from emotion2vec_ui.audio.checks import Quality, assess
from emotion2vec_ui.audio.source import SourceMeter
from emotion2vec_ui.errors import (
    AudioDecodeError,
    AudioEmpty,
    AudioNotFinite,
    AudioSilent,
    AudioTooLong,
    AudioTooShort,
    AudioUnreadable,
)
from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.hashing import sha256_of

BLOCK_FRAMES = 65_536
"""Samples per channel decoded at a time: 1.5 s at 44.1 kHz."""

SAMPLE_RATE_BOUNDS_HZ = (1_000, 768_000)
"""Rates outside mean a damaged header: below is no speech, above is no sound card."""

MAX_CHANNELS = 64

MAX_SAMPLE = 1e12
"""Float samples may exceed 1; some programs write 32-bit integers as they are (2e9). Only damaged
files have values beyond this, and squares and sums of them would not be finite."""

MAX_NAME_CHARS = 200
"""Characters kept of an upload's name."""

CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,loas,matroska,mov,mp3,mpeg,mpegts,"
    "ogg,rm,tta,w64,wav,webm,wv,xwma"
)
"""FFmpeg demuxers that may open an upload. Play lists (hls, concat, dash, ...) are not among them:
they would make the server read other files or addresses named inside the upload."""

ENDINGS = (
    "3g2,3gp,aac,ac3,aif,aifc,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,m2ts,m4a,m4b,m4v,"
    "mka,mkv,mov,mp2,mp3,mp4,mpeg,mpg,mts,oga,ogg,ogv,opus,ra,rf64,rm,snd,spx,tta,ts,voc,w64,wav,"
    "wave,weba,webm,wma,wmv,wv,xwma"
)
"""Of the names of files that can be read: what to look for in a folder."""

SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split(","))
"""The same as `Path.suffix` gives them."""

_CORRECTED_LENGTH = re.compile(r"(?:data|SSND)\s*: (\d+) \(should be (\d+)\)")


@dataclass(frozen=True)
class Source:
    """The file as it came."""

    name: str
    """File name without folders, for people; never a path to open."""
    sha256: str
    """SHA-256 of the file's bytes, 64 hexadecimal digits."""
    container: str
    """Container as the decoder names it, such as `WAV` or `mov,mp4,m4a,3gp,3g2,mj2`."""
    codec: str
    """Codec as the decoder names it, such as `PCM_16` or `aac`."""
    sample_rate: int
    """Sample rate in Hz."""
    channels: int
    """Number of channels, 1 to 64."""
    duration_s: float
    """Duration in s of what was decoded, whatever the header says."""
    bytes: int
    """Size of the file in bytes."""


@dataclass(frozen=True)
class Clip:
    """A recording ready for the model."""

    samples: np.ndarray
    """float32 (n,), 16 kHz mono, finite, n >= 400, nominally in [-1, 1]."""
    source: Source
    """The file it was read from."""
    quality: Quality
    """The checks of the recording."""
    decode_s: float
    """Time in s that reading, resampling and judging took."""
    truncated: bool = False
    """Whether the header promised more than the file contains."""

    @property
    def duration_s(self) -> float:
        """Seconds at 16 kHz."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class _Stream:
    """A file opened by one decoder; `declared_frames` is the header's length, None without one."""

    container: str
    codec: str
    sample_rate: int
    channels: int
    declared_frames: int | None
    blocks: Iterator[np.ndarray]


class _Refused(Exception):
    """One decoder's reason why it cannot read the file; contains no path."""


def load(path: Path, *, name: str | None = None, max_duration_s: float = 3600.0) -> Clip:
    """Reads a recording.

    Args:
        path: The file.
        name: The file's name to show; None: the path's own name.
        max_duration_s: Longer recordings are refused, as soon as their length is known.

    Raises:
        AudioUnreadable: There is no such file, or it may not be read.
        AudioDecodeError: No decoder reads it; the message has each decoder's reason.
        AudioTooLong: Longer than `max_duration_s`.
        AudioTooShort: Less than 25 ms.
        AudioEmpty: No bytes or no samples.
        AudioNotFinite: Samples that are NaN, infinite or beyond 1e12.
        AudioSilent: All samples are equal.
    """
    started = time.perf_counter()
    name = shown_name(str(name or path))
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise AudioUnreadable(name=name, problem=error.strerror or "I/O error") from None
    if size == 0:
        raise AudioEmpty()
    reasons = []
    for decoder, open_stream in (("libsndfile", _open_soundfile), ("FFmpeg", _open_av)):
        try:
            with path.open("rb") as file:
                stream = open_stream(file)
                rate = _bit_rate(path, stream)
                samples, frames, quality = _read(stream, max_duration_s, rate)
            break
        except _Refused as reason:
            reasons.append(f"{decoder}: {reason}")
    else:
        raise AudioDecodeError(name=name, reasons="; ".join(reasons))
    source = Source(
        name=name,
        sha256=sha256_of(path),
        container=stream.container,
        codec=stream.codec,
        sample_rate=stream.sample_rate,
        channels=stream.channels,
        duration_s=frames / stream.sample_rate,
        bytes=size,
    )
    return Clip(
        samples=samples,
        source=source,
        quality=quality,
        decode_s=time.perf_counter() - started,
        # One frame of a codec may be missing in a healthy file; a tenth of a second is not that.
        truncated=stream.declared_frames is not None
        and stream.declared_frames - frames > 0.1 * stream.sample_rate,
    )


def shown_name(name: str) -> str:
    """Returns an upload's name to show and keep: no folders, at most `MAX_NAME_CHARS` characters.

    Control characters and lone surrogates, which JSON may contain, become U+FFFD.
    """
    # Windows browsers may send a whole path.
    name = Path(name.replace("\\", "/")).name[:MAX_NAME_CHARS]
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c for c in name)


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Returns float samples as int16; 1.0 is 32768, and what does not fit is clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def _bit_rate(path: Path, stream: _Stream) -> float | None:
    """Returns the bit rate of a lossy file's sound, in bit/s; None for others or if unknown."""
    if not coding.is_lossy(coding.plain_name(stream.codec)):
        return None
    with path.open("rb") as file:
        return coding.bits_per_s(file, containers=CONTAINERS)


def _read(
    stream: _Stream, max_duration_s: float, bits_per_s: float | None
) -> tuple[np.ndarray, int, Quality]:
    """Returns a stream as 16 kHz mono, the number of samples per channel read, and its quality."""
    import soxr

    rate = stream.sample_rate
    if not SAMPLE_RATE_BOUNDS_HZ[0] <= rate <= SAMPLE_RATE_BOUNDS_HZ[1]:
        raise _Refused(f"a sample rate of {rate} Hz is not believable")
    if not 1 <= stream.channels <= MAX_CHANNELS:
        raise _Refused(f"{stream.channels} channels are not believable")
    limit_frames = int(max_duration_s * rate)
    if stream.declared_frames is not None and stream.declared_frames > limit_frames:
        raise AudioTooLong(duration_s=stream.declared_frames / rate, limit_s=max_duration_s)
    resampler = None
    if rate != SAMPLE_RATE_HZ:
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE_HZ, 1, dtype="float32", quality="VHQ")
    meter = SourceMeter(rate, stream.channels)
    parts: list[np.ndarray] = []
    frames = 0
    not_finite = 0
    lowest, highest = np.inf, -np.inf
    for block in stream.blocks:
        frames += len(block)
        # Counted again here: headers lie, and some formats have none.
        if frames > limit_frames:
            raise AudioTooLong(duration_s=frames / rate, limit_s=max_duration_s)
        # Written so that NaN counts as well.
        bad = int(np.count_nonzero(~(np.abs(block) <= MAX_SAMPLE)))
        if bad:
            not_finite += bad
            continue
        meter.update(block)
        mono = block.mean(axis=1, dtype=np.float32)
        lowest, highest = min(lowest, float(mono.min())), max(highest, float(mono.max()))
        parts.append(mono if resampler is None else resampler.resample_chunk(mono))
    if frames == 0:
        raise AudioEmpty()
    if not_finite:
        raise AudioNotFinite(count=not_finite)
    if lowest == highest:
        raise AudioSilent()
    if resampler is not None:
        parts.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    samples = np.concatenate(parts)
    if len(samples) < RECEPTIVE_FIELD_SAMPLES:
        raise AudioTooShort(
            duration_ms=1000 * frames / rate,
            minimum_ms=1000 * RECEPTIVE_FIELD_SAMPLES / SAMPLE_RATE_HZ,
        )
    quality = assess(
        samples,
        meter.finish(),
        codec=stream.codec,
        bits_per_s=bits_per_s,
        source_rate_hz=rate,
        duration_s=frames / rate,
    )
    return samples, frames, quality


def _open_soundfile(file: BinaryIO) -> _Stream:
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise _Refused(_reason(error)) from None
    # Formats without a length in their header report the largest number there is.
    declared = sound.frames if 0 <= sound.frames < 2**62 else None
    # libsndfile corrects the length of a cut WAV or AIFF by the file's size and logs both. Lengths
    # of zero and from 2^31 up are written by programs that write to a pipe: no cut.
    corrected = _CORRECTED_LENGTH.search(sound.extra_info)
    if declared and corrected and int(corrected[2]) < int(corrected[1]) < 2**31 - 1:
        declared = declared * int(corrected[1]) // max(1, int(corrected[2]))

    def blocks() -> Iterator[np.ndarray]:
        with sound:
            while True:
                try:
                    block = sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    raise _Refused(_reason(error)) from None
                if not len(block):
                    return
                yield block

    return _Stream(
        container=sound.format,
        codec=sound.subtype,
        sample_rate=sound.samplerate,
        channels=sound.channels,
        declared_frames=declared,
        blocks=blocks(),
    )


def _open_av(file: BinaryIO) -> _Stream:
    import av

    try:
        container = av.open(
            file, "r", metadata_errors="ignore", options={"format_whitelist": CONTAINERS}
        )
        if not container.streams.audio:
            container.close()
            raise _Refused("it has no audio track")
        track = container.streams.audio[0]
        context = track.codec_context
        if context is None:
            container.close()
            raise _Refused("nothing decodes its audio track")
        rate, channels = context.sample_rate, context.channels
        declared = None
        if track.duration is not None and track.time_base is not None:
            declared = round(float(track.duration * track.time_base) * rate)
    except (av.FFmpegError, ValueError, OSError) as error:  # OSError: a seek to before the start
        raise _Refused(_reason(error)) from None

    def blocks() -> Iterator[np.ndarray]:
        # Changes of rate or layout inside the stream are converted to those of its beginning.
        converter = av.AudioResampler(format="fltp", layout=context.layout, rate=rate)
        good = 0
        with container:
            packets = container.demux(track)
            while True:
                try:
                    packet = next(packets)
                    decoded = [
                        out for frame in packet.decode() for out in converter.resample(frame)
                    ]
                except StopIteration:
                    break
                except (av.FFmpegError, OSError) as error:
                    # A damaged packet after good ones: keep what was decoded.
                    if good:
                        break
                    raise _Refused(_reason(error)) from None
                for frame in decoded:
                    good += 1
                    yield frame.to_ndarray().T
            if good:
                for frame in converter.resample(None):
                    yield frame.to_ndarray().T

    return _Stream(
        container=container.format.name,
        codec=context.name,
        sample_rate=rate,
        channels=channels,
        declared_frames=declared,
        blocks=blocks(),
    )


def _reason(error: Exception) -> str:
    """Returns the library's message without the path or object that it appends."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None)
    return str(text or type(error).__name__).strip().rstrip(".")
