"""Several hundred damaged recordings, made from good ones: what strangers may upload.

    python -m tests.damage FOLDER      writes them all, to look at one or to try another program

The same on every machine with the same codecs: each damage has a random generator of its own,
seeded with its name.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.synthetic_audio import speechlike, write_av, write_soundfile

SOUNDFILE_FORMATS = {
    "wav": ("WAV", "PCM_16", 16_000),
    "wav24": ("WAV", "PCM_24", 44_100),
    "wavfloat": ("WAV", "FLOAT", 48_000),
    "wavadpcm": ("WAV", "IMA_ADPCM", 16_000),
    "rf64": ("RF64", "PCM_16", 16_000),
    "w64": ("W64", "PCM_16", 16_000),
    "aiff": ("AIFF", "PCM_16", 22_050),
    "au": ("AU", "ULAW", 8_000),
    "caf": ("CAF", "ALAC_16", 44_100),
    "flac": ("FLAC", "PCM_16", 44_100),
    "ogg": ("OGG", "VORBIS", 44_100),
    "opus": ("OGG", "OPUS", 48_000),
    "mp3": ("MP3", "MPEG_LAYER_III", 44_100),
}
AV_FORMATS = {
    "m4a": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"),
    "wma": ("asf", "wmav2"),
    "mp4": ("mp4", "aac"),
    "ac3": ("ac3", "ac3"),
}

LIES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""What a 32-bit length or count is replaced with."""

BOMB_HOURS = 2


@dataclass(frozen=True)
class Damaged:
    """One file: a name that tells what was done, and its bytes."""

    name: str
    content: bytes


def good_files(folder: Path, duration_s: float = 0.8) -> dict[str, bytes]:
    """A short healthy recording in every format."""
    made = {}
    for kind, (container, subtype, rate_hz) in SOUNDFILE_FORMATS.items():
        path = folder / f"good.{kind}"
        sound = speechlike(duration_s, rate_hz)
        made[kind] = write_soundfile(path, sound, rate_hz, container, subtype).read_bytes()
    for kind, (container, codec) in AV_FORMATS.items():
        path = folder / f"good.{kind}"
        sound = speechlike(duration_s, 48_000)
        write_av(path, sound, 48_000, container, codec, video=kind == "mp4")
        made[kind] = path.read_bytes()
    return made


def corpus() -> Iterator[Damaged]:
    """Every damaged file."""
    with tempfile.TemporaryDirectory() as folder:
        good = good_files(Path(folder))
    kinds = list(good)
    for number, kind in enumerate(kinds):
        for label, damage in DAMAGES.items():
            name = f"{label}.{kind}"
            yield Damaged(name, damage(good[kind], random.Random(name)))
        other = kinds[(number + 5) % len(kinds)]
        yield Damaged(f"really-{other}.{kind}", good[other])
        yield Damaged(f"head-of-{other}.{kind}", good[other][:64] + good[kind][64:])
        yield Damaged(f"behind-{other}.{kind}", good[other] + good[kind])
    yield from _false_headers(good["wav"])
    yield from _bombs(good)
    yield from _no_audio()


def _truncated(share: float) -> Callable[[bytes, random.Random], bytes]:
    return lambda content, rng: content[: int(len(content) * share)]


def _cut_to(n_bytes: int) -> Callable[[bytes, random.Random], bytes]:
    return lambda content, rng: content[:n_bytes]


def _flipped(count: int, within: int | None = None) -> Callable[[bytes, random.Random], bytes]:
    def damage(content: bytes, rng: random.Random) -> bytes:
        changed = bytearray(content)
        for _ in range(count):
            at = rng.randrange(min(within or len(changed), len(changed)))
            changed[at] ^= 1 << rng.randrange(8)
        return bytes(changed)

    return damage


def _lying(order: str, seed: int) -> Callable[[bytes, random.Random], bytes]:
    """Four fields in the first or last kilobyte, where lengths and counts are, tell lies."""

    def damage(content: bytes, rng: random.Random) -> bytes:
        changed = bytearray(content)
        for _ in range(4):
            near_end = rng.random() < 0.5
            at = rng.randrange(4, min(1024, len(changed) - 4))
            at = len(changed) - 4 - at if near_end and seed % 2 else at
            at -= at % 2
            struct.pack_into(f"{order}I", changed, max(0, at), rng.choice(LIES))
        return bytes(changed)

    return damage


def _overwritten(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) // 2)
    return content[:at] + rng.randbytes(len(content) // 3) + content[at + len(content) // 3 :]


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) // 2)
    return content[:at] + bytes(len(content) // 3) + content[at + len(content) // 3 :]


def _repeated(content: bytes, rng: random.Random) -> bytes:
    at = len(content) // 2
    return content[:at] + content[at // 2 : at] * 20 + content[at:]


def _inserted(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(16, len(content))
    return content[:at] + rng.randbytes(1000) + content[at:]


def _without_start(content: bytes, rng: random.Random) -> bytes:
    return content[rng.randrange(8, 200) :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut-to-1-byte": _cut_to(1),
    "cut-to-4-bytes": _cut_to(4),
    "cut-to-12-bytes": _cut_to(12),
    "cut-to-44-bytes": _cut_to(44),
    "cut-to-200-bytes": _cut_to(200),
    "cut-to-a-tenth": _truncated(0.1),
    "cut-to-a-half": _truncated(0.5),
    "cut-at-the-end": lambda content, rng: content[:-1],
    "one-bit-of-the-head": _flipped(1, 64),
    "eight-bits-of-the-head": _flipped(8, 64),
    "many-bits-of-the-head": _flipped(60, 200),
    "one-bit": _flipped(1),
    "twenty-bits": _flipped(20),
    "thousand-bits": _flipped(1000),
    "lies-little-endian-1": _lying("<", 0),
    "lies-little-endian-2": _lying("<", 1),
    "lies-big-endian-1": _lying(">", 2),
    "lies-big-endian-2": _lying(">", 3),
    "overwritten": _overwritten,
    "zeroed": _zeroed,
    "repeated": _repeated,
    "inserted": _inserted,
    "without-its-start": _without_start,
}


def wav(
    data: bytes,
    *,
    format_tag: int = 1,
    channels: int = 1,
    rate_hz: int = 16_000,
    byte_rate: int = 32_000,
    block_align: int = 2,
    bits: int = 16,
    data_bytes: int | None = None,
    before_data: bytes = b"",
) -> bytes:
    """A WAV file whose header says what it is told to."""
    head = struct.pack("<HHIIHH", format_tag, channels, rate_hz, byte_rate, block_align, bits)
    claimed = len(data) if data_bytes is None else data_bytes
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + before_data
    body += b"data" + struct.pack("<I", claimed) + data
    return b"RIFF" + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


def _false_headers(good: bytes) -> Iterator[Damaged]:
    data = good[44:]
    for field, values in {
        "channels": (0, 63, 64, 65, 1024, 65_535),
        "rate_hz": (0, 1, 999, 768_001, 0x7FFFFFFF, 0xFFFFFFFF),
        "bits": (0, 1, 7, 33, 64, 65_535),
        "block_align": (0, 1, 65_535),
        "byte_rate": (0, 0xFFFFFFFF),
        "format_tag": (0, 2, 3, 6, 7, 17, 85, 0x161, 0xFFFE, 0xFFFF),
        # Hours at 16 kHz: 0x10000000 bytes are 2.3 h, the others what pipes and old programs write.
        "data_bytes": (0, 1, 0x10000000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF),
    }.items():
        for value in values:
            yield Damaged(f"{field}-is-{value}.wav", wav(data, **{field: value}))
    many = (b"junk" + struct.pack("<I", 0)) * 50_000
    yield Damaged("fifty-thousand-chunks.wav", wav(data, before_data=many))
    endless = b"LIST" + struct.pack("<I", 0xFFFFFFFF)
    yield Damaged("a-chunk-beyond-the-end.wav", wav(data, before_data=endless))
    flac = bytearray(flac_silence(hours=0.01, channels=1, rate_hz=16_000))
    flac[26:42] = bytes(16)  # the checksum of the samples
    yield Damaged("no-checksum.flac", bytes(flac))


def flac_silence(hours: float, channels: int, rate_hz: int) -> bytes:
    """FLAC: 65,535 samples of silence take some ten bytes."""
    file = io.BytesIO()
    block = np.zeros((rate_hz * 10, channels), np.int16)
    with soundfile.SoundFile(
        file, "w", rate_hz, channels, format="FLAC", subtype="PCM_16"
    ) as sound:
        for _ in range(round(hours * 360)):
            sound.write(block)
    return file.getvalue()


def without_length(flac: bytes) -> bytes:
    """FLAC whose header says nothing of its length: 36 bits of STREAMINFO from byte 21 on."""
    changed = bytearray(flac)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


def _bombs(good: dict[str, bytes]) -> Iterator[Damaged]:
    hours = flac_silence(BOMB_HOURS, 1, 8_000)
    yield Damaged("hours-of-silence.flac", hours)
    yield Damaged("hours-of-silence-untold.flac", without_length(hours))
    wide = flac_silence(30 / 3600, 8, 655_350)
    yield Damaged("eight-channels-at-655-kHz.flac", wide)
    yield Damaged("eight-channels-at-655-kHz-untold.flac", without_length(wide))
    yield Damaged("two-hundred-streams-in-a-row.ogg", good["ogg"] * 200)
    yield Damaged("two-hundred-streams-in-a-row.opus", good["opus"] * 200)
    yield Damaged("five-hundred-in-a-row.mp3", good["mp3"] * 500)
    yield Damaged("a-200-MB-tag.mp3", b"ID3\x04\x00\x00\x5f\x5e\x10\x00" + good["mp3"])
    yield Damaged("nothing-but-zeros.wav", bytes(2_000_000))
    yield Damaged("nothing-but-frame-marks.mp3", b"\xff\xfb\x90\x00" * 100_000)
    yield Damaged("nothing-but-page-marks.ogg", b"OggS\x00\x02" + b"OggS" * 100_000)
    yield Damaged("nothing-but-boxes.m4a", struct.pack(">I4s", 8, b"moov") * 100_000)
    deep = b""
    for _ in range(2_000):
        deep = struct.pack(">I4s", len(deep) + 8, b"moov") + deep
    yield Damaged("boxes-in-boxes.m4a", struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + deep)


def _no_audio() -> Iterator[Damaged]:
    yield Damaged("empty.wav", b"")
    yield Damaged("words.wav", b"not audio " * 1000)
    yield Damaged("noise.mp3", random.Random(0).randbytes(300_000))
    yield Damaged("packed.wav", gzip.compress(bytes(50_000_000)))
    yield Damaged("packed-too.ogg", zlib.compress(bytes(50_000_000)))
    secret = "file:///etc/passwd"
    # Lists that name other files or addresses: reading them would be reading for the sender.
    yield Damaged("list.m3u8", f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode())
    yield Damaged("list.wav", f"ffconcat version 1.0\nfile '{secret}'\n".encode())
    yield Damaged(
        "list.mpd", b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>'
    )
    yield Damaged("session.sdp", b"v=0\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n")
    yield Damaged("picture.wav", b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(5000))
    yield Damaged("midi.wav", b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x60" + bytes(500))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    total = 0
    for total, item in enumerate(corpus(), start=1):  # noqa: B007 - the last number is shown
        (target / item.name).write_bytes(item.content)
    print(f"{total} files")
