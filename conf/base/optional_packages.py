"""The package deltalake (delta-rs), an optional extra, imported when it is first needed.

Delta's connector for Spark supports Spark up to 4.2, so that delta-rs reads and writes the logs of Delta tables.
"""

import os
from typing import Any

from longtail.conf.base.errors import UserError


def deltalake() -> Any:
    """The module deltalake. Raises UserError if it is not installed."""
    # It warns for every image column that it has no statistics.
    os.environ.setdefault("RUST_LOG", "error")
    try:
        import deltalake as module
    except ImportError:
        raise UserError("Delta tables need the package deltalake: pip install 'longtail[delta]'") from None
    return module
