"""What each function of the API that works with Spark has around it."""

from collections.abc import Iterator
from contextlib import contextmanager

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.as_found import session_as_found
from longtail.spark_jobs.cluster.failures import user_message


@contextmanager
def api_call() -> Iterator[None]:
    """The session is left as it was found. What the user can mend is a UserError, also if a Spark task has raised it.

    Also a decorator.
    """
    with session_as_found():
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if (message := user_message(error)) is None:
                raise
            raise UserError(message) from error
