"""Checks this installation and says what to do about what it finds, without importing torch.

The checks are independent; an exception in one becomes a finding. Versions are read from package
metadata, and whether native libraries fit from the files themselves, so that a broken package is
reported instead of ending `doctor`.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.machinery
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.listening import is_this_program, port_holder
from emotion2vec_ui.models import files, nvidia, runtime
from emotion2vec_ui.models.files import BUILT_IN_DIRECTORY, BUILT_IN_WEIGHTS_NAME, SLIM_NAME
from emotion2vec_ui.settings import AUTO, COMPACT, ROOT_DIR, Settings, is_loopback
from emotion2vec_ui.texts import Phrase, text

OK, WARN, FAIL = "ok", "warn", "fail"

PACKAGES = (
    "torch",
    "funasr",
    "modelscope",
    "modelscope-hub",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "soundfile",
    "soxr",
    "av",
    "gradio",
    "fastapi",
    "omegaconf",
    "PyYAML",
    "librosa",
)
"""Imported by the program or by funasr's emotion2vec."""

OLDEST_PYTHON = (3, 10)

GPU_MINIMUM_MB = 6_000
GPU_RECOMMENDED_MB = 11_000
RAM_RECOMMENDED_MB = 16_000
RAM_MINIMUM_MB = 3_000
"""torch, the fp32 weights and the activations of one 30 s window, and a reserve."""

MEMORY_TOLERANCE = 0.93
"""Memory is sold in GiB, and the system keeps some of it for itself: 11 GB may show as 10.3."""

DISK_MINIMUM_MB = 500
DISK_FOR_MODEL_MB = 3_000
"""plus_large's checkpoint (1.95 GB), its slim weights (0.65 GB) and a reserve."""

DECODERS = ("aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le")

NVIDIA_SMI_TIMEOUT_S = 5.0

OUTPUTS_COUNTED = 20_000
"""Files counted for the size of outputs/; with more, the size is reported as "at least"."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        code: of the check; the text `doctor.<code>` names it.
        verdict: "ok", "warn" or "fail".
        value: what was found.
        remedy: what to do, or None where nothing is to be done.
    """

    code: str
    verdict: str
    value: str | Phrase
    remedy: Phrase | None = None


def run(settings: Settings) -> list[Finding]:
    """Runs every check; the findings come in a fixed order, usually within a second."""
    checks: Sequence[Callable[[Settings], Iterable[Finding]]] = (
        _python,
        _packages,
        _torch_and_torchaudio,
        _decoders,
        _gpu,
        _runtime,
        _memory,
        _disk,
        _outputs_writable,
        _outputs_disk,
        _port,
        _model,
    )
    # In threads because nvidia-smi is slow to start; the others are fast.
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [
            finding for findings in pool.map(lambda c: _run_check(c, settings), checks)
            for finding in findings
        ]  # fmt: skip


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when any check failed, else 0."""
    return int(any(finding.verdict == FAIL for finding in findings))


def render(findings: Iterable[Finding], lang: str = "en") -> str:
    """The findings as lines for a terminal."""
    marks = {OK: "[ok]  ", WARN: "[warn]", FAIL: "[FAIL]"}
    lines = []
    for finding in findings:
        name = text(f"doctor.{finding.code}", lang)
        lines.append(f"{marks[finding.verdict]} {name}: {_in_language(finding.value, lang)}")
        if finding.remedy is not None:
            lines.append(f"       -> {_in_language(finding.remedy, lang)}")
    return "\n".join(lines)


def to_json(findings: Iterable[Finding], lang: str = "en") -> str:
    """The findings as a JSON list of objects with code, verdict, value and remedy."""
    rows = [
        {
            "code": finding.code,
            "verdict": finding.verdict,
            "value": _in_language(finding.value, lang),
            "remedy": None if finding.remedy is None else _in_language(finding.remedy, lang),
        }
        for finding in findings
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2)


def _in_language(value: str | Phrase, lang: str) -> str:
    return text(value.key, lang, **value.facts) if isinstance(value, Phrase) else value


def _run_check(check: Callable[[Settings], Iterable[Finding]], settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except Exception as error:  # a check that fails is a finding too
        code = check.__name__.lstrip("_")
        return [Finding(code, WARN, Phrase("doctor.check_broke", detail=repr(error)))]


# --- Python and packages ------------------------------------------------------------------------


def _python(settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    value = f"{version} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("python", FAIL, value, Phrase("doctor.remedy.python"))
    else:
        yield Finding("python", OK, value)
    if sys.version_info >= (3, 12) and _package_folder("setuptools") is None:
        missing = Phrase("doctor.not_installed")
        yield Finding("setuptools", FAIL, missing, Phrase("doctor.remedy.setuptools"))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages(settings: Settings) -> Iterator[Finding]:
    missing, found = [], []
    for package in PACKAGES:
        version = _version(package)
        if version is None:
            missing.append(package)
        else:
            found.append(f"{package} {version}")
    yield Finding("packages", OK, ", ".join(found) or "-")
    if missing:
        value = Phrase("doctor.missing", names=", ".join(missing))
        yield Finding("packages", FAIL, value, Phrase("doctor.remedy.install"))
    unmet = list(_unmet_requirements(ROOT_DIR / "requirements.txt"))
    if unmet:
        yield Finding("requirements", WARN, "; ".join(unmet), Phrase("doctor.remedy.install"))


def _unmet_requirements(path: Path) -> Iterator[str]:
    """Installed versions that requirements.txt does not allow."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # reported among the missing packages
        return
    if not path.is_file():
        return

    for line in path.read_text(encoding="utf-8").splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # an option such as --index-url, or an empty line
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = _version(requirement.name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version}, {requirement.specifier}"


def _torch_and_torchaudio(settings: Settings) -> Iterator[Finding]:
    torch, torchaudio = _version("torch"), _version("torchaudio")
    if torch is None or torchaudio is None:
        # torchaudio is optional: this program does not use it.
        return
    pair = f"torch {torch}, torchaudio {torchaudio}"
    if _needs_cuda("torchaudio") and not _has_cuda_libraries():
        remedy = Phrase("doctor.remedy.torchaudio")
        yield Finding("torchaudio", WARN, Phrase("doctor.torchaudio_cuda", pair=pair), remedy)
    else:
        yield Finding("torchaudio", OK, pair)


def _package_folder(name: str) -> Path | None:
    """The folder of a package on `sys.path`; the package is not imported."""
    spec = importlib.machinery.PathFinder.find_spec(name)
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]) if places else None


def _needs_cuda(package: str) -> bool:
    """Whether a native library of the package depends on CUDA's part of torch."""
    folder = _package_folder(package)
    libraries = [] if folder is None else folder.glob("lib/*.so")
    return any(b"libc10_cuda.so" in library.read_bytes() for library in libraries)


def _has_cuda_libraries() -> bool:
    """Whether the installed torch is a CUDA build."""
    folder = _package_folder("torch")
    return folder is not None and any((folder / "lib").glob("*c10_cuda*"))


def _decoders(settings: Settings) -> Iterator[Finding]:
    # Either import may fail where its native library is broken; that is what is checked here.
    try:
        import soundfile

        yield Finding("soundfile", OK, f"libsndfile {soundfile.__libsndfile_version__}")
    except Exception as error:
        yield Finding("soundfile", FAIL, repr(error), Phrase("doctor.remedy.install"))
    try:
        import av
    except Exception as error:
        yield Finding("ffmpeg", FAIL, repr(error), Phrase("doctor.remedy.install"))
        return
    missing = []
    for name in DECODERS:
        try:
            av.Codec(name, "r")
        except ValueError:  # PyAV's UnknownCodecError
            missing.append(name)
    value = f"PyAV {av.__version__}, libavcodec " + ".".join(
        map(str, av.library_versions.get("libavcodec", ()))
    )
    if missing:
        value = f"{value}; - {', '.join(missing)}"
        yield Finding("ffmpeg", WARN, value, Phrase("doctor.remedy.codecs"))
    else:
        yield Finding("ffmpeg", OK, f"{value}: {', '.join(DECODERS)}")


# --- the machine --------------------------------------------------------------------------------


def _gpu(settings: Settings) -> Iterator[Finding]:
    asked = settings.device.startswith("cuda")
    gpus = _nvidia_smi()
    if not gpus:
        verdict = FAIL if asked else OK
        remedy = Phrase("doctor.remedy.no_gpu") if asked else None
        yield Finding("gpu", verdict, Phrase("doctor.no_gpu"), remedy)
        return
    if not _has_cuda_libraries() and settings.device != "cpu":
        remedy = Phrase("doctor.remedy.cpu_torch")
        yield Finding("gpu", FAIL if asked else WARN, Phrase("doctor.cpu_torch"), remedy)
    for name, total_mb, free_mb in gpus:
        value = Phrase("doctor.gpu_memory", name=name, total_mb=total_mb, free_mb=free_mb)
        if total_mb < GPU_MINIMUM_MB * MEMORY_TOLERANCE:
            yield Finding("gpu", WARN, value, Phrase("doctor.remedy.small_gpu"))
        elif total_mb < GPU_RECOMMENDED_MB * MEMORY_TOLERANCE:
            yield Finding("gpu", OK, value, Phrase("doctor.remedy.medium_gpu"))
        else:
            yield Finding("gpu", OK, value)


def _runtime(settings: Settings) -> Iterator[Finding]:
    """What would compute; OpenVINO is imported, to see whether it can be."""
    on_gpu = settings.device.startswith("cuda") or (
        settings.device == "auto" and nvidia.has_gpu() and _has_cuda_libraries()
    )
    built_in = settings.model == COMPACT
    with contextlib.suppress(EmotionError):  # the model's own check reports it
        built_in = built_in or (settings.model == AUTO and files.resolve(settings) is None)
    device = "cuda" if on_gpu else "cpu"
    try:
        expected = runtime.expect(settings, device, built_in=built_in)
    except EmotionError as error:
        yield Finding("runtime", FAIL, Phrase(f"error.{error.code}", **error.facts))
        return
    facts = {"device": device, "precision": expected.precision, "reason": expected.why_pytorch}
    if expected.why_pytorch is None:
        found = Phrase("doctor.runtime_openvino", version=_version("openvino") or "?", **facts)
        yield Finding("runtime", OK, found)
        return
    found = Phrase("doctor.runtime_pytorch", version=_version("torch") or "-", **facts)
    remedy = Phrase("doctor.remedy.install") if expected.openvino_broken else None
    yield Finding("runtime", WARN if remedy else OK, found, remedy)


def _nvidia_smi() -> list[tuple[str, float, float]]:
    """Name, total and free memory in MB of each NVIDIA GPU; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus = []
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):  # "[N/A]", or a message instead of a table
            name, total_mib, free_mib = line.rsplit(",", 2)
            gpus.append((name.strip(), float(total_mib) * 1.048576, float(free_mib) * 1.048576))
    return gpus


def _memory(settings: Settings) -> Iterator[Finding]:
    total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    value = f"{total_mb / 1000:.1f} GB"
    if total_mb < RAM_MINIMUM_MB * MEMORY_TOLERANCE:
        yield Finding("memory", FAIL, value, Phrase("doctor.remedy.memory"))
    elif total_mb < RAM_RECOMMENDED_MB * MEMORY_TOLERANCE:
        yield Finding("memory", WARN, value, Phrase("doctor.remedy.memory"))
    else:
        yield Finding("memory", OK, value)


def _nearest_existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _disk(settings: Settings) -> Iterator[Finding]:
    free_mb = shutil.disk_usage(_nearest_existing(settings.outputs)).free / 1e6
    n_bytes, counted, complete = 0, 0, True
    for folder, _, names in os.walk(settings.outputs):
        for name in names:
            with contextlib.suppress(OSError):
                n_bytes += os.stat(os.path.join(folder, name), follow_symlinks=False).st_size
            counted += 1
        if counted >= OUTPUTS_COUNTED:
            complete = False
            break
    value = Phrase(
        "doctor.disk_value",
        free_gb=free_mb / 1000,
        outputs_mb=n_bytes / 1e6,
        least="" if complete else ">= ",
    )
    try:
        model_is_present = files.resolve(settings) is not None
    except EmotionError:
        model_is_present = True  # nothing will be downloaded; the model's own check reports it
    wanted_mb = DISK_MINIMUM_MB if model_is_present or settings.offline else DISK_FOR_MODEL_MB
    if free_mb < DISK_MINIMUM_MB:
        yield Finding("disk", FAIL, value, Phrase("doctor.remedy.disk"))
    elif free_mb < wanted_mb:
        yield Finding("disk", WARN, value, Phrase("doctor.remedy.disk_model"))
    else:
        yield Finding("disk", OK, value)


def _outputs_writable(settings: Settings) -> Iterator[Finding]:
    folder = _nearest_existing(settings.outputs)
    try:
        # A real attempt: permission bits do not show read-only mounts and quotas.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        value = f"{folder}: {error.strerror or error}"
        yield Finding("outputs", FAIL, value, Phrase("doctor.remedy.outputs"))
    else:
        yield Finding("outputs", OK, str(settings.outputs.absolute()))


def _outputs_disk(settings: Settings) -> Iterator[Finding]:
    device = os.stat(_nearest_existing(settings.outputs)).st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not block.exists():  # a network or overlay file system, or not Linux
        return
    # A partition has no `queue` folder of its own; its disk is the parent folder.
    for place in (block.resolve(), block.resolve().parent):
        with contextlib.suppress(OSError):
            if (place / "queue" / "rotational").read_text().strip() == "1":
                value = Phrase("doctor.rotational", name=place.name)
                yield Finding("outputs_disk", WARN, value, Phrase("doctor.remedy.rotational"))
                return


def _port(settings: Settings) -> Iterator[Finding]:
    name, port = settings.server_name, settings.server_port
    value = f"{name}:{port}"
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the last run in TIME_WAIT do not block the port.
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((name.strip("[]"), port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and is_this_program(name, port):
                yield Finding("port", OK, Phrase("doctor.port_ours", address=value))
            elif error.errno == errno.EADDRINUSE:
                holder = port_holder(port)
                found = Phrase("doctor.port_taken", address=value, holder=holder or "?")
                yield Finding("port", FAIL, found, Phrase("doctor.remedy.port"))
            else:
                detail = f"{value}: {error.strerror or error}"
                yield Finding("port", FAIL, detail, Phrase("doctor.remedy.address"))
            return
    guarded = settings.auth or settings.api_keys or is_loopback(name)
    if guarded:
        yield Finding("port", OK, value)
    else:
        yield Finding("port", WARN, value, Phrase("doctor.remedy.open_server"))


# --- the model ----------------------------------------------------------------------------------


def _model(settings: Settings) -> Iterator[Finding]:
    try:
        location = files.resolve(settings)
        if location is not None and not location.is_built_in:
            found = files.verify(location.path)
            slim = (location.path / SLIM_NAME).is_file()
            value = Phrase(
                "doctor.model_here",
                id=location.id,
                path=location.path,
                size_mb=found.weights_bytes / 1e6,
                slim=SLIM_NAME if slim else "-",
            )
            yield Finding("model", OK, value)
            reference = location.path / files.CALIBRATION_NAME
            absent = Phrase("doctor.reference_absent")
            yield Finding("reference", OK, str(reference) if reference.is_file() else absent)
    except EmotionError as error:
        problem = Phrase(f"error.{error.code}", **error.facts)
        yield Finding("model", FAIL, problem, Phrase(f"error.{error.code}.hint", **error.facts))
        return
    if location is None:
        wanted = files.wanted_id(settings)
        verdict = FAIL if settings.offline and settings.model != AUTO else WARN
        key = "doctor.remedy.model_offline" if settings.offline else "doctor.remedy.model"
        yield Finding("model", verdict, Phrase("doctor.model_absent", id=wanted), Phrase(key))
    if settings.model in (AUTO, COMPACT):
        weights = BUILT_IN_DIRECTORY / BUILT_IN_WEIGHTS_NAME
        if weights.is_file():
            size = f"{weights.stat().st_size / 1e6:.1f} MB"
            yield Finding("compact", OK, size)
        else:
            missing = Phrase("doctor.compact_absent")
            yield Finding("compact", FAIL, missing, Phrase("doctor.remedy.reinstall"))
