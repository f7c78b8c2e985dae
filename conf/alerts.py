"""The rules by which a running training is called to attention: conf/alerts.yaml, or a file like it."""

from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longtail.conf.base.errors import UserError


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassCollapsed(_Rule):
    """once_above, now_below: accuracies in [0, 1]"""

    once_above: float = Field(gt=0, le=1)
    now_below: float = Field(ge=0, le=1)


class ForEpochs(_Rule):
    """epochs: how many in a row"""

    epochs: int = Field(gt=0)


class Plateau(_Rule):
    """epochs: how many without a gain; gain: in balanced accuracy, [0, 1]"""

    epochs: int = Field(gt=0)
    gain: float = Field(ge=0, le=1)


class RunSilent(_Rule):
    """seconds: since the last metric event"""

    seconds: float = Field(gt=0)


class NanLoss(_Rule):
    """Nothing to choose."""


class UnlabeledIrrelevant(_Rule):
    """confidence_drop: of mean confidence, in [0, 1]; rho_factor: of rho_U over rho"""

    confidence_drop: float = Field(gt=0, le=1)
    rho_factor: float = Field(gt=0)


class AlertRules(_Rule):
    """A rule that the file leaves out is off."""

    class_collapsed: ClassCollapsed | None = None
    tail_falling: ForEpochs | None = None
    gap_widening: ForEpochs | None = None
    plateau: Plateau | None = None
    nan_loss: NanLoss | None = None
    unlabeled_irrelevant: UnlabeledIrrelevant | None = None
    run_silent: RunSilent | None = None


def read_alert_rules(path: Path | None = None) -> AlertRules:
    """The rules of a YAML file; None: longtail's own. Raises UserError if it is not one."""
    name = path or "conf/alerts.yaml"
    try:
        text = (path or files("longtail.conf") / "alerts.yaml").read_text(encoding="utf-8")
        return AlertRules.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise UserError(f"cannot read the alert rules {name}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{name}: {where}: {first['msg'].lower()}; see conf/alerts.yaml") from None
