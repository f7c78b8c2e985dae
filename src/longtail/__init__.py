"""Longtail: learning from long-tailed data, as a pipeline on Spark.

    import longtail
    longtail.__version__

The code is in the six sub-packages `conf`, `data`, `models`, `training`, `streaming` and `spark_jobs`. Each is loaded
when its name is first used, so that `import longtail` is quick and needs neither Spark nor PyTorch.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longtail import conf, data, models, spark_jobs, streaming, training

__version__ = "0.2.0"
__all__ = ["__version__", "conf", "data", "models", "spark_jobs", "streaming", "training"]


def __getattr__(name: str) -> ModuleType:
    """Import a sub-package when it is first used (PEP 562)."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
