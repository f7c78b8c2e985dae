"""The 531,131 extra images of SVHN, extra_32x32.mat, for the unlabeled part. Their labels are withheld.

MATLAB's format stores all pixels (1.6 GB) as one compressed array: each task decompresses it up to its part, and keeps
that part alone.
"""

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import UNLABELED_FIRST_ID
from longtail.data.sources import svhn
from longtail.data.sources.base import Located, Shard


def locate(options: DataOptions, base: Located) -> Located:
    if options.dataset != "svhn":
        raise UserError(f"--unlabeled svhn_extra has SVHN's classes, not those of {options.dataset}: leave it out")
    paths, origin = svhn.find_files(options.data_dir.absolute(), (UNLABELED,))
    shards = svhn.shards_of(paths[UNLABELED], UNLABELED, svhn.NUM_EXTRA, first_id=UNLABELED_FIRST_ID)
    return svhn.located(shards, origin)


def read(shard: Shard) -> pa.RecordBatch:
    return svhn.read(shard)
