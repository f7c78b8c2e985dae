"""The package deltalake (delta-rs), an optional extra, imported when it is first needed.

Delta's connector for Spark supports Spark up to 4.2, so that delta-rs reads and writes the logs of Delta tables.
"""

import os
from typing import Any

from longtail.conf.base.errors import UserError


def deltalake() -> Any:
    """The module deltalake. Raises UserError if it is not installed."""
    given = os.environ.get("RUST_LOG")
    # It warns for every image column that it has no statistics. It reads the variable as it is imported.
    os.environ.setdefault("RUST_LOG", "error")
    try:
        import deltalake as module
    except ImportError:
        raise UserError("Delta tables need the package deltalake: pip install 'longtail[delta]'") from None
    finally:
        if given is None:
            del os.environ["RUST_LOG"]
    return module
