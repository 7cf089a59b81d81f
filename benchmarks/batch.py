"""How fast `batch` is beside the engine alone, what memory it takes, how soon it goes on.

    python -m benchmarks.batch [--model MODEL] [--clips 2000] [--files 10000] [--rows 100000]

Writes `benchmarks/results/batch.md`. The sounds are made here; what the model hears does not change
its speed. Engine and `batch` run one after the other in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from benchmarks.speed import mixed_clips  # noqa: E402
from benchmarks.synthetic_audio import RATE_HZ, speechlike, write_soundfile  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "batch.md"
FORMATS = (("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"))

DIFFERENT = 100
"""Different recordings among the many short ones; the others are links to them."""

SAMPLE_S = 0.5
"""How often memory is looked at."""

SHARE_WANTED, GROWTH_WANTED_MB, RESUME_WANTED_S = 0.95, 200, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="compact", help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=2_000, help="of mixed length")
    parser.add_argument("--files", type=int, default=10_000, help="of 2 s")
    parser.add_argument("--rows", type=int, default=100_000, help="finished before a resume")
    parser.add_argument("--engine", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(engine_alone(options.engine, options.model)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = [
            "# Many recordings",
            "",
            f"Model {Path(options.model).name}; {describe(('torch', 'numpy', 'pyarrow'))}",
            "",
            *throughput(place, options.model, options.clips),
            *memory(place, options.model, options.files),
            *resume(place, options.model, options.rows),
            "Made by `python -m benchmarks.batch`.",
        ]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


# --- throughput -----------------------------------------------------------------------------------


def throughput(place: Path, model: str, count: int) -> list[str]:
    """Clips of 1 to 30 s in three formats: the engine on decoded clips, then `batch` on files."""
    folder = place / "mixed"
    folder.mkdir()
    for number, samples in enumerate(mixed_clips(count)):
        ending, container, subtype = FORMATS[number % len(FORMATS)]
        sound = speechlike(len(samples) / RATE_HZ, seed=number)
        write_soundfile(folder / f"{number}.{ending}", sound, RATE_HZ, container, subtype)
    command = [sys.executable, "-m", "benchmarks.batch", "--model", model, "--engine", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, text=True, check=True)
    engine = json.loads(done.stdout.splitlines()[-1])
    told, _ = run_batch(folder, place / "mixed.parquet", model)
    alone = engine["audio_s"] / engine["taken_s"]
    whole = told["run_audio_s"] / told["run_s"]
    return [
        f"## {count:,} clips of 1 to 30 s ({told['run_audio_s'] / 3600:.2f} h)",
        "",
        "| | taken, s | times real time |",
        "|---|---|---|",
        f"| engine alone, clips decoded before | {engine['taken_s']:.0f} | {alone:.1f} |",
        f"| `batch`, files in and rows out | {told['run_s']:.0f} | {whole:.1f} |",
        "",
        f"`batch` reaches {whole / alone:.0%} of the engine (wanted: {SHARE_WANTED:.0%}). Decoding "
        f"and judging the files took {engine['decode_s']:.0f} s of one core, "
        f"{engine['decode_s'] / engine['taken_s'] / (os.cpu_count() or 1):.0%} of what "
        f"{os.cpu_count()} cores do while the engine runs alone.",
        "",
    ]


def engine_alone(folder: Path, model: str) -> dict[str, float]:
    """The same clips, decoded before the clock starts."""
    from emotion2vec_ui.settings import Settings, prepare_torch

    prepare_torch()
    from benchmarks import offline
    from emotion2vec_ui.audio.load import load
    from emotion2vec_ui.models.holder import ModelHolder

    holder = ModelHolder(Settings(model=model, device="cpu"))
    holder.start()
    loaded = holder.get(600)
    started = time.process_time()
    clips = [load(path).samples for path in sorted(folder.iterdir())]
    decode_s = time.process_time() - started
    offline.predict(loaded, clips[:1])
    began = time.perf_counter()
    offline.predict(loaded, clips)
    taken_s = time.perf_counter() - began
    audio_s = sum(map(len, clips)) / RATE_HZ
    return {"taken_s": taken_s, "audio_s": audio_s, "decode_s": decode_s}


# --- memory ---------------------------------------------------------------------------------------


def memory(place: Path, model: str, count: int) -> list[str]:
    """Many short files: resident memory when a tenth is done, and the most from there on."""
    folder = place / "short"
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:06}.wav"
        if number < DIFFERENT:
            write_soundfile(path, speechlike(2, seed=number), RATE_HZ, "WAV", "PCM_16")
        else:
            os.link(folder / f"{number % DIFFERENT:06}.wav", path)
    told, samples = run_batch(folder, place / "short.parquet", model)
    settled = samples[len(samples) // 10 :]
    rows = []
    for name, column in (("main process", 0), ("with its decoders", 1)):
        sizes = [sample[column] for sample in settled]
        rows.append((name, sizes[0], max(sizes), max(sizes) - sizes[0]))
    return [
        f"## {count:,} files of 2 s",
        "",
        f"{told['run_s']:.0f} s, {told['run_audio_s'] / told['run_s']:.1f} times real time, "
        f"{count / told['run_s']:.0f} files per second. Resident memory, MB:",
        "",
        "| | after a tenth of the time | most after that | growth |",
        "|---|---|---|---|",
        *(
            f"| {name} | {first:.0f} | {most:.0f} | {grown:.0f} |"
            for name, first, most, grown in rows
        ),
        "",
        f"Wanted: a growth of less than {GROWTH_WANTED_MB} MB.",
        "",
    ]


# --- resume ---------------------------------------------------------------------------------------


def resume(place: Path, model: str, count: int) -> list[str]:
    """A folder whose rows are done but one: until the first file is read, and the whole command."""
    from emotion2vec_ui.batch import manifest
    from emotion2vec_ui.batch.journal import Journal

    folder = place / "done"
    folder.mkdir()
    first = write_soundfile(folder / "first.wav", speechlike(2), RATE_HZ, "WAV", "PCM_16")
    out = place / "done.parquet"
    run_batch(folder, out, model)
    for number in range(count - 1):
        inside = folder / f"{number // 1000:04}"
        inside.mkdir(exist_ok=True)
        path = inside / f"{number:06}.wav"
        if number % 1000:
            os.link(inside / f"{number // 1000 * 1000:06}.wav", path)
        else:  # a file system allows 65,000 links to one file
            shutil.copy(first, path)
    journal = Journal(out.with_name(out.name + ".journal"))
    ((row, _),) = journal.rows()
    for file in manifest.select(str(folder)).files(print):
        journal.add(file, row)
    write_soundfile(folder / "new.wav", speechlike(2, seed=1), RATE_HZ, "WAV", "PCM_16")
    journal.close()
    began = time.perf_counter()
    journal = Journal(out.with_name(out.name + ".journal"))
    journal.list_files(manifest.select(str(folder)).files(print))
    waiting = [todo.file.name for todo in journal.todo()]
    listed_s = time.perf_counter() - began
    journal.close()
    assert waiting == ["new.wav"], waiting[:3]
    began = time.perf_counter()
    told, _ = run_batch(folder, out, model)
    whole_s = time.perf_counter() - began
    assert (told["files"], told["skipped"], told["recognised"]) == (count + 1, count, 1), told
    size_mb = (place / "done.parquet.journal").stat().st_size / 1e6
    return [
        f"## Resume over {count:,} finished rows",
        "",
        f"{listed_s:.1f} s until the one new file is known (wanted: {RESUME_WANTED_S:g} s); "
        f"{whole_s:.1f} s for the whole command, with starting Python, loading the model and "
        f"writing table and report. The journal has {size_mb:.0f} MB.",
        "",
    ]


# --- a run ----------------------------------------------------------------------------------------


def run_batch(
    folder: Path, out: Path, model: str
) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """The command: what it says; its resident memory over time in MB, without and with children."""
    command = [sys.executable, "-m", "emotion2vec_ui", "batch", str(folder), "--out", str(out)]
    command += ["--model", model, "--device", "cpu", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    watched = psutil.Process(process.pid)
    samples = []
    while process.poll() is None:
        try:
            own = watched.memory_info().rss / 1e6
            children = sum(one.memory_info().rss for one in watched.children(recursive=True)) / 1e6
            samples.append((own, own + children))
        except psutil.NoSuchProcess:
            pass
        time.sleep(SAMPLE_S)
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    assert process.returncode == 0, told
    return told, samples


if __name__ == "__main__":
    main()
