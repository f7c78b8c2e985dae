"""In the Python workers of a test: PyTorch says that it has GPUs, and computes nothing on them.

FAKE_GPUS: a file that holds their number; or "first" for two in the first rank, and none in the others
FAKE_UUIDS: "host" if the workers share one host's GPUs; else each has GPUs of its own
"""

import os
from pathlib import Path
from types import SimpleNamespace

import torch
from pyspark import TaskContext


def device_count() -> int:
    said = Path(os.environ["FAKE_GPUS"]).read_text()
    context = TaskContext.get()
    if said == "first":
        return 2 * int(context is not None and context.partitionId() == 0)
    return int(said)


def properties(device: object) -> SimpleNamespace:
    place = "host" if os.environ.get("FAKE_UUIDS") == "host" else os.getpid()
    return SimpleNamespace(uuid=f"{place}-{getattr(device, 'index', device)}")


torch.cuda.device_count = device_count
torch.cuda.is_available = lambda: device_count() > 0
torch.cuda.get_device_properties = properties
torch.cuda.set_device = lambda device: None
