"""The loader of MLflow models that trainings have logged (spark_jobs/tracking/mlflow_model.py). Needs no Spark."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from longtail.conf.base.errors import UserError
from longtail.data.contract import CLASS_NAME, CONFIDENCE, MARGIN, MODEL_VERSION, PREDICTED
from longtail.spark_jobs.api.model import Model, load
from longtail.spark_jobs.tracking.mlflow_model import IMAGE


class PyfuncClassifier:
    """What mlflow.pyfunc.load_model() gives."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row for each image: class_name, predicted, confidence, margin, model_version, as `longtail predict` has.

        model_input: with a column `image`, of the bytes of image files

        Raises UserError for an image that cannot be read.
        """
        if IMAGE not in model_input:
            raise UserError(f"the column {IMAGE} is missing: bytes of image files were expected there")
        found = self._model.predict_batch(model_input[IMAGE].tolist())
        columns = {
            CLASS_NAME: found.class_name,
            PREDICTED: found.predicted.astype(np.int32),
            CONFIDENCE: found.confidence,
            MARGIN: found.margin,
        }
        return pd.DataFrame({**columns, MODEL_VERSION: self._model.version}, index=model_input.index)


def _load_pyfunc(path: str) -> PyfuncClassifier:
    """MLflow calls it by this name."""
    return PyfuncClassifier(load(Path(path)))
