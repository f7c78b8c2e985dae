"""A package that is not installed, in one line: what needs it, and how to install it."""

from importlib.metadata import PackageNotFoundError, requires

from longtail.conf.base.errors import UserError

_SPARK = ("pyspark", "py4j")
_WITHOUT_SPARK = "longtail.load(CKPT).predict_batch(images) and `python -m longtail.training` work without it"


def not_installed(error: ModuleNotFoundError, *, needed_by: str) -> UserError | None:
    """What to say of an import that failed; None if the module is not a package of others.

    needed_by: what the user called
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "longtail"):
        return None
    if package in _SPARK:
        return UserError(
            f"{needed_by} needs Spark, and pyspark is not installed: pip install '{_requirement('pyspark')}' (and Java "
            f"17 or newer); {_WITHOUT_SPARK}"
        )
    return UserError(
        f"{needed_by} needs the module {package}, which is not installed: install Longtail with all that it requires "
        f"(pip install -e . in its repository), in the Python that runs this"
    )


def _requirement(package: str) -> str:
    """The package with the versions that Longtail takes, as far as this installation knows them."""
    try:
        known = requires("longtail") or []
    except PackageNotFoundError:  # the code alone is there, from a zip file
        return package
    return next((each for each in known if each.startswith(package) and ";" not in each), package)
