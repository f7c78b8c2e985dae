"""Pydantic's complaints about a YAML file, in words for its author."""

import re
import reprlib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from longtail.conf.base.suggestions import did_you_mean


def describe_model_errors(error: ValidationError, model: type[BaseModel]) -> str:
    """All complaints about a mapping that ``model`` refuses, each with its key and perhaps what was meant."""
    details = error.errors()
    missing = {str(detail["loc"][-1]) for detail in details if detail["type"] == "missing"}
    known = sorted({*_keys_within(model), *missing})
    return "; ".join(_described(detail, known) for detail in details)


def _described(detail: ErrorDetails, known_keys: list[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{did_you_mean(str(detail['loc'][-1]), known_keys)}"
    if detail["type"] == "model_type":
        return f"{key or 'the file'} holds a {type(detail['input']).__name__}, 'key: value' lines were expected"
    message = " ".join(detail["msg"].removeprefix("Value error, ").split())
    if detail["type"] == "literal_error":
        message += did_you_mean(str(detail["input"]), re.findall("'([^']*)'", str(detail.get("ctx", {})["expected"])))
    value = "" if isinstance(detail["input"], dict | BaseModel) else f" {reprlib.repr(detail['input'])}"
    return f"{key}{value}: {message[0].lower()}{message[1:]}" if key else message


def _keys_within(annotation: Any) -> set[str]:
    """The keys of a model and of the models in its fields; of another type, those of the models that it is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return {*fields, *(key for field in fields.values() for key in _keys_within(field.annotation))}
    return {key for part in get_args(annotation) for key in _keys_within(part)}
