"""Reads the thresholds of the alert rules: conf/alerts.yaml, or a file of the same form."""

from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.conf.base.model_errors import describe_model_errors
from longtail.conf.base.yaml_text import BadYaml, parse_yaml
from longtail.streaming.alerts.rules import AlertRules


def read_alert_rules(path: Path | None = None) -> AlertRules:
    """The rules of a YAML file, by default of conf/alerts.yaml. A rule that the file omits is off.

    Raises UserError if the file cannot be read or a rule is invalid.
    """
    name = path or "conf/alerts.yaml"
    try:
        text = read_regular_text(path) if path else (files("longtail.conf") / "alerts.yaml").read_text(encoding="utf-8")
        return AlertRules.model_validate(parse_yaml(text))
    except OSError as error:
        raise UserError(f"cannot read the alert rules {name}: {error.strerror}") from None
    except (BadYaml, UnicodeDecodeError) as error:
        raise UserError(f"{name} is not YAML: {error}") from None
    except ValidationError as error:
        complaints = describe_model_errors(error, AlertRules)
        raise UserError(f"{name}: {complaints}; see conf/alerts.yaml for an example") from None
