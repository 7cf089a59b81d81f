"""What /openapi.json says about requests and answers that no class of `records` describes."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, ClassVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from emotion2vec_ui.lab.similar import MAX_TOP, TOP
from emotion2vec_ui.records.report import GRANULARITIES, Files, Report

Responses = dict[int | str, dict[str, Any]]
"""FastAPI's form of documented answers: status to model and description."""


class AllOf:
    """Annotation for FastAPI: an object with the fields of several dataclasses, all described.

    Inheritance would lose the descriptions: pydantic reads attribute docstrings from the source of
    the class itself only. Results are read without, which is set up four times as fast: a class
    that has no setting of its own inherits that of the class whose field it is.
    """

    def __init__(self, *parts: type) -> None:
        self._parts = parts

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.tuple_schema([_described(part, handler) for part in self._parts])

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        assert schema["type"] == "tuple"
        return {"allOf": [handler(part) for part in schema["items_schema"]]}


def _described(part: type, handler: GetCoreSchemaHandler) -> CoreSchema:
    """The schema of a dataclass with its attribute docstrings."""
    whole = make_dataclass(
        "Described",
        [("part", part)],
        namespace={"__pydantic_config__": {"use_attribute_docstrings": True}},
    )
    schema = handler.resolve_ref_schema(handler.generate_schema(whole))
    assert schema["type"] == "dataclass" and schema["schema"]["type"] == "dataclass-args"
    return schema["schema"]["fields"][0]["schema"]


Answer = Annotated[Any, AllOf(Report, Files)]
"""A result as the API answers it: result.json and where its files are."""


@dataclass(frozen=True)
class ErrorFacts:
    """What went wrong, and what to do."""

    code: str
    """For programs; it stays the same in every language."""
    message: str
    """What was found and what was expected, in the caller's language."""
    hint: str
    """What to do about it; may be empty."""


@dataclass(frozen=True)
class ErrorBody:
    """The body of every error."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    error: ErrorFacts
    """What went wrong, and what to do."""


@dataclass(frozen=True)
class ClassicAnswer:
    """The answer to Gradio's classic JSON."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    data: list[Answer]
    """One result."""
    duration: float
    """From request to answer, in s."""


ANY_ERROR: Responses = {"default": {"model": ErrorBody, "description": "Every error."}}

RECOGNITION_ERRORS: Responses = {
    400: {"model": ErrorBody, "description": "A field has a bad value, or there is no audio."},
    401: {"model": ErrorBody, "description": "No or wrong key."},
    403: {"model": ErrorBody, "description": "A page of another site posted."},
    413: {"model": ErrorBody, "description": "Too many bytes, or too long."},
    415: {"model": ErrorBody, "description": "No decoder reads it."},
    422: {"model": ErrorBody, "description": "Too short, empty, silent, or not finite."},
    429: {"model": ErrorBody, "description": "Above the rate limit."},
    500: {"model": ErrorBody, "description": "Anything else; the id is also in the log."},
    503: {"model": ErrorBody, "description": "Queue full or model not ready; see Retry-After."},
    507: {"model": ErrorBody, "description": "The disk is full."},
}

JOB_ERRORS: Responses = {
    400: {
        "model": ErrorBody,
        "description": "A bad value, no file, or a name or an archive that cannot be taken.",
    },
    **{status: RECOGNITION_ERRORS[status] for status in (401, 403, 429, 507)},
    413: {"model": ErrorBody, "description": "Too many files or bytes, also unpacked."},
}

BAD_FIELD: Responses = {
    400: {
        "model": ErrorBody,
        "description": "A parameter has a bad value; the allowed ones are named.",
    }
}
NOT_FOUND: Responses = {404: {"model": ErrorBody, "description": "There is no such result or job."}}

NO_EMBEDDINGS: Responses = {
    404: {
        "model": ErrorBody,
        "description": "No such result, or no embeddings to compare: none at all, none of this "
        "model, or none of this result.",
    },
    422: {"model": ErrorBody, "description": "A recording or an embedding that is not usable."},
}

_AUDIO = {
    "type": "string",
    "format": "binary",
    "description": "One recording: WAV, FLAC, MP3, Ogg, M4A, WebM or the sound of a video.",
}


_GRANULARITY = {
    "type": "string",
    "enum": list(GRANULARITIES),
    "default": GRANULARITIES[0],
    "description": "Nine scores of the whole recording, or also for each 20 ms.",
}


def _form(required: str = "audio", **properties: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": [required], "properties": properties}}


_SUBCLASS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Names of trained sets of sub-classes, each a field of its own: "
    "they divide the score of their base emotion.",
}

PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form(
                audio=_AUDIO,
                granularity=_GRANULARITY,
                extract_embedding={
                    "type": "boolean",
                    "default": False,
                    "description": "Also write embedding.npy.",
                },
                subclass=_SUBCLASS,
            ),
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "description": "Gradio's classic form; its answer is a ClassicAnswer.",
                    "properties": {
                        "data": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 3,
                            "items": {},
                            "description": "[file, granularity, extract_embedding]; the file is a "
                            'data URL in base64 or {"name": ..., "data": data URL}.',
                        }
                    },
                }
            },
        },
    }
}

ROBUSTNESS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form(
                audio=_AUDIO,
                seed={
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 999_999_999,
                    "default": 0,
                    "description": "Of the noises: the same seed gives the same figures.",
                },
            )
        },
    }
}

SIMILAR_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form(
                audio=_AUDIO,
                top={
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_TOP,
                    "default": TOP,
                    "description": "At most so many.",
                },
            )
        },
    }
}

JOB_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form(
                "files",
                files={
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "string", "format": "binary"},
                    "description": "Recordings, or one zip of recordings.",
                },
                granularity=_GRANULARITY | {"description": "frame adds the segments of each."},
                extract_embedding={
                    "type": "boolean",
                    "default": False,
                    "description": "Also keep embeddings, for JSON and Parquet.",
                },
                save={
                    "type": "boolean",
                    "default": False,
                    "description": "Keep each recording as a result of its own, as /api/predict "
                    "does: for the history and the lab.",
                },
                subclass=_SUBCLASS,
            )
        },
    }
}
