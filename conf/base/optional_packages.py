"""The package deltalake (delta-rs), an extra of longtail's: loaded by whoever needs it, when it does.

The connector that Delta publishes for Spark is built for Spark up to 4.2, so delta-rs reads and writes the logs of the
Delta tables.
"""

import os
from typing import Any

from longtail.conf.base.errors import UserError


def deltalake() -> Any:
    """The module. Raises UserError if it is not installed."""
    # It says at every column of images that it keeps no statistics of it.
    os.environ.setdefault("RUST_LOG", "error")
    try:
        import deltalake as module
    except ImportError:
        raise UserError("Delta tables need the package deltalake: pip install 'longtail[delta]'") from None
    return module
