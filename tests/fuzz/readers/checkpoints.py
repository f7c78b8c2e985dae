"""Checkpoints: damaged archives, and whole ones whose pickle is damaged or of random instructions."""

import io
import zipfile
from functools import cache
from pathlib import Path
from random import Random

import torch
from torch import nn

from longtail.training.checkpoints import load_checkpoint, load_weights
from longtail.training.optimizer_state import load_momentum
from tests.fuzz.mutation import damaged
from tests.fuzz.readers.pickles import TOKENS as PICKLE_TOKENS


def network() -> tuple[nn.Module, torch.optim.SGD]:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    return made, torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9, fused=True)


network()[1].zero_grad()  # loads modules of PyTorch that take seconds, before an input is timed


@cache
def seed(*, zipped: bool) -> bytes:
    """Made in the child process that reads it: PyTorch's threads do not survive a fork."""
    made, optimizer = network()
    made(torch.ones(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "arch": "resnet20",
        "state_dict": made.state_dict(),
        "optimizer": optimizer.state_dict(),
        "companion": {"queue": torch.ones(4).as_strided((2, 2), (1, 2))},
    }
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


_TORCH_TOKENS = [
    *(b"ctorch\n" + name + b"Storage\n" for name in (b"Float", b"Double", b"Long", b"Bool", b"Untyped", b"QInt8")),
    *(b"ctorch._utils\n" + name + b"\n" for name in (b"_rebuild_tensor_v2", b"_rebuild_parameter", b"_rebuild_tensor",
      b"_rebuild_sparse_tensor", b"_rebuild_qtensor", b"_rebuild_meta_tensor_no_storage")),
    b"ccollections\nOrderedDict\n", b"X\x07\x00\x00\x00storage", b"X\x03\x00\x00\x00cpu", b"X\x01\x00\x00\x000", b"Q",
    b"X\x0f\x00\x00\x00momentum_buffer", b"X\x0a\x00\x00\x00state_dict", b"K\x04\x85", b"K\x00\x85",
]  # fmt: skip
_TOKENS = [*PICKLE_TOKENS, *_TORCH_TOKENS, *_TORCH_TOKENS]


def generate(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.35:
        return damaged(seed(zipped=random.random() < 0.5), random)
    if kind < 0.5:
        return damaged(seed(zipped=False), random, tokens=_TOKENS)
    return _archive(random)


def _archive(random: Random) -> bytes:
    """A whole archive, checksums included, of damaged parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed(zipped=True))) as source, zipfile.ZipFile(file, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith("data.pkl"):
                content = damaged(content, random, tokens=_TOKENS)
            elif random.random() < 0.05:
                content = damaged(content, random)
            if random.random() < 0.98:
                compression = zipfile.ZIP_DEFLATED if random.random() < 0.01 else zipfile.ZIP_STORED
                target.writestr(member.filename, content, compression)
    return file.getvalue()


def read(content: bytes, directory: Path) -> None:
    file = directory / "checkpoint"
    file.write_bytes(content)
    checkpoint = load_checkpoint(file)
    for tensor in (*checkpoint.state_dict.values(), *checkpoint.companion.values()):
        tensor.double().sum().item()
    made, optimizer = network()
    if checkpoint.optimizer is not None:
        load_momentum(optimizer, checkpoint.optimizer, path=file)
    load_weights(made, checkpoint, path=file)
    made(torch.ones(2, 1, 4, 4)).sum().backward()
    optimizer.step()
