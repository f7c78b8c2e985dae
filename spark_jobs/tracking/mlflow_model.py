"""Writes a checkpoint as an MLflow model: the file as it is, and the name of the module that reads it. No pickle.

    mlflow.pyfunc.spark_udf(spark, "runs:/ID/model")(images)        # bytes of image files
    mlflow models serve -m runs:/ID/model --env-manager local

Whoever uses it needs Longtail installed, and no Spark but for spark_udf.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

import longtail
from longtail.data.contract import CLASS_NAME, CONFIDENCE, MARGIN, MODEL_VERSION, PREDICTED

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

LOADER = "longtail.spark_jobs.api.mlflow_model"
IMAGE = "image"
COLUMNS = {CLASS_NAME: "string", PREDICTED: "integer", CONFIDENCE: "float", MARGIN: "float", MODEL_VERSION: "string"}
"""What the model gives for each image, with MLflow's types."""


def save_model(checkpoint: Path, directory: Path) -> None:
    """Write an MLflow model of a classifier. Raises UserError if the checkpoint is none."""
    from mlflow import pyfunc

    from longtail.training.inference import read_classifier  # with torch

    _, metadata = read_classifier(checkpoint)
    pyfunc.save_model(
        str(directory),
        loader_module=LOADER,
        data_path=str(checkpoint),
        signature=_signature(),
        input_example=pd.DataFrame({IMAGE: [_grey_image(metadata.image_shape)]}),
        pip_requirements=[f"longtail=={longtail.__version__}"],
    )


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        Schema([ColSpec("binary", IMAGE)]), Schema([ColSpec(kind, name) for name, kind in COLUMNS.items()])
    )


def _grey_image(shape: tuple[int, int, int]) -> bytes:
    """A PNG of one grey: the model goes to others, to whom the images of the training may not."""
    file = io.BytesIO()
    Image.new("L", (shape[1], shape[0]), 128).save(file, "PNG")
    return file.getvalue()
