"""Longtail: learning from long-tailed data, as a pipeline on Spark.

    import longtail as lt
    model = lt.load("runs/NAME/ckpt.pth.tar")
    model.predict_batch(images)

docs/api.md describes the functions. The code is in the six sub-packages `conf`, `data`, `models`, `training`,
`streaming` and `spark_jobs`. Each name is loaded when it is first used, so that `import longtail` is quick and needs
neither Spark nor PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtail import conf, data, models, spark_jobs, streaming, training
    from longtail.spark_jobs.api.dataset import Dataset, prepare
    from longtail.spark_jobs.api.jobs import calibrate, evaluate, pretrain, pseudo_labels, train, train_semi
    from longtail.spark_jobs.api.live import Dashboard, Live, dashboard, live
    from longtail.spark_jobs.api.model import BatchPredictions, Model, load
    from longtail.spark_jobs.api.quality import label_quality
    from longtail.spark_jobs.api.run import Run, Scores
    from longtail.spark_jobs.api.trials import trials

__version__ = "0.2.0"

_PACKAGES = ("conf", "data", "models", "spark_jobs", "streaming", "training")
_MODULES = {
    "BatchPredictions": "model",
    "Dashboard": "live",
    "Dataset": "dataset",
    "Live": "live",
    "Model": "model",
    "Run": "run",
    "Scores": "run",
    "calibrate": "jobs",
    "dashboard": "live",
    "evaluate": "jobs",
    "label_quality": "quality",
    "live": "live",
    "load": "model",
    "prepare": "dataset",
    "pretrain": "jobs",
    "pseudo_labels": "jobs",
    "train": "jobs",
    "train_semi": "jobs",
    "trials": "trials",
}
"""The module of spark_jobs/api/ that defines a function or class."""

__all__ = [
    "BatchPredictions", "Dashboard", "Dataset", "Live", "Model", "Run", "Scores", "__version__", "calibrate", "conf",
    "dashboard", "data", "evaluate", "label_quality", "live", "load", "models", "prepare", "pretrain", "pseudo_labels",
    "spark_jobs", "streaming", "train", "train_semi", "training", "trials",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # a module, a function or a class
    """Import a sub-package, or what a module defines, when it is first used (PEP 562)."""
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _MODULES:
        return getattr(_module_of(name), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _module_of(name: str) -> Any:
    """The module that defines a function or class. Raises UserError if it needs a package that is not installed."""
    try:
        return importlib.import_module(f"{__name__}.spark_jobs.api.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        from longtail.conf.base.missing_packages import not_installed

        message = not_installed(error, needed_by=f"{__name__}.{name}")
        if message is None:
            raise
        raise message from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
