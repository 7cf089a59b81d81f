"""What lossy codecs cost: the family of a codec, and the bit rate of a file's sound."""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np

# As decoders write them, letters and digits only: libsndfile calls MP3 MPEG_LAYER_III.
LOSSY_CODECS = ("mp3", "mp2", "mpeglayer", "aac", "opus", "vorbis", "wma", "ac3")
TELEPHONE_CODECS = ("ulaw", "mulaw", "alaw", "amr", "gsm", "g72", "g711", "speex", "evrc", "qcelp")

# The least per channel, in bit/s. Chosen between the rates that change answers (MP3 at 32 kbit/s,
# Opus at 12) and those that do not (MP3 at 64, Opus at 24; see the robustness test).
LEAST_BITS_PER_S = 48_000.0
LEAST_BITS_PER_S_OF = {"opus": 20_000.0, "aac": 32_000.0, "vorbis": 32_000.0}

# Codecs with a variable rate spend little on silence: the rate of the packets that only a tenth
# exceed is that of speech. Of 45 recordings with up to half silence, Opus at 12 kbit/s has 13 to 15
# there and 8 to 12 on average.
BUSY_QUANTILE = 0.9
# Packets looked at: half an hour of MP3. More would only cost time.
MAX_PACKETS = 70_000


def plain_name(codec: str) -> str:
    """Returns a codec's name in letters and digits: decoders write pcm_mulaw, ULAW and mu-law."""
    return re.sub(r"[^a-z0-9]", "", codec.lower())


def is_lossy(codec_name: str) -> bool:
    """Whether a codec, by its `plain_name`, is lossy and made for music or the web."""
    return any(c in codec_name for c in LOSSY_CODECS)


def is_telephone(codec_name: str) -> bool:
    """Whether a codec, by its `plain_name`, is one of the telephone's."""
    return any(c in codec_name for c in TELEPHONE_CODECS)


def least_bits_per_s(codec_name: str) -> float:
    """Returns the least bit rate per channel of a lossy codec, in bit/s."""
    for name, least in LEAST_BITS_PER_S_OF.items():
        if name in codec_name:
            return least
    return LEAST_BITS_PER_S


def bits_per_s(file: BinaryIO, *, containers: str) -> float | None:
    """Returns the bit rate of the first audio track where it is busy, without decoding it.

    Args:
        file: The file, from its start.
        containers: FFmpeg demuxers that may open it, separated by commas.

    Returns:
        bit/s of all channels; None where FFmpeg cannot tell.
    """
    import av

    rates = []
    try:
        options = {"format_whitelist": containers}
        with av.open(file, "r", metadata_errors="ignore", options=options) as container:
            track = container.streams.audio[0]
            for packet in container.demux(track):
                if packet.size and packet.duration and packet.time_base:
                    rates.append(8 * packet.size / float(packet.duration * packet.time_base))
                if len(rates) >= MAX_PACKETS:
                    break
    except (av.FFmpegError, ValueError, OSError, IndexError):
        # A file that only libsndfile reads, or a damaged end: what was seen counts.
        pass
    return float(np.quantile(rates, BUSY_QUANTILE)) if rates else None
