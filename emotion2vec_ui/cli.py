"""The command line: one function per command, and the one mapping to exit codes.

0: all well; 1: something failed, each failure named on standard error; 2: wrong usage.
With `--json` standard output carries JSON and nothing else. Heavy modules are imported inside the
commands: `--help` and `doctor` must work, and quickly, where torch is broken.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui import __version__, logs, texts
from emotion2vec_ui.batch import command as batch_command
from emotion2vec_ui.batch import evaluate_command
from emotion2vec_ui.commands import bench, export
from emotion2vec_ui.console import (
    FAILED,
    INTERRUPTED,
    OK,
    USAGE,
    in_words,
    language,
    print_json,
    say,
)
from emotion2vec_ui.errors import EmotionError, OutputError
from emotion2vec_ui.lab import command as lab_command
from emotion2vec_ui.lab import subclass_command
from emotion2vec_ui.settings import (
    Parser,
    Settings,
    UsageError,
    add_flags,
    from_namespace,
    prepare_torch,
)

if TYPE_CHECKING:
    from emotion2vec_ui.audio.damage import Condition
    from emotion2vec_ui.models.download import Progress
    from emotion2vec_ui.records.report import Report
    from emotion2vec_ui.records.robustness import RobustnessTest
    from emotion2vec_ui.server.access import Guard

log = logging.getLogger(__name__)

Command = Callable[[Settings, argparse.Namespace], int]
"""Settings and the command's own options in, the exit code out."""

BAR_CELLS = 24

SENDING_S = 2
"""How long answers may take to be sent when all work is done."""


def main(argv: Sequence[str]) -> int:
    """Runs one command; without one, `serve`."""
    prepare_torch()
    arguments = list(argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _TOP_LEVEL):
        arguments.insert(0, "serve")
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        command: Command = options.run
        settings = _settings(options)
    except UsageError as error:
        say(f"{parser.prog}: {error}")
        return USAGE
    try:
        return command(settings, options)
    except UsageError as error:
        say(f"{parser.prog}: {error}")
        return USAGE
    except EmotionError as error:
        say(in_words(error, language(settings)))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


_TOP_LEVEL = ("-h", "--help", "--version")


def _parser() -> Parser:
    parser = Parser(
        prog="emotion2vec_ui",
        description="Speech emotion recognition around emotion2vec_plus_large.",
        epilog="Without a command: serve. Each command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Command, about: str, groups: Sequence[str]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        add_flags(command, groups)
        return command

    add("serve", serve, "start the page and the API", ("serve", "model", "audio"))

    predict_ = add("predict", predict, "recognise files", ("model", "audio"))
    predict_.add_argument("files", nargs="+", type=Path, metavar="FILE")
    predict_.add_argument(
        "--granularity",
        choices=("utterance", "frame"),
        default="utterance",
        help="default: %(default)s",
    )
    predict_.add_argument(
        "--extract-embedding", action="store_true", help="save embedding.npy as well"
    )
    predict_.add_argument(
        "--subclass",
        action="append",
        default=[],
        metavar="NAME",
        help="divide a base emotion's score among trained sub-classes; several",
    )
    predict_.add_argument("--no-save", action="store_true", help="write nothing under outputs")
    predict_.add_argument("--json", action="store_true", help="print JSON, one object a line")

    robustness_ = add(
        "robustness", robustness, "how noise and codecs would move a result", ("model", "audio")
    )
    robustness_.add_argument("file", type=Path, metavar="FILE")
    robustness_.add_argument("--seed", type=int, default=0, help="of the noises (default: 0)")
    robustness_.add_argument("--json", action="store_true", help="print JSON")

    calibrate_ = add(
        "calibrate", calibrate, "fit confidence and familiarity to labelled recordings",
        ("model", "audio"),
    )  # fmt: skip
    calibrate_.add_argument("manifest", type=Path, metavar="MANIFEST", help="CSV: path, label")
    calibrate_.add_argument("--path-column", default="path", help="default: %(default)s")
    calibrate_.add_argument("--label-column", default="label", help="default: %(default)s")
    calibrate_.add_argument(
        "--out", type=Path, metavar="FILE", help="default: reference.npz beside the model"
    )

    similar = add(
        "similar",
        lab_command.similar,
        "recordings most like one",
        ("model", "audio"),
    )
    lab_command.add_similar_arguments(similar)

    outliers = add("outliers", lab_command.outliers, "recordings that stand apart", ("audio",))
    lab_command.add_outliers_arguments(outliers)

    batch_ = add(
        "batch", batch_command.run, "recognise many files into one table", ("model", "audio")
    )
    batch_command.add_arguments(batch_)

    export.add_arguments(
        add("export", export.run, "write the model for other programs", ("model",))
    )
    bench.add_arguments(
        add("bench", bench.run, "how fast this machine is, and what to switch on",
            ("model", "audio"))
    )  # fmt: skip
    cluster = add("cluster", lab_command.cluster, "group past recordings", ("audio",))
    lab_command.add_cluster_arguments(cluster)
    evaluate_ = add(
        "evaluate", evaluate_command.run, "measure the model on labelled recordings",
        ("model", "audio"),
    )  # fmt: skip
    evaluate_command.add_arguments(evaluate_)
    subclass = add("subclass", subclass_command.run, "sub-classes of one's own", ())
    subclass_command.add_arguments(subclass)

    download = add("download", download_model, "fetch the model before it is needed", ("model",))
    download.add_argument("--json", action="store_true", help="print the result as JSON")

    doctor = add("doctor", doctor_, "check this installation", ("serve", "model", "audio"))
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    names = set(Settings.__dataclass_fields__) | {"cpu"}
    given = {name: value for name, value in vars(options).items() if name in names}
    return from_namespace(
        argparse.Namespace(**given), os.environ, listens=options.command == "serve"
    )


def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Runs the server until it is told to stop."""
    logs.configure(settings.log_format)
    from emotion2vec_ui.listening import listen

    listener = listen(settings)
    if listener is None:
        return FAILED
    import asyncio

    import uvicorn

    from emotion2vec_ui.server.opening import Opening, StartFailed

    class Server(uvicorn.Server):
        """Finishes recognitions first, and only then closes connections.

        Each open page holds a connection that never ends by itself: in uvicorn's own order one
        of them keeps a server with nothing to do for the whole bound.
        """

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Called once the signal has come; a second Ctrl-C ends the wait."""
            stop = threading.Thread(target=opening.stop, daemon=True)
            stop.start()
            while stop.is_alive() and not self.force_exit:
                await asyncio.sleep(0.05)
            closing = asyncio.create_task(self._close_streams())
            await super().shutdown(sockets)
            closing.cancel()

        async def _close_streams(self) -> None:
            """Ends what still streams as if its client had gone: quietly, unlike uvicorn's end."""
            await asyncio.sleep(SENDING_S)
            for connection in list(self.server_state.connections):
                connection.transport.close()

    def make() -> Guard:
        from emotion2vec_ui.server.app import create_app

        app = create_app(settings)
        shown = "localhost" if settings.server_name in ("0.0.0.0", "::") else settings.server_name
        log.info("listening on http://%s:%d", shown, settings.server_port)
        return app

    def stop() -> None:
        server.should_exit = True

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    opening = Opening(make, stop, settings)
    config = uvicorn.Config(
        opening,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2 * SENDING_S,
        # Proxy headers are used only when they come from a reverse proxy on this machine.
        forwarded_allow_ips="127.0.0.1,::1",
    )
    server = Server(config)
    server.run(sockets=[listener])
    if opening.failure is not None and not isinstance(opening.failure, StartFailed):
        raise opening.failure
    return OK if server.started and opening.failure is None else FAILED


def predict(settings: Settings, options: argparse.Namespace) -> int:
    """Recognises each file; one that fails does not stop the others."""
    from emotion2vec_ui.pipeline import standalone

    logs.configure("text")
    lang = language(settings)
    failed = 0
    with standalone.recogniser(settings, options.files) as recogniser:
        from emotion2vec_ui.records.report import to_dict  # while the model is loaded

        for path in options.files:
            try:
                result = recogniser.analyse(
                    path,
                    granularity=options.granularity,
                    extract_embedding=options.extract_embedding,
                    subclass=options.subclass,
                    lang=lang,
                    save=not options.no_save,
                )
            except EmotionError as error:
                failed += 1
                say(f"{path}: {in_words(error, language(settings))}")
                if options.json:
                    print_json({"error": error.to_dict(lang), "file": str(path)})
                continue
            folder = None if result.saved is None else result.saved.folder
            if options.json:
                where = {"file": str(path), "output_dir": None if folder is None else str(folder)}
                print_json(to_dict(result.report) | where)
            else:
                print(_as_text(path, result.report, folder, lang))
    if len(options.files) > 1:
        say(f"{len(options.files) - failed} ok, {failed} failed")
    return FAILED if failed else OK


def robustness(settings: Settings, options: argparse.Namespace) -> int:
    """Recognises one file under noise and codecs, and says where the answer flips."""
    logs.configure("text")
    from emotion2vec_ui.pipeline import standalone

    with standalone.recogniser(settings, [options.file]) as recogniser:
        test = recogniser.robustness(options.file, seed=options.seed)
    if options.json:
        print_json(asdict(test))
    else:
        print(_robustness_as_text(test, language(settings)))
    return OK


def calibrate(settings: Settings, options: argparse.Namespace) -> int:
    """Fits the model's reference to labelled recordings and writes it beside the model."""
    logs.configure("text")
    from emotion2vec_ui.audio.load import load as decode
    from emotion2vec_ui.models import files
    from emotion2vec_ui.models.loader import load
    from emotion2vec_ui.pipeline import calibration
    from emotion2vec_ui.reading import familiarity

    lang = language(settings)
    manifest = calibration.read_manifest(
        options.manifest, path_column=options.path_column, label_column=options.label_column
    )
    for label, count in manifest.left_out.items():
        say(texts.text("calibrate.left_out", lang, count=count, label=label or "-"))
    location = files.resolve(settings)
    if location is None:
        say(texts.text("doctor.model_absent", lang, id=files.wanted_id(settings)))
        return FAILED
    if location.is_built_in:
        say(texts.text("calibrate.built_in", lang))
        return USAGE

    def left_out(path: Path, error: EmotionError) -> None:
        problem = error.message(lang)
        say("\r" + texts.text("calibrate.unusable", lang, path=path, problem=problem))

    found = calibration.run(
        options.manifest,
        manifest.clips,
        load(location, settings),
        lambda path, name: decode(path, name=name, max_duration_s=settings.max_duration_s),
        on_unusable=left_out,
        on_progress=lambda done, total: print(
            f"\r{done} / {total}", end="", file=sys.stderr, flush=True
        ),
    )
    print(file=sys.stderr)
    path = options.out or location.path / files.CALIBRATION_NAME
    reference = found.fitted.reference
    try:
        familiarity.save(reference, path)
    except OSError as error:
        raise OutputError(path=path, problem=error.strerror or "I/O error") from error
    labels = ", ".join(f"{label} {count}" for label, count in found.counts.items())
    n_clips = sum(found.counts.values())
    low, high = reference.norm_range
    speakers = "calibrate.speakers" if found.n_speakers else "calibrate.no_speakers"
    print(texts.text("calibrate.used", lang, count=n_clips, model=location.id, labels=labels))
    print(texts.text(speakers, lang, count=found.n_speakers))
    before, after = found.fitted.ece_before, found.fitted.ece_after
    print(texts.text("calibrate.ece", lang, before=before, after=after))
    temperature, slope = reference.temperature, reference.slope
    facts = {"temperature": temperature, "slope": slope, "low": low, "high": high}
    print(texts.text("calibrate.fitted", lang, **facts))
    print(f"-> {path}")
    return OK


def download_model(settings: Settings, options: argparse.Namespace) -> int:
    """Fetches the model's files, showing how far it is."""
    logs.configure("text")
    from emotion2vec_ui.models.download import fetch

    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 0.5:
            return
        last = now
        share = progress.fraction
        percent = "" if share is None else f"{share:4.0%} "
        eta = "" if progress.eta_s is None else f", {progress.eta_s:.0f} s left"
        line = (
            f"{percent}{progress.bytes_done / 1e6:.0f} of {progress.bytes_total / 1e6:.0f} MB, "
            f"{progress.rate_bytes_s / 1e6:.1f} MB/s{eta}"
        )
        print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)

    path = fetch(settings, show)
    print(file=sys.stderr)
    print(json.dumps({"path": str(path)}) if options.json else path)
    return OK


def doctor_(settings: Settings, options: argparse.Namespace) -> int:
    """Checks the installation and says what to do about what it finds."""
    from emotion2vec_ui import doctor

    findings = doctor.run(settings)
    lang = language(settings)
    print(doctor.to_json(findings, lang) if options.json else doctor.render(findings, lang))
    return doctor.exit_code(findings)


def _robustness_as_text(test: RobustnessTest, lang: str) -> str:
    lines = [f"{test.source.name} [{test.model.id}], seed {test.seed}"]
    for outcome in test.outcomes:
        name = _condition(outcome.condition, lang)
        if outcome.error:
            lines.append(f"  {name:<22} - {outcome.error}")
            continue
        emotion = texts.text(f"emotion.{outcome.emotion}", lang)
        flip = "  <- " + texts.text("robustness.flipped", lang) if outcome.flipped else ""
        lines.append(
            f"  {name:<22} {outcome.confidence:6.1%} {emotion:<10} {outcome.delta:+7.1%}{flip}"
        )
    for kind, snr_db in test.flip_snr_db.items():
        key = "robustness.holds" if snr_db is None else "robustness.flips_at"
        kind_name = texts.text(f"robustness.{kind}", lang)
        lines.append(texts.text(key, lang, kind=kind_name, snr_db=snr_db or 0.0))
    rises = {kind: f"{100 * rise:+.1f}" for kind, rise in test.neutral_rise.items()}
    lines.append(texts.text("robustness.neutral", lang, **rises))
    return "\n".join(lines)


def _condition(condition: Condition, lang: str) -> str:
    if condition.snr_db is None:
        return texts.text(f"robustness.{condition.code}", lang)
    kind = texts.Phrase(f"robustness.{condition.kind}.short")
    return texts.text("robustness.noise", lang, kind=kind, snr_db=condition.snr_db)


def _as_text(path: Path, report: Report, folder: Path | None, lang: str) -> str:
    assert report.model is not None
    name = texts.text(f"emotion.{report.emotion}", lang)
    band = texts.text(f"band.{report.reliability.band}", lang)
    lines = [
        f"{path}: {name} {report.confidence:.1%} ({band}) [{report.model.id}]",
        f"  {report.reliability.advice}",
    ]
    familiarity = report.reliability.familiarity
    if familiarity is not None:
        key = "ui.unfamiliar" if "unfamiliar" in report.reliability.caveats else "ui.familiar"
        lines.append(f"  {texts.text(key, lang, percent=f'{familiarity:.0%}')}")
    for emotion, score in sorted(report.nine_scores.items(), key=lambda item: -item[1]):
        bar = "#" * round(score * BAR_CELLS)
        lines.append(f"  {emotion:<10} {score:6.1%} {bar}")
    lines += subclass_command.lines(report, lang)
    lines += [
        f"  {one.start_s:8.2f}-{one.end_s:.2f} s  {one.emotion} {one.confidence:.0%}"
        for one in report.segments
    ]
    lines += [f"  ! {warning.text}" for warning in report.warnings]
    lines += [f"  {line}" for line in report.log]
    if folder is not None:
        lines.append(f"  -> {folder}")
    return "\n".join(lines)
