"""Reads the files that torch.save writes: tensors and plain values, and nothing that runs.

torch.load(weights_only=True) runs no code either, but makes tensors of whatever size and layout the file asks for: a
small file may take all memory, and a tensor may lie outside what is stored. Here the pickle is read by data/pickles.py,
and each tensor is a view of the bytes in the file after all sizes were compared with them.

Both layouts are read: a ZIP archive (since PyTorch 1.6), whose checksums are verified, and before that a sequence of
pickles and bytes.
"""

import io
import math
import struct
import zipfile
from typing import Any, Protocol

import torch
from torch import Tensor

from longtail.conf.base.files import read_regular_file
from longtail.conf.base.locations import Location
from longtail.data.pickles import BadPickle, Calls, PickleReader

_ZIP_MAGIC = b"PK\x03\x04"
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_PROTOCOL = 1001

_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_DICT = "collections.OrderedDict"
_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_NAMES = frozenset({_REBUILD_TENSOR, _REBUILD_PARAMETER, _DICT, *_DTYPES})
_MAX_DIMENSIONS = 16
# A tensor has about 20.
_MAX_INSTRUCTIONS = 1_000_000
_MAX_SHARING = 16
"""How many times the bytes that are stored all tensors together may have: tied weights share theirs."""


# Exceptions of zipfile for a damaged archive.
_DAMAGED_ARCHIVE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, struct.error)


class ForeignName(BadPickle):
    """The file names something else than tensors and plain values, possibly code."""


class _Name(str):
    """A name in the pickle, to tell it from a text."""


class _Storages(Protocol):
    """The bytes of the tensors."""

    def buffer(self, key: str, num_bytes: int) -> bytearray:
        """The bytes stored under ``key``. Raises BadPickle unless there are exactly as many."""
        ...


class _Storage:
    """values: (N,) all numbers of a storage, whose bytes the tensors share"""

    def __init__(self, values: Tensor) -> None:
        self.values = values


class _TensorCalls(Calls):
    def __init__(self, storages: _Storages) -> None:
        self._storages = storages
        self._known: dict[str, _Storage] = {}
        self._num_bytes = 0

    def name(self, name: str) -> _Name:
        if name not in _NAMES:
            raise ForeignName(f"it names {name[:80]}")
        return _Name(name)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if isinstance(function, _Name):
            match str(function), *arguments:
                case ("collections.OrderedDict",):
                    return {}
                case "torch._utils._rebuild_tensor_v2", _Storage() as storage, offset, tuple() as size, stride, *_:
                    tensor = _tensor(storage.values, offset, size, stride)
                    self._num_bytes += tensor.nbytes
                    return tensor
                case "torch._utils._rebuild_parameter", Tensor() as tensor, *_:
                    return tensor
        raise BadPickle("it makes something else than tensors")

    def set_state(self, value: Any, state: Any) -> None:
        # Modules keep versions beside their tensors, which nothing here needs.
        if not isinstance(value, dict) or not isinstance(state, dict):
            raise BadPickle("it has something with fields, which is no tensor")

    def stored(self, reference: Any) -> _Storage:
        match reference:
            case ("storage", _Name() as kind, str() as key, str(), int() as count, *view) if (
                kind in _DTYPES and count >= 0 and view in ([], [None])
            ):
                dtype = _DTYPES[kind]
            case _:
                raise BadPickle("it has a tensor whose numbers are not in the file")
        if key not in self._known:
            buffer = self._storages.buffer(key, count * dtype.itemsize)
            # frombuffer refuses an empty buffer.
            values = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)
            self._known[key] = _Storage(values)
        known = self._known[key].values
        if known.dtype != dtype or len(known) != count:
            raise BadPickle(f"it has the numbers {key[:20]} in two sizes or types")
        return self._known[key]

    def finish(self) -> None:
        """To be called when all numbers are read. Raises BadPickle if very many tensors share them."""
        if self._num_bytes > _MAX_SHARING * sum(storage.values.nbytes for storage in self._known.values()):
            raise BadPickle(f"its tensors are more than {_MAX_SHARING} times as large as what it stores")
        for storage in self._known.values():
            if storage.values.dtype == torch.bool:
                # A byte other than 0 and 1 is no valid truth value in memory.
                content = storage.values.view(torch.uint8)
                content.copy_(content != 0)


def _tensor(values: Tensor, offset: Any, size: tuple[Any, ...], stride: Any) -> Tensor:
    """A view of stored numbers (N,), no larger than they are and within them."""
    layout = [offset, *size, *(stride if isinstance(stride, tuple) else [None])]
    if len(size) > _MAX_DIMENSIONS or len(layout) != 1 + 2 * len(size):
        raise BadPickle(f"it has a tensor of the shape {size[:8]} with steps of {stride}"[:200])
    if not all(type(number) is int and 0 <= number < 2**40 for number in layout):
        raise BadPickle(f"it has a tensor of the shape {size[:8]} with steps of {stride} from {offset} on"[:200])
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if math.prod(size) > len(values) or math.prod(max(count, 1) for count in size) >= 2**62:
        raise BadPickle(f"it has a tensor of the shape {size[:8]} with {len(values)} numbers")
    if math.prod(size) and last >= len(values):
        raise BadPickle(f"it has a tensor that ends {last + 1 - len(values)} numbers behind what is stored")
    return values.as_strided(size, stride, offset) if math.prod(size) else values.new_empty(size)


def read_checkpoint_file(path: Location) -> Any:
    """The value in a file of torch.save, or the named tensors of a .safetensors file, on the CPU.

    Raises OSError if the file cannot be read, ForeignName if it names code, and BadPickle if it is damaged.
    """
    content = read_regular_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(content)
    if not content.startswith(_ZIP_MAGIC):
        return _read_pickles(content)
    try:
        return _read_zip(content)
    except BadPickle:
        raise
    except _DAMAGED_ARCHIVE as error:
        raise BadPickle(str(error) or "its archive is damaged") from None


def _read_safetensors(content: bytes) -> dict[str, Tensor]:
    # Here, because other checkpoints do not need the package.
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise BadPickle(f"it is no file of safetensors: {error}") from None


class _ZipStorages:
    def __init__(self, archive: zipfile.ZipFile, directory: str) -> None:
        self._archive, self._directory = archive, directory

    def buffer(self, key: str, num_bytes: int) -> bytearray:
        name = f"{self._directory}/data/{key}"
        if name not in self._archive.NameToInfo or self._archive.getinfo(name).file_size != num_bytes:
            raise BadPickle(f"it lacks {num_bytes} bytes of the numbers {key[:20]}")
        return bytearray(self._archive.read(name))


def _read_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        # torch.save compresses nothing: so no file takes more memory than it has bytes.
        if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
            raise BadPickle("it is compressed or encrypted")
        if sum(member.file_size for member in members) > len(content):
            raise BadPickle("its parts are larger than the file")
        pickles = [name for name in archive.NameToInfo if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(archive.NameToInfo) != len(members):
            raise BadPickle("it has no data.pkl, or several")
        directory = pickles[0].removesuffix("/data.pkl")
        if archive.NameToInfo.get(f"{directory}/byteorder") and archive.read(f"{directory}/byteorder") != b"little":
            raise BadPickle("its numbers are big-endian")
        calls = _TensorCalls(_ZipStorages(archive, directory))
        value = PickleReader(archive.read(pickles[0]), calls, max_instructions=_MAX_INSTRUCTIONS).read()
    calls.finish()
    return value


class _LaterStorages:
    """Buffers for numbers that the file has behind the pickle that names them; together no larger than the file."""

    def __init__(self, num_bytes: int) -> None:
        self.buffers: dict[str, bytearray] = {}
        self._left = num_bytes

    def buffer(self, key: str, num_bytes: int) -> bytearray:
        self._left -= num_bytes
        if self._left < 0:
            raise BadPickle("its tensors are larger than the file")
        self.buffers[key] = bytearray(num_bytes)
        return self.buffers[key]


def _read_pickles(content: bytes) -> Any:
    storages = _LaterStorages(len(content))
    calls = _TensorCalls(storages)
    reader = PickleReader(content, calls, max_instructions=_MAX_INSTRUCTIONS)
    if reader.read() != _OLD_MAGIC or reader.read() != _OLD_PROTOCOL:
        raise BadPickle("it is no file of torch.save")
    system = reader.read()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise BadPickle("its numbers are big-endian")
    value = reader.read()
    keys = reader.read()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages.buffers):
        raise BadPickle("it stores other numbers than its tensors have")
    position = reader.position
    for key in keys:
        # Their count, as an int64, and the numbers.
        buffer = storages.buffers[key]
        start, position = position + 8, position + 8 + len(buffer)
        if position > len(content):
            raise BadPickle("it ends too early")
        buffer[:] = content[start:position]
    calls.finish()
    return value
