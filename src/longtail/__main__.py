"""The command `longtail`, also as `python -m longtail`."""

import sys


def main() -> None:
    """Run the command line.

    Ctrl-C while it is being imported, which takes a moment, is one line as later on; so is a package that is missing.
    """
    try:
        from longtail.spark_jobs.cli import main as command
    except KeyboardInterrupt:
        print("longtail: interrupted", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        from longtail.conf.base.missing_packages import not_installed

        message = not_installed(error, needed_by="the command longtail")
        if message is None:
            raise
        print(f"longtail: error: {message}", file=sys.stderr)
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
