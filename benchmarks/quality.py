"""How often the quality report finds a damage, and how often it finds one that is not there.

    python benchmarks/quality.py DATA [--clips 20] [--seed 0] [--no-cost]

DATA has a manifest.csv with the columns path (relative to it), corpus and speaker. Of each corpus,
clips of different speakers are taken as they are (clean) and with one damage each, written to a
file and read as the app reads it. Writes benchmarks/results/quality.md: hits of the damaged and
false alarms of the clean clips, per damage and corpus, and the cost.
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import soxr  # noqa: E402
from scipy import ndimage, signal  # noqa: E402

from benchmarks.memory import peak_rss_mb  # noqa: E402
from benchmarks.synthetic_audio import speechlike, write_av  # noqa: E402
from emotion2vec_ui.audio.checks import Quality  # noqa: E402
from emotion2vec_ui.audio.damage import active_level_dbfs  # noqa: E402
from emotion2vec_ui.audio.load import load  # noqa: E402
from emotion2vec_ui.frames import SAMPLE_RATE_HZ  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "quality.md"
HOUR_S = 3600.0


@dataclass(frozen=True)
class Clip:
    """A clean recording: float32 (n,), 16 kHz."""

    samples: np.ndarray
    corpus: str
    speaker: str


@dataclass(frozen=True)
class Sound:
    """A file to be: float32 (n,) or (n, channels), its rate in Hz, and how it is coded."""

    samples: np.ndarray
    rate_hz: int = SAMPLE_RATE_HZ
    codec: str = "PCM_16"
    bits_per_s: int = 0


Damage = Callable[[Clip, "Pool", np.random.Generator], Sound]


class Pool:
    """All recordings of a data directory.

    Args:
        data: Directory with manifest.csv.
    """

    def __init__(self, data: Path) -> None:
        with (data / "manifest.csv").open(encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))
        self._data = data
        self.read = functools.cache(self._read)

    def corpora(self) -> list[str]:
        """Names, in the order of the manifest."""
        return list(dict.fromkeys(row["corpus"] for row in self.rows))

    def clips(self, corpus: str, count: int, rng: np.random.Generator) -> list[Clip]:
        """`count` clips, of as many speakers as there are."""
        rows = [row for row in self.rows if row["corpus"] == corpus]
        shuffled = [rows[at] for at in rng.permutation(len(rows))]
        taken: list[dict[str, str]] = []
        while len(taken) < min(count, len(rows)):
            speakers: set[str] = set()
            for row in [row for row in shuffled if row not in taken]:
                if row["speaker"] not in speakers and len(taken) < count:
                    speakers.add(row["speaker"])
                    taken.append(row)
        return [self._clip(row) for row in taken]

    def others(self, clip: Clip, count: int, rng: np.random.Generator) -> list[Clip]:
        """Clips of other speakers of the same corpus."""
        rows = [
            row
            for row in self.rows
            if row["corpus"] == clip.corpus and row["speaker"] != clip.speaker
        ]
        return [self._clip(rows[int(at)]) for at in rng.integers(len(rows), size=count)]

    def _clip(self, row: dict[str, str]) -> Clip:
        return Clip(self.read(row["path"]), row["corpus"], row["speaker"])

    def _read(self, path: str) -> np.ndarray:
        samples, rate_hz = soundfile.read(self._data / path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        return mono if rate_hz == SAMPLE_RATE_HZ else soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)


# --- damages --------------------------------------------------------------------------------------


def clean(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """As it is."""
    return Sound(clip.samples)


def loudest(clip: Clip) -> float:
    """The largest magnitude, over 0."""
    return max(1e-9, float(np.abs(clip.samples).max()))


def clipped(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """The loudest 2 % of the samples are beyond full scale."""
    return Sound(np.clip(clip.samples / np.quantile(np.abs(clip.samples), 0.98), -1, 1))


def clipped_then_lowered(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """Clipped, then turned down by 6 dB."""
    return Sound(0.5 * clipped(clip, pool, rng).samples)


def telephone(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """G.711 at 8 kHz."""
    return Sound(soxr.resample(clip.samples, SAMPLE_RATE_HZ, 8000), 8000, "ULAW")


def resampled_up(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """To 8 kHz and up again."""
    narrow = soxr.resample(clip.samples, SAMPLE_RATE_HZ, 8000)
    return Sound(soxr.resample(narrow, 8000, SAMPLE_RATE_HZ))


def quiet(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """Speech at -55 dBFS."""
    gain_db = -55 - active_level_dbfs(clip.samples)
    return Sound(clip.samples * 10 ** (gain_db / 20), codec="PCM_24")


def offset(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """5 % of full scale."""
    return Sound(0.9 * clip.samples / loudest(clip) + 0.05)


def cut(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """Begins and ends in the middle of loud sound."""
    power = ndimage.uniform_filter1d(clip.samples.astype(float) ** 2, SAMPLE_RATE_HZ // 50)
    loud = np.flatnonzero(power > power.max() / 10)
    return Sound(clip.samples[loud[0] : loud[-1]])


def noisy(kind: str, snr_db: float) -> Damage:
    """White or pink noise (flat under 60 Hz) or hum of 50 Hz with harmonics, at an SNR."""

    def make(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
        n = len(clip.samples)
        if kind == "hum":
            time_s = np.arange(n) / SAMPLE_RATE_HZ
            noise = sum(np.sin(2 * np.pi * 50 * k * time_s + k) / k for k in range(1, 8))
        else:
            noise = rng.standard_normal(n)
            if kind == "pink":
                hz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ)
                noise = np.fft.irfft(np.fft.rfft(noise) / np.sqrt(np.maximum(hz, 60)), n)
        return Sound(_at_snr(clip.samples, noise, snr_db))

    return make


def babble(voices: int, snr_db: float) -> Damage:
    """Other speakers of the corpus, each at the same level, without the silence at their ends."""

    def make(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
        n = len(clip.samples)
        noise = np.zeros(n)
        for _ in range(voices):
            parts: list[np.ndarray] = []
            while sum(map(len, parts)) < n + SAMPLE_RATE_HZ:
                (other,) = pool.others(clip, 1, rng)
                level = 10 ** (active_level_dbfs(other.samples) / 20)
                parts.append(_without_ends(other.samples) / max(level, 1e-9))
            start = int(rng.integers(SAMPLE_RATE_HZ))
            noise += np.concatenate(parts)[start : start + n]
        return Sound(_at_snr(clip.samples, noise, snr_db))

    return make


def gaps(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """Four gaps of 40 ms of digital zero in speech."""
    samples = clip.samples.copy()
    n = SAMPLE_RATE_HZ // 25
    power = ndimage.uniform_filter1d(samples.astype(float) ** 2, SAMPLE_RATE_HZ // 20)
    speech = np.flatnonzero(power > power.max() * 10**-2.5)
    speech = speech[(speech > n) & (speech < len(samples) - n)]
    for middle in rng.choice(speech, 4):
        samples[middle - n // 2 : middle + n // 2] = 0
    return Sound(samples)


def coded(codec: str, bits_per_s: int) -> Damage:
    """Through a lossy codec, as a file of it."""

    def make(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
        return Sound(0.9 * clip.samples / loudest(clip), codec=codec, bits_per_s=bits_per_s)

    return make


def room(decay_s: float, direct_db: float, delay: int = 0) -> Damage:
    """A room: exponentially decaying noise after the direct sound, which is stronger by so much."""

    def make(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
        response = _response(decay_s, direct_db, delay, rng)
        return Sound(_normal(signal.fftconvolve(clip.samples, response)[: len(clip.samples)]))

    return make


def inverted(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """The second channel upside down, and 1 dB quieter."""
    return Sound(np.stack([clip.samples, -0.9 * clip.samples], axis=1))


def delayed(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """The second channel 2 ms later."""
    n = SAMPLE_RATE_HZ // 500
    later = np.concatenate([np.zeros(n, np.float32), clip.samples[:-n]])
    return Sound(np.stack([clip.samples, later], axis=1))


def two_microphones(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """In a room of 0.4 s, 1 to 15 ms apart; reverberation and direct sound are as strong."""
    delay = int(rng.uniform(0.001, 0.015) * SAMPLE_RATE_HZ)
    heard = [
        room(0.4, 0.0, delay=one)(clip, pool, rng).samples for one in rng.permutation([0, delay])
    ]
    return Sound(np.stack(heard, axis=1))


def two_parties(clip: Clip, pool: Pool, rng: np.random.Generator) -> Sound:
    """A call: each talks in one channel and is heard 30 dB lower in the other; a third overlaps."""
    (other,) = pool.others(clip, 1, rng)
    overlap = min(len(clip.samples), len(other.samples)) // 3
    n = len(clip.samples) + len(other.samples) - overlap
    pair = np.zeros((n, 2), dtype=np.float32)
    pair[: len(clip.samples), 0] = clip.samples
    pair[n - len(other.samples) :, 1] = other.samples
    return Sound(pair + 10 ** (-30 / 20) * pair[:, ::-1])


def _at_snr(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    gain = 10 ** ((active_level_dbfs(samples) - snr_db) / 20) / np.sqrt(np.mean(noise**2))
    return _normal(samples + gain * noise)


def _normal(samples: np.ndarray) -> np.ndarray:
    """At half of full scale at most: nothing clips."""
    return (0.5 * samples / max(1e-9, float(np.abs(samples).max()))).astype(np.float32)


def _without_ends(samples: np.ndarray) -> np.ndarray:
    power = ndimage.uniform_filter1d(samples.astype(float) ** 2, SAMPLE_RATE_HZ // 40)
    loud = np.flatnonzero(power > power.max() / 1000)
    return samples[loud[0] : loud[-1] + 1]


def _response(decay_s: float, direct_db: float, delay: int, rng: np.random.Generator) -> np.ndarray:
    n = int(1.2 * decay_s * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / SAMPLE_RATE_HZ / decay_s)
    tail[: SAMPLE_RATE_HZ // 300] = 0
    tail *= 10 ** (-direct_db / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1
    return np.concatenate([np.zeros(delay), tail])


# --- what counts as found -------------------------------------------------------------------------


def warns(*codes: str) -> Callable[[Quality], bool]:
    """Any of these warnings."""
    return lambda quality: bool(set(codes) & set(quality.warnings))


def snr_near(snr_db: float) -> Callable[[Quality], bool]:
    """The SNR within 1 dB."""

    def found(quality: Quality) -> bool:
        (snr,) = [one for one in quality.checks if one.code == "snr"]
        return snr.value is not None and abs(snr.value - snr_db) <= 1.0

    return found


def several_voices(quality: Quality) -> bool:
    """Told, and no figure of the SNR beside it."""
    (snr,) = [one for one in quality.checks if one.code == "snr"]
    return "voices_several" in quality.warnings and snr.value is None


SPACED = warns("channels_spaced")
ROWS: dict[str, tuple[Damage, Callable[[Quality], bool]]] = {
    "clipping, 2 % of samples": (clipped, warns("clipping")),
    "the same, turned down by 6 dB": (clipped_then_lowered, warns("clipping_hidden")),
    "telephone": (telephone, warns("bandwidth_telephone")),
    "8 kHz, resampled up": (resampled_up, warns("bandwidth_upsampled")),
    "speech at -55 dBFS": (quiet, warns("level_low")),
    "offset of 5 %": (offset, warns("dc_offset")),
    "cut at both ends": (cut, warns("onset_cut", "offset_cut")),
    "white noise at 10 dB, within 1 dB": (noisy("white", 10), snr_near(10)),
    "pink noise at 10 dB, within 1 dB": (noisy("pink", 10), snr_near(10)),
    "hum at 10 dB, within 1 dB": (noisy("hum", 10), snr_near(10)),
    "four gaps of 40 ms": (gaps, warns("dropouts")),
    "MP3 at 32 kbit/s": (coded("libmp3lame", 32_000), warns("bit_rate_low")),
    "Opus at 12 kbit/s": (coded("libopus", 12_000), warns("bit_rate_low")),
    "room of 0.8 s, direct sound as strong": (room(0.8, 0.0), warns("reverberant")),
    "room of 0.8 s, direct sound 3 dB stronger": (room(0.8, 3.0), warns("reverberant")),
    "babble of 4 voices at 10 dB": (babble(4, 10), several_voices),
    "babble of 8 voices at 10 dB": (babble(8, 10), several_voices),
    "babble of 4 voices at 0 dB": (babble(4, 0), several_voices),
    "babble of 8 voices at 0 dB": (babble(8, 0), several_voices),
    "second channel inverted": (inverted, warns("channels_opposed")),
    "second channel 2 ms later": (delayed, SPACED),
    "two microphones in a room, 1 to 15 ms": (two_microphones, SPACED),
    "two parties of a call": (two_parties, warns("channels_differ")),
    "less than 0.3 s of silence (a false alarm only)": (
        clean,
        warns("leading_silence_short", "trailing_silence_short"),
    ),
}
CHANNEL_ROWS = ("second", "two ")
"""Beginnings of the rows whose clean clips have two equal channels."""


def judged(sound: Sound, folder: Path) -> Quality:
    """The quality of a sound, written to a file and read as the app reads it."""
    if sound.bits_per_s:
        container = {"libmp3lame": "mp3", "libopus": "ogg"}[sound.codec]
        path = write_av(folder / f"a.{container}", sound.samples, sound.rate_hz, container,
                        sound.codec, bit_rate=sound.bits_per_s)  # fmt: skip
    else:
        path = folder / "a.wav"
        soundfile.write(path, sound.samples, sound.rate_hz, subtype=sound.codec)
    return load(path).quality


def table(pool: Pool, count: int, seed: int, folder: Path) -> list[str]:
    """Markdown: a row per damage, hits and false alarms per corpus."""
    corpora = pool.corpora()
    cells: dict[str, list[str]] = {name: [] for name in ROWS}
    for corpus in corpora:
        clips = pool.clips(corpus, count, np.random.default_rng(seed))
        mono = [judged(Sound(clip.samples), folder) for clip in clips]
        stereo = [judged(Sound(np.stack([clip.samples] * 2, axis=1)), folder) for clip in clips]
        for number, (name, (damage, found)) in enumerate(ROWS.items()):
            rng = np.random.default_rng([seed, number])
            alarms = sum(map(found, stereo if name.startswith(CHANNEL_ROWS) else mono))
            if damage is clean:
                cells[name].append(f"- / {alarms}")
                continue
            hits = sum(found(judged(damage(clip, pool, rng), folder)) for clip in clips)
            cells[name].append(f"{hits} / {alarms}")
            print(f"{corpus}: {name}: {cells[name][-1]}", flush=True)
    head = f"| damage | {' | '.join(corpora)} |"
    lines = [f"| {name} | {' | '.join(row)} |" for name, row in cells.items()]
    return [head, "|---" * (len(corpora) + 1) + "|", *lines]


def cost(folder: Path) -> list[str]:
    """Markdown: time and memory of an hour of audio, decoding included."""
    long_path = folder / "hour.wav"
    minute = speechlike(60.0)
    with soundfile.SoundFile(long_path, "w", SAMPLE_RATE_HZ, 1, "PCM_16") as file:
        for _ in range(int(HOUR_S / 60)):
            file.write(minute)
    before_mb = peak_rss_mb()
    started = time.process_time()
    load(long_path)
    took_s = time.process_time() - started
    return [
        f"An hour of mono at 16 kHz: {took_s:.1f} s of processor time to decode and judge it, "
        f"{took_s / HOUR_S:.2%} of its length; {peak_rss_mb() - before_mb:.0f} MB more memory, "
        f"of them {HOUR_S * SAMPLE_RATE_HZ * 4 / 1e6:.0f} MB its samples."
    ]


def main() -> None:
    """Prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="directory with manifest.csv")
    parser.add_argument("--clips", type=int, default=20, help="of each corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-cost", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent = [] if args.no_cost else cost(folder)
        rows = table(Pool(args.data), args.clips, args.seed, folder)
    text = [
        "# The quality report, measured",
        "",
        f"`python benchmarks/quality.py DATA --clips {args.clips} --seed {args.seed}`",
        "",
        f"Hits among {args.clips} damaged clips / false alarms among the same {args.clips} clips "
        "undamaged, per corpus. The SNR has no false alarms: what is asked is its figure.",
        "",
        *rows,
        "",
        *spent,
        "",
        describe(("numpy", "scipy", "onnxruntime", "soundfile", "av")),
    ]
    RESULT.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
