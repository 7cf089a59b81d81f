"""Every failure a user can meet: its code, its HTTP status, and the facts for its text.

The sentences stand in `texts/`, one catalogue per language; here is only what happened. One handler
each in the API, the page and the command line maps these; nothing else does.

    EmotionError (500)
        InputError (400)
            MissingAudio, BadField, AudioUnreadable, ManifestError, NoRecordings (400)
            SubclassRefused, SubclassOfOtherModel, NoFiles, UploadUnusable (400)
            UploadTooLarge, AudioTooLong, JobTooLarge (413)
            AudioDecodeError (415)
            AudioUnusable (422)
                AudioTooShort, AudioEmpty, AudioNotFinite, AudioSilent (422)
        AccessError
            Unauthorized (401), ForeignOrigin (403), RateLimited (429)
        Unavailable (503)
            QueueFull, ModelNotReady, DeviceLost, ShuttingDown, StillComputing,
            JobsElsewhere, ReplicaLost (503)
        ModelError (500)
            ModelFilesError, ModelDownloadError, ModelLoadError, DeviceUnavailable,
            OutOfMemory (500)
        OutputError (500)
            ResultsFileError, ExportError (500)
            DiskFull, BatchDiskFull (507)
        JobStopped, ClusterError (500)
        PackageMissing (500)
        SubclassDamaged (500)
        ResultNotFound, SubclassNotFound (404)
        EmbeddingError
            NoEmbeddings, NoEmbeddingsOfModel, NoEmbeddingOfResult (404)
            OtherModel (409)
            EmbeddingUnusable, TooFewEmbeddings (422)
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import PurePath
from typing import Any, ClassVar

from emotion2vec_ui import texts

log = logging.getLogger(__name__)


class EmotionError(Exception):
    """Base of all failures that the program foresees.

    Args:
        **facts: values for the placeholders of the error's text, in the units of their names.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, **facts: Any) -> None:
        super().__init__(facts)
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle their positional arguments only; ours cross process borders.
        return partial(type(self), **self.facts), ()

    def message(self, lang: str = "en") -> str:
        """What was found and what was expected, in `lang` ("zh" or "en")."""
        return texts.text(f"error.{self.code}", lang, **self.facts)

    def hint(self, lang: str = "en") -> str:
        """What to do about it."""
        return texts.text(f"error.{self.code}.hint", lang, **self.facts)

    def public(self) -> EmotionError:
        """The same error for callers of the server: of files only the name, without folders."""
        return type(self)(**_without_folders(self.facts))

    def to_dict(self, lang: str = "en") -> dict[str, str]:
        """The three members of the contract's error body."""
        public = self.public()
        return {"code": self.code, "message": public.message(lang), "hint": public.hint(lang)}

    def __str__(self) -> str:
        return f"{self.message()} {self.hint()}".strip()


class InputError(EmotionError):
    """What the user sent cannot be used."""

    code = "bad_request"
    status = 400


class MissingAudio(InputError):
    """No recording came with the request."""

    code = "no_audio"


class BadField(InputError):
    """Facts: field, value, allowed."""

    code = "bad_field"


class AudioUnreadable(InputError):
    """Facts: name, problem."""

    code = "cannot_read"


class ManifestError(InputError):
    """Facts: name, problem."""

    code = "manifest"


class NoRecordings(InputError):
    """What was given holds nothing to recognise. Facts: name, problem."""

    code = "no_recordings"


class SubclassRefused(InputError):
    """Sub-classes that cannot be, or that could not be relied on. Facts: problem."""

    code = "subclass_refused"


class SubclassOfOtherModel(InputError):
    """Sub-classes belong to one model's weights. Facts: name, trained_on, model."""

    code = "subclass_of_other_model"


class NoFiles(InputError):
    """No file came with a job."""

    code = "no_files"


class UploadUnusable(InputError):
    """A file of a job cannot be taken in. Facts: name, problem."""

    code = "bad_upload"


class JobTooLarge(InputError):
    """Facts: limit_files, limit_mb of all files together, unpacked."""

    code = "job_too_large"
    status = 413


class UploadTooLarge(InputError):
    """Facts: limit_mb."""

    code = "upload_too_large"
    status = 413


class AudioTooLong(InputError):
    """Facts: duration_s (what is known of it), limit_s."""

    code = "audio_too_long"
    status = 413


class AudioDecodeError(InputError):
    """Facts: name, reasons (each decoder's own)."""

    code = "cannot_decode"
    status = 415


class AudioUnusable(InputError):
    """Decoded, but nothing that a model could judge."""

    code = "audio_unusable"
    status = 422


class AudioTooShort(AudioUnusable):
    """Facts: duration_ms, minimum_ms."""

    code = "audio_too_short"


class AudioEmpty(AudioUnusable):
    """The file holds no samples."""

    code = "audio_empty"


class AudioNotFinite(AudioUnusable):
    """Facts: count of NaN or infinite samples."""

    code = "audio_not_finite"


class AudioSilent(AudioUnusable):
    """Digital silence: every sample is the same value."""

    code = "audio_silent"


class AccessError(EmotionError):
    """The caller may not do this."""

    code = "forbidden"
    status = 403


class Unauthorized(AccessError):
    """No key or password, or a wrong one."""

    code = "unauthorized"
    status = 401


class ForeignOrigin(AccessError):
    """Facts: origin."""

    code = "foreign_origin"


class RateLimited(AccessError):
    """Facts: limit_per_minute, retry_after_s."""

    code = "rate_limited"
    status = 429


class Unavailable(EmotionError):
    """Try again later. Facts of every subclass: retry_after_s."""

    code = "unavailable"
    status = 503


class QueueFull(Unavailable):
    """Facts: waiting, limit, retry_after_s."""

    code = "queue_full"


class ModelNotReady(Unavailable):
    """Facts: state, seconds, retry_after_s."""

    code = "model_not_ready"


class DeviceLost(Unavailable):
    """The GPU failed while it worked; the model is loaded again. Facts: device, retry_after_s."""

    code = "device_lost"


class ReplicaLost(Unavailable):
    """On a cluster, what worked on the request ended. Facts: retry_after_s."""

    code = "replica_lost"


class ShuttingDown(Unavailable):
    """The server is stopping and takes nothing new."""

    code = "shutting_down"


class StillComputing(Unavailable):
    """Clusters or a map of many recordings. Facts: percent done, retry_after_s."""

    code = "still_computing"


class JobsElsewhere(Unavailable):
    """Another server does the jobs of this outputs folder. Facts: retry_after_s."""

    code = "jobs_elsewhere"


class ModelError(EmotionError):
    """Something is wrong with the model, not with the request."""

    code = "model_error"


class ModelFilesError(ModelError):
    """Facts: path, problem."""

    code = "model_files"


class ModelDownloadError(ModelError):
    """Facts: model, problem."""

    code = "model_download"


class ModelLoadError(ModelError):
    """Facts: model, problem."""

    code = "model_load"


class DeviceUnavailable(ModelError):
    """Facts: device, problem."""

    code = "device_unavailable"


class OutOfMemory(ModelError):
    """Facts: device, window_s."""

    code = "out_of_memory"


class OutputError(EmotionError):
    """Facts: path, problem."""

    code = "cannot_write"


class ResultsFileError(OutputError):
    """A table of results cannot be continued. Facts: path, problem."""

    code = "results_file"


class ExportError(OutputError):
    """A model is not written as a file for other programs. Facts: path, problem."""

    code = "export"


class DiskFull(OutputError):
    """Facts: free_mb."""

    code = "disk_full"
    status = 507


class BatchDiskFull(DiskFull):
    """Facts: free_mb, path of what keeps the rows that are done."""

    code = "batch_disk_full"


class JobStopped(EmotionError):
    """A job cannot go on, or not now. Facts: problem."""

    code = "job_stopped"


class ClusterError(EmotionError):
    """A cluster cannot be reached or used; rows that are done are kept. Facts: problem."""

    code = "cluster"


class PackageMissing(EmotionError):
    """Something optional was asked for and is not installed. Facts: package, purpose, install."""

    code = "package_missing"


class ResultNotFound(EmotionError):
    """Facts: name."""

    code = "not_found"
    status = 404


class EmbeddingError(EmotionError):
    """Embeddings cannot be compared as asked."""

    code = "embedding"
    status = 409


class NoEmbeddings(EmbeddingError):
    """No result has an embedding yet."""

    code = "no_embeddings"
    status = 404


class NoEmbeddingsOfModel(NoEmbeddings):
    """Facts: model (asked for), known (models that have some)."""

    code = "no_embeddings_of_model"


class NoEmbeddingOfResult(EmbeddingError):
    """Facts: name of the result."""

    code = "no_embedding"
    status = 404


class OtherModel(EmbeddingError):
    """Facts: name (the result's), model (which recognised it), answering (the model now)."""

    code = "other_model"


class EmbeddingUnusable(EmbeddingError):
    """Not finite, or all zero. Facts: name (the recording's or the result's)."""

    code = "embedding_unusable"
    status = 422


class TooFewEmbeddings(EmbeddingError):
    """Facts: count (embeddings of the model), minimum, model."""

    code = "too_few_embeddings"
    status = 422


class SubclassDamaged(EmotionError):
    """A set of sub-classes is there and cannot be read. Facts: name, problem."""

    code = "subclass_damaged"


class SubclassNotFound(EmotionError):
    """Facts: name, known."""

    code = "subclass_not_found"
    status = 404


def _without_folders(facts: Mapping[str, Any]) -> dict[str, Any]:
    def public(name: str, fact: Any) -> Any:
        if isinstance(fact, texts.Phrase):
            return texts.Phrase(fact.key, **_without_folders(fact.facts))
        return PurePath(str(fact)).name if name == "path" else fact

    return {name: public(name, fact) for name, fact in facts.items()}


def as_known(error: Exception, where: str) -> EmotionError:
    """The error itself if it was foreseen; for any other, one with an id that is also in the log.

    Args:
        error: what was raised.
        where: it happened, for the log: a route or the name of a page.
    """
    if isinstance(error, EmotionError):
        return error
    error_id = secrets.token_hex(4)
    log.error("internal error %s on %s", error_id, where, exc_info=error)
    return EmotionError(error_id=error_id)
