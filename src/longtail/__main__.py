"""The command `longtail`, also as `python -m longtail`."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is being imported, which takes a moment, is one line as later on."""
    try:
        from longtail.spark_jobs.cli import main as command
    except KeyboardInterrupt:
        print("longtail: interrupted", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
