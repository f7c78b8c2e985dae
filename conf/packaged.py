"""YAML files that users name: one packaged with Longtail by its name, one of their own by its path."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.conf.base.locations import Location
from longtail.conf.base.model_errors import describe_model_errors
from longtail.conf.base.store_path import StorePath
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.base.yaml_text import BadYaml, parse_yaml

Model = TypeVar("Model", bound=BaseModel)


def packaged_names(folder: str) -> list[str]:
    """Names of the YAML files in conf/FOLDER/, without the suffix."""
    names = (file.name for file in (files("longtail.conf") / folder).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_yaml_model(model: type[Model], source: str | Location, *, folder: str, kind: str) -> Model:
    """Read and validate a YAML (or JSON) file.

    source: name of a file in conf/FOLDER/, or a local path: anything with a suffix or a directory; or a Location
    kind: noun for messages, for example "experiment"

    Raises UserError for a name or a file that does not exist, and for content that `model` refuses.
    """
    try:
        return model.model_validate(parse_yaml(_text(_file(source, folder, kind))))
    except OSError as error:
        raise UserError(f"cannot read the {kind} {source}: {error.strerror or error}") from None
    except (BadYaml, UnicodeDecodeError) as error:
        raise UserError(f"{source} is not YAML: {error}") from None
    except ValidationError as error:
        raise UserError(f"{source}: {describe_model_errors(error, model)}") from None


def _file(source: str | Location, folder: str, kind: str) -> Traversable | Location:
    if isinstance(source, StorePath):
        return source
    path = Path(source)
    if path.suffix or len(path.parts) > 1:
        return path
    names = packaged_names(folder)
    if str(source) not in names:
        raise UserError(
            f"there is no {kind} {str(source)!r}{did_you_mean(str(source), names)}: choose one of {', '.join(names)}, "
            f"or give the path of a YAML file"
        )
    # As a resource: in a --py-files zip it has no path.
    return files("longtail.conf") / folder / f"{source}.yaml"


def _text(file: Traversable | Location) -> str:
    return read_regular_text(file) if isinstance(file, Path | StorePath) else file.read_text(encoding="utf-8")
