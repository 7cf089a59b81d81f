"""`export`: the model as a file that other programs run."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from emotion2vec_ui import logs, texts
from emotion2vec_ui.console import FAILED, OK, language, print_json, say
from emotion2vec_ui.settings import Settings, UsageError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="made if it is not there")
    parser.add_argument(
        "--format",
        dest="file_format",
        choices=("onnx", "openvino"),
        default="onnx",
        help="model.onnx, or model.xml with model.bin (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in DIR")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Writes the file and says what it is.

    Raises:
        UsageError: a precision was asked for.
        EmotionError: nothing was written.
    """
    if settings.precision not in ("auto", "fp32") or settings.medvq:
        raise UsageError(
            "export writes fp32, and the program that runs the file chooses how it computes. "
            "Leave out --precision and --medvq."
        )
    logs.configure("text")
    from emotion2vec_ui.models import files
    from emotion2vec_ui.models.export import export

    lang = language(settings)
    location = files.resolve(settings)
    if location is None:
        say(texts.text("export.absent", lang, id=files.wanted_id(settings)))
        return FAILED
    done = export(
        location,
        settings,
        options.file_format,
        options.directory,
        overwrite=options.overwrite,
        on_state=lambda state: say(texts.text(f"export.{state}", lang, model=location.id)),
    )
    say(texts.text("export.licence", lang, licence=done.licence))
    say(texts.text("export.checked", lang, difference=done.score_difference))
    if options.json:
        print_json(
            {
                "format": done.format,
                "files": [str(path) for path in done.files],
                "bytes": done.n_bytes,
                "model": done.model,
                "weights_sha256": done.weights_sha256,
                "licence": done.licence,
                "score_difference": done.score_difference,
            }
        )
    else:
        print(
            texts.text("export.done", lang, model=done.model, megabytes=done.n_bytes / 1e6),
            *(f"-> {path}" for path in done.files),
            sep="\n",
        )
    return OK
