"""Feeds the readers of foreign files with damaged and invented ones.

    python -m tests.fuzz --seconds 600                  all readers, in turn
    python -m tests.fuzz --seconds 60 checkpoints yaml  these
    python -m tests.fuzz --replay checkpoints:0:1234    one input, in this process, with its traceback

A reader must read each input or refuse it by a UserError of one line. Everything else is a failure: another exception,
more than 256 MiB or 10 seconds for one input, and a crash of the interpreter, so that inputs are read in a child
process. An input is made of the reader's name, --seed and its number alone.
"""
