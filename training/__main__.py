"""Training without Spark, on a data set written by `longtail prepare`.

    python -m longtail.training train --set_dir datasets/prepared/NAME
    torchrun --nproc_per_node 2 -m longtail.training train --world_size 2 --set_dir ...

The options that the set was prepared with are known from its manifest; others that contradict it are refused.
--set_dir may be the URL of a store (s3a://, hdfs://, gs://, abfss://).

JOB is pretrain_rot, pretrain_moco, pretrain_simclr, train, train_semi (with --pseudo_labels) or train_classifier, with
the options of `longtail JOB`. The run has the same name and files as with Spark.
"""

import sys

from longtail.conf.base.errors import UserError
from longtail.conf.base.missing_packages import not_installed
from longtail.conf.base.output import ending_with_its_reader
from longtail.conf.base.signals import sigterm_as_ctrl_c
from longtail.conf.base.system_errors import message_of


def run_command() -> None:
    """Run the training that the arguments name; turn what users can mend, and Ctrl-C, into one line and a status."""
    try:
        with ending_with_its_reader(), sigterm_as_ctrl_c():
            # PyTorch takes seconds to import; whoever presses Ctrl-C meanwhile sees no stack trace either.
            from longtail.training.command import main

            main(sys.argv[1:])
    except UserError as error:
        _refuse(error)
    except ModuleNotFoundError as error:
        message = not_installed(error, needed_by="a training")
        if message is None:
            raise
        _refuse(message)
    except OSError as error:
        line = message_of(error.errno, error.filename)
        if line is None:
            raise
        _refuse(UserError(line))
    except KeyboardInterrupt:
        print("python -m longtail.training: interrupted", file=sys.stderr)
        sys.exit(130)


def _refuse(error: UserError) -> None:
    print(f"python -m longtail.training: error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    run_command()
