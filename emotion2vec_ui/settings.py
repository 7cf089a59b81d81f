"""Flags, environment and defaults: one table that the command line and the documentation share.

Order of precedence: flag, then environment, then default. Nothing here reads the process: both
`argv` and `environ` are arguments of `load`, so that tests pass their own.
"""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from emotion2vec_ui.texts import languages

ROOT_DIR = Path(__file__).resolve().parent.parent
"""The folder that holds app.py."""

PLUS_LARGE = "iic/emotion2vec_plus_large"
COMPACT = "compact"
AUTO = "auto"

TORCH_ENVIRONMENT = {
    # OpenMP's threads else spin at every barrier, and on a machine with other work each wait there
    # for one whose core is taken: a 5 s clip took 1.6 s instead of 0.06 s beside two busy
    # processes (two cores, a small model).
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN keeps working memory for this many combinations of layer and length, 1024 by itself:
    # 200 clips of all lengths then held 3.6 GB around 0.65 GB of weights. 32 cost no time.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
}


class UsageError(Exception):
    """A flag or environment value that cannot be used; the command line ends with exit code 2."""


def _flag(
    default: Any,
    help_text: str,
    *,
    env: tuple[str, ...] = (),
    metavar: str | None = None,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    group: str = "serve",
) -> Any:
    metadata = {
        "help": help_text,
        "env": env,
        "metavar": metavar,
        "choices": choices,
        "low": low,
        "high": high,
        "group": group,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything a user can set. Field names are the flags with `_` for `-`."""

    server_name: str = _flag(
        "127.0.0.1", "address to listen on", env=("GRADIO_SERVER_NAME",), metavar="ADDRESS"
    )
    server_port: int = _flag(
        7860,
        "port to listen on; a taken port is an error",
        env=("GRADIO_SERVER_PORT",),
        metavar="PORT",
        low=1,
        high=65535,
    )
    model: str = _flag(
        AUTO,
        "auto, compact, a hub id (iic/emotion2vec_plus_large, ..._base, ..._seed) or a directory",
        env=("EMOTION2VEC_MODEL",),
        metavar="MODEL",
        group="model",
    )
    hub: str = _flag(
        "ms",
        "where to download from: ms (ModelScope) or hf (Hugging Face)",
        env=("EMOTION2VEC_HUB",),
        choices=("ms", "hf"),
        group="model",
    )
    device: str = _flag(
        "auto",
        "auto, cpu, cuda or cuda:N; asked for and absent is an error",
        metavar="DEVICE",
        group="model",
    )
    medvq: bool = _flag(False, "mixed precision: weights and activations in 16 bit", group="model")
    low_vram: bool = _flag(
        False,
        "16-bit weights, one short window at a time, weights off the GPU when idle",
        group="model",
    )
    precision: str = _flag(
        "auto",
        "auto, fp32, bf16, fp16 or, on a CPU, int8; --medvq and --low-vram set it",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
        group="model",
    )
    int8_clips: str = _flag(
        "",
        "with --precision int8: a folder of recordings like those to be recognised",
        metavar="DIR",
        group="model",
    )
    disable_tensorrt: bool = _flag(
        False,
        "no compiled or captured kernels: plain eager PyTorch, on a CPU too",
        group="model",
    )
    no_hf_weights_cache: bool = _flag(
        False, "weights go to models/ beside the program and to no hub cache", group="model"
    )
    no_gradio_queue: bool = _flag(
        False, "events bypass Gradio's queue; the engine's own bound still holds"
    )
    enable_insecure_extension_access: bool = _flag(
        False, "allow an address other than loopback without a password or key"
    )
    auth: str = _flag(
        "",
        "protect page, REST routes and files with a password",
        env=("EMOTION2VEC_AUTH",),
        metavar="USER:PASSWORD",
    )
    api_key: str = _flag(
        "",
        "protect everything with a key (several: separated by commas)",
        env=("EMOTION2VEC_API_KEY",),
        metavar="KEY",
    )
    outputs: Path = _flag(
        ROOT_DIR / "outputs",
        "where results go",
        env=("EMOTION2VEC_OUTPUTS",),
        metavar="DIR",
        group="audio",
    )
    max_upload_mb: float = _flag(
        200.0, "largest recording taken, in MB", metavar="MB", low=0.001, group="audio"
    )
    max_job_mb: float = _flag(
        2000.0,
        "most that one job may hold, in MB: its recordings together, unpacked",
        metavar="MB",
        low=0.001,
    )
    max_duration_s: float = _flag(
        3600.0, "longest recording taken, in seconds", metavar="S", low=0.025, group="audio"
    )
    max_queue: int = _flag(
        64, "requests that may wait; more are answered 503", metavar="N", low=1, group="audio"
    )
    no_index: bool = _flag(
        False,
        "keep no embedding for similar recordings and outliers; embedding.npy still when asked for",
        group="audio",
    )
    keep_days: float | None = _flag(
        None,
        "remove output folders older than N days (default: keep all)",
        metavar="N",
        low=0.0,
    )
    max_outputs_mb: float | None = _flag(
        None,
        "remove the oldest output folders above this total (default: no bound)",
        metavar="MB",
        low=1.0,
    )
    rate_limit: int | None = _flag(
        None,
        "recognitions per minute for each key, user or address (default: no limit)",
        metavar="N",
        low=1,
    )
    log_format: str = _flag(
        "text", "text, or json: one object a line, for log collectors", choices=("text", "json")
    )
    lang: str = _flag(
        "",
        "language of the page (default: the browser's)",
        choices=languages(),
        group="audio",
    )
    root_path: str = _flag(
        "", "path prefix behind a reverse proxy", env=("GRADIO_ROOT_PATH",), metavar="PATH"
    )
    allowed_origins: str = _flag(
        "",
        "other sites whose pages may call the API from a browser (comma-separated)",
        env=("EMOTION2VEC_ALLOWED_ORIGINS",),
        metavar="ORIGINS",
    )
    offline: bool = _flag(
        False,
        "never touch the network; what is here is used",
        env=("EMOTION2VEC_OFFLINE", "HF_HUB_OFFLINE"),
        group="model",
    )

    @property
    def api_keys(self) -> tuple[str, ...]:
        """The keys of `--api-key`, in order."""
        return tuple(key.strip() for key in self.api_key.split(",") if key.strip())

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of `--allowed-origins`, lower case, without a trailing slash."""
        origins = (origin.strip().rstrip("/").lower() for origin in self.allowed_origins.split(","))
        return tuple(origin for origin in origins if origin)

    @property
    def max_upload_bytes(self) -> int:
        """`max_upload_mb` in bytes; 1 MB is 10^6 bytes."""
        return int(self.max_upload_mb * 1_000_000)

    @property
    def max_job_bytes(self) -> int:
        """`max_job_mb` in bytes."""
        return int(self.max_job_mb * 1_000_000)

    @property
    def models_dir(self) -> Path:
        """`models/` beside the program: used when it holds a model, or by --no-hf-weights-cache."""
        return ROOT_DIR / "models"

    @classmethod
    def load(cls, argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
        """Reads the flags of `serve`.

        Raises:
            UsageError: a flag is unknown or a value cannot be used.
        """
        parser = Parser(prog="app.py", description="Start the page and the API.")
        add_flags(parser)
        return from_namespace(parser.parse_args(list(argv)), environ)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises `UsageError`, and names the nearest known flag."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises instead of exiting, so that the one mapping to exit codes stays in the CLI."""
        raise UsageError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parses all arguments; an unknown one is an error that names the nearest known flag."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].split("=")[0]
            near = difflib.get_close_matches(flag, self.known_flags(), n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"unknown argument {flag}.{hint} --help lists every flag.")
        return parsed

    def known_flags(self) -> list[str]:
        """Every option string of this parser and of its sub-commands."""
        flags: list[str] = []
        for action in self._actions:
            flags += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    flags += sub.known_flags()
        return flags


def add_flags(
    parser: argparse.ArgumentParser, groups: Sequence[str] = ("serve", "model", "audio")
) -> None:
    """Adds the flags of the named groups. Flags left out by the user parse as None."""
    for item in fields(Settings):
        meta = item.metadata
        if meta["group"] not in groups:
            continue
        name = "--" + item.name.replace("_", "-")
        default = "" if item.default in (None, "", False) else f" (default: {_shown(item.default)})"
        env = f" [{', '.join(meta['env'])}]" if meta["env"] else ""
        help_text = (meta["help"] + default + env).replace("%", "%%")
        # SUPPRESS keeps "not given" apart from any value, and keeps argparse's own
        # "(default: None)" out of the help.
        common: dict[str, Any] = {"help": help_text, "default": argparse.SUPPRESS}
        if isinstance(item.default, bool):
            parser.add_argument(name, action="store_true", **common)
        else:
            parser.add_argument(name, metavar=meta["metavar"], choices=meta["choices"], **common)
    if "model" in groups:
        parser.add_argument(
            "--cpu", action="store_true", default=argparse.SUPPRESS, help="the same as --device cpu"
        )


def from_namespace(
    namespace: argparse.Namespace, environ: Mapping[str, str], *, listens: bool = True
) -> Settings:
    """Merges parsed flags with the environment and checks every value once.

    Args:
        namespace: what `add_flags` parsed.
        environ: the environment variables.
        listens: whether this command opens a port, which then must be guarded.

    Raises:
        UsageError: with the name of the flag or variable, the value and what is allowed.
    """
    given = dict(vars(namespace))
    if given.pop("cpu", False):
        if given.get("device", "cpu") != "cpu":
            raise UsageError(f"--cpu and --device {given['device']} contradict each other.")
        given["device"] = "cpu"
    values: dict[str, Any] = {}
    for item in fields(Settings):
        flag = "--" + item.name.replace("_", "-")
        if item.name in given:
            values[item.name] = _checked(item, given[item.name], flag)
            continue
        for variable in item.metadata["env"]:
            text = environ.get(variable, "")
            if text != "":
                values[item.name] = _checked(item, text, variable)
                break
    settings = Settings(**values)
    _check_together(settings)
    if listens:
        _check_guarded(settings)
    return settings


def prepare_torch() -> None:
    """Sets what PyTorch's libraries read from the environment when they are first imported.

    What the operator has set stays.
    """
    for name, value in TORCH_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a server that listens on `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_together(settings: Settings) -> None:
    if settings.auth:
        user, colon, password = settings.auth.partition(":")
        if not (user and colon and password):
            raise UsageError("--auth: expected USER:PASSWORD, both not empty.")
    if settings.precision in ("fp32", "int8"):
        which = f"it cannot go with --precision {settings.precision}."
        if settings.low_vram:
            raise UsageError(f"--low-vram keeps weights in 16 bit; {which}")
        if settings.medvq:
            raise UsageError(f"--medvq means 16 bit; {which}")
    if settings.precision == "int8" and settings.disable_tensorrt:
        raise UsageError(
            "--precision int8 needs OpenVINO's compiled kernels; it cannot go with "
            "--disable-tensorrt."
        )
    if settings.int8_clips and settings.precision != "int8":
        raise UsageError("--int8-clips goes with --precision int8.")


def _check_guarded(settings: Settings) -> None:
    open_to_all = not is_loopback(settings.server_name)
    guarded = settings.auth or settings.api_keys or settings.enable_insecure_extension_access
    if open_to_all and not guarded:
        raise UsageError(
            f"--server-name {settings.server_name} is reachable from other machines and nothing "
            "protects it. Add --auth USER:PASSWORD or --api-key KEY; or, on a network that you "
            "trust, --enable-insecure-extension-access."
        )


def _checked(item: Any, value: Any, name: str) -> Any:
    """One value as its field's type; `name` is the flag or variable for the error."""
    meta = item.metadata
    if isinstance(item.default, bool):
        return value if isinstance(value, bool) else _boolean(str(value), name)
    if isinstance(item.default, Path):
        return Path(value).expanduser()
    if meta["choices"]:
        if value not in meta["choices"]:
            raise UsageError(f"{name}: {value!r} is not one of {', '.join(meta['choices'])}.")
        return value
    if meta["low"] is not None:
        kind = int if str(item.type).startswith("int") else float
        try:
            number = kind(value)
        except ValueError:
            raise UsageError(f"{name}: {value!r} is not a number.") from None
        high = meta["high"]
        if not meta["low"] <= number <= (high if high is not None else float("inf")):
            bound = f"at least {meta['low']:g}" + (f" and at most {high:g}" if high else "")
            raise UsageError(f"{name}: {value} is out of range; expected {bound}.")
        return number
    if item.name == "device" and not _is_device(value):
        raise UsageError(f"{name}: {value!r} is not one of auto, cpu, cuda, cuda:N.")
    return value


def _is_device(value: str) -> bool:
    kind, colon, index = value.partition(":")
    if not colon:
        return kind in ("auto", "cpu", "cuda")
    return kind == "cuda" and index.isdigit()


def _boolean(text: str, name: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{name}: {text!r} is not one of 1, true, yes, on, 0, false, no, off.")


def _shown(default: Any) -> str:
    if isinstance(default, Path):
        return default.name + "/"
    return f"{default:g}" if isinstance(default, float) else str(default)
