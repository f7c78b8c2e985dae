"""The option that copies what trainings report to an MLflow server."""

from typing import Any

from longtail.conf.options.base import option

FROM_ENVIRONMENT = "env:MLFLOW_TRACKING_URI"


def mlflow_server(description: str) -> Any:
    """--mlflow [URI]; description: what is copied there."""
    return option(
        None,
        f"{description} (pip install 'longtail[mlflow]'): URI of the server, or env:NAME or file:PATH that has it; "
        f"alone: {FROM_ENVIRONMENT}",
        group="Output", alone=FROM_ENVIRONMENT, in_run_name=False, advanced=True, min_length=1,
    )  # fmt: skip
