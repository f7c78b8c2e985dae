"""The connection to an MLflow server: its URI without credentials, which are in the process's environment meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from longtail.conf.base.errors import UserError
from longtail.conf.base.secret_values import resolved
from longtail.conf.base.shown_text import hide, one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

USER, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DEFAULT_EXPERIMENT = "longtail"
SETTINGS = {
    # It would print the URI.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default, MLflow tries for minutes; what fails is tried again with the next scores.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


@contextmanager
def mlflow_client(given: str) -> Iterator[tuple["MlflowClient", str]]:
    """A client, and the id of the experiment: that of MLFLOW_EXPERIMENT_NAME, or `longtail`, made if it is not there.

    given: the value of --mlflow

    Raises UserError if MLflow is not installed or its server does not answer.
    """
    uri, credentials = _without_credentials(resolved(given, option="--mlflow"))
    for secret in (os.environ.get(PASSWORD), os.environ.get(TOKEN)):
        hide(secret or "")
    with _environment({**SETTINGS, **credentials}):
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise UserError("--mlflow needs MLflow: pip install 'longtail[mlflow]'") from None
        try:
            client = MlflowClient(uri)
            experiment = _experiment(client, os.environ.get(EXPERIMENT) or DEFAULT_EXPERIMENT)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - each kind of server has a client with errors of its own
            raise UserError(
                f"--mlflow: the server does not answer ({reason_of(error)}): start it, or name another"
            ) from None
        yield client, experiment


def reason_of(error: BaseException) -> str:
    """What a client's error says, in one line without secrets."""
    return one_line(str(error))[:300] or type(error).__name__


def _without_credentials(uri: str) -> tuple[str, dict[str, str]]:
    """The URI, and the variables by which MLflow's client gets what stood in it."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UserError(f"--mlflow: the value is no URI ({error})") from None
    if parts.password:
        hide(parts.password)
        hide(unquote(parts.password))
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri, {}
    # MLflow would show it in messages and in links.
    host = parts.netloc.rpartition("@")[2]
    credentials = {USER: unquote(parts.username), PASSWORD: unquote(parts.password or "")}
    return urlunsplit(parts._replace(netloc=host)), credentials


def _experiment(client: "MlflowClient", name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except Exception:
            found = client.get_experiment_by_name(name)  # another process may have made it meanwhile
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(f"the experiment {name} is deleted: restore it, or set {EXPERIMENT}")
    return found.experiment_id


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
