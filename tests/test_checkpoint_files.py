"""Files of torch.save from strangers: what they cost and what they may hold."""

import io
import math
import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from longtail.data.pickles import BadPickle
from longtail.training.checkpoint_file import ForeignName, read_checkpoint_file
from longtail.training.checkpoints import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from longtail.training.finite import first_not_finite
from longtail.training.optimizer_state import load_momentum
from tests.refusals import refused

NUMBERS = torch.arange(12, dtype=torch.float32)
ONE = torch.tensor(1)


def saved(file: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file


@pytest.mark.parametrize("zipped", [True, False])
def test_every_kind_of_tensor_comes_back_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    matrix = NUMBERS.view(3, 4)
    kinds = [
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int8,
        torch.uint8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.bool,
    ]
    content = {
        "plain": matrix,
        "transposed": matrix.T,
        "slice": NUMBERS[3:10:2],
        "scalar": torch.tensor(2.5),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "empty": torch.empty(0, 5),
        "parameter": nn.Parameter(matrix.clone()),
        "numbers": [1, -(2**70), 0.5, True, None, "text", (1, 2)],
        "ordered": OrderedDict(a=torch.ones(2), b=1),
        **{str(kind): torch.tensor([0, 1, 100], dtype=kind) for kind in kinds},
    }
    file = saved(tmp_path / "c", content, zipped=zipped)
    got, expected = read_checkpoint_file(file), torch.load(file, weights_only=True)
    assert list(got) == list(expected)
    for name, value in expected.items():
        if torch.is_tensor(value):
            assert torch.equal(got[name], value) and got[name].dtype == value.dtype
            assert got[name].stride() == value.stride() or not value.numel()
    assert got["numbers"] == expected["numbers"]
    assert torch.equal(got["ordered"]["a"], torch.ones(2)) and got["ordered"]["b"] == 1


@pytest.mark.parametrize("zipped", [True, False])
def test_truth_values_are_0_or_1_whatever_bytes_are_stored(tmp_path: Path, zipped: bool) -> None:
    content = {"mask": torch.tensor([0, 1, 2, 255], dtype=torch.uint8).view(torch.bool)}
    got = read_checkpoint_file(saved(tmp_path / "c", content, zipped=zipped))
    assert got["mask"].view(torch.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_of_a_module_is_read_with_its_versions_left_out(tmp_path: Path, zipped: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    got = read_checkpoint_file(saved(tmp_path / "c", network.state_dict(), zipped=zipped))
    assert all(torch.equal(got[name], tensor) for name, tensor in network.state_dict().items())


class Call:
    """Pickled as a call of a function of torch with these arguments."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr(torch._utils, self.name), self.arguments


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, 2).to_sparse(),
        Call("_rebuild_qtensor", 1),
        torch.ones(2, device="meta"),
        torch.ones(2, dtype=torch.complex64),
        nn.Linear(1, 1),
        torch.device("cpu"),
        torch.float32,
        Path("x"),
    ],
    ids=["sparse", "quantised", "meta", "complex", "module", "device", "dtype", "path"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_network_s_weights_do_not_need_is_refused_by_its_name(tmp_path: Path, zipped: bool, value: Any) -> None:
    with pytest.raises(ForeignName, match=r"^it names \w+[\w.]+$"):
        read_checkpoint_file(saved(tmp_path / "c", {"state_dict": {"w": value}}, zipped=zipped))


class Stored:
    """Pickled as a reference to numbers in the file."""

    def __init__(self, *reference: object) -> None:
        self.reference = reference


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return obj.reference if isinstance(obj, Stored) else None


def written(file: Path, value: object, parts: dict[str, bytes], *, compress: int = zipfile.ZIP_STORED) -> Path:
    """An archive as torch.save writes it, of any value and parts."""
    content = io.BytesIO()
    Pickler(content, protocol=2).dump(value)
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
        for name, part in parts.items():
            archive.writestr(f"archive/{name}", part)
    return file


FOUR = Stored("storage", torch.FloatStorage, "0", "cuda:1", 4)
PARTS = {"data/0": NUMBERS[:4].numpy().tobytes(), "byteorder": b"little"}


def rebuilt(storage: Stored, offset: object, size: object, stride: object) -> dict[str, Any]:
    return {"w": Call("_rebuild_tensor_v2", storage, offset, size, stride, False, OrderedDict())}


def test_a_tensor_is_a_view_of_what_is_stored(tmp_path: Path) -> None:
    got = read_checkpoint_file(written(tmp_path / "c", rebuilt(FOUR, 1, (2, 1), (2, 1)), PARTS))
    assert got["w"].tolist() == [[1.0], [3.0]]
    got = read_checkpoint_file(written(tmp_path / "c", rebuilt(FOUR, 0, (2, 2), (1, 2)), PARTS))
    assert got["w"].tolist() == [[0.0, 2.0], [1.0, 3.0]]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (10**9,), (0,)),  # a number for a billion
        (0, (10**9,), (1,)),  # beyond what is stored
        (1, (4,), (1,)),
        (3, (2,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (4,), (-1,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (2**62,)),
        (0, (2**62, 0), (1, 1)),
        (0, (2**39, 2**39, 0), (1, 1, 1)),
        (0, (2, 2), (1,)),
        (0, (2,), None),
        (0, (1,) * 20, (1,) * 20),
        (0, (2.0,), (1,)),
        (0, (True,), (1,)),
        (None, (2,), (1,)),
        (0, [2], (1,)),
        (0, 2, 1),
    ],
)
def test_a_tensor_that_is_not_within_what_is_stored_is_refused(
    tmp_path: Path, offset: object, size: object, stride: object
) -> None:
    with pytest.raises(BadPickle):
        read_checkpoint_file(written(tmp_path / "c", rebuilt(FOUR, offset, size, stride), PARTS))


@pytest.mark.parametrize(
    "reference",
    [
        ("storage", torch.FloatStorage, "0", "cpu", 5),
        ("storage", torch.FloatStorage, "0", "cpu", 2**62),
        ("storage", torch.FloatStorage, "0", "cpu", -1),
        ("storage", torch.DoubleStorage, "0", "cpu", 4),
        ("storage", torch.FloatStorage, "1", "cpu", 4),
        ("storage", torch.FloatStorage, "../data.pkl", "cpu", 4),
        ("storage", torch.FloatStorage, 0, "cpu", 4),
        ("storage", "torch.FloatStorage", "0", "cpu", 4),
        ("storage", torch.FloatStorage, "0", "cpu", 4, ("1", 0, 4)),
        ("module", torch.FloatStorage, "0", "cpu", 4),
        "0",
    ],
    ids=str,
)
def test_a_reference_to_other_numbers_than_the_file_has_is_refused(tmp_path: Path, reference: Any) -> None:
    storage = Stored(*reference) if isinstance(reference, tuple) else FOUR
    if isinstance(reference, str):
        storage.reference = reference
    try:
        with pytest.raises(BadPickle):
            read_checkpoint_file(written(tmp_path / "c", rebuilt(storage, 0, (2,), (1,)), PARTS))
    finally:
        FOUR.reference = ("storage", torch.FloatStorage, "0", "cuda:1", 4)


def test_numbers_of_two_types_are_refused(tmp_path: Path) -> None:
    ints = Stored("storage", torch.IntStorage, "0", "cpu", 4)
    both = {"a": rebuilt(FOUR, 0, (4,), (1,)), "b": rebuilt(ints, 0, (4,), (1,))}
    with pytest.raises(BadPickle, match="in two sizes or types"):
        read_checkpoint_file(written(tmp_path / "c", both, PARTS))


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_compressed_archive_is_refused_at_the_cost_of_its_size(tmp_path: Path) -> None:
    """Two gigabytes of zeros, in two megabytes."""
    before = peak_kib()
    with zipfile.ZipFile(tmp_path / "c", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b".")
        with archive.open("archive/data/0", "w", force_zip64=True) as part:
            for _ in range(200):
                part.write(bytes(10**6))
    with pytest.raises(BadPickle, match="it is compressed"):
        read_checkpoint_file(tmp_path / "c")
    assert peak_kib() - before < 100_000


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64], ids=str
)
def test_one_number_that_is_not_finite_is_found_in_every_type(dtype: torch.dtype) -> None:
    others = {"all": torch.full((3,), torch.finfo(dtype).max, dtype=dtype), "flags": torch.ones(2) > 0, "count": ONE}
    assert first_not_finite(others | {"none": torch.empty(0, dtype=dtype)}) is None
    for value in (math.nan, math.inf, -math.inf):
        tensor = torch.zeros(3, 5, dtype=dtype)
        tensor[1, 2] = value
        assert first_not_finite(others | {"bad": tensor, "later": tensor}) == "bad"


@pytest.mark.parametrize("zipped", [True, False])
def test_many_tensors_of_the_same_numbers_are_refused(tmp_path: Path, zipped: bool) -> None:
    """Each takes time when it is looked at: a file of 7 MB could ask for hours."""
    numbers = torch.zeros(1000)
    for count in (16, 17):
        file = tmp_path / f"{count}.pth"
        torch.save({f"w{i}": numbers[:] for i in range(count)}, file, _use_new_zipfile_serialization=zipped)
    assert len(read_checkpoint_file(tmp_path / "16.pth")) == 16
    with pytest.raises(BadPickle, match="more than 16 times as large as what it stores"):
        read_checkpoint_file(tmp_path / "17.pth")


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    """Two entries of the directory that name the same bytes."""
    file = written(tmp_path / "c", {}, {"data/0": bytes(5000), "data/1": bytes(5000)})
    content = bytearray(file.read_bytes())
    directory = content.rindex(b"PK\x01\x02")  # of data/1, whose place and checksum become those of data/0
    place = content.index(b"PK\x03\x04", content.index(b"archive/data.pkl"))
    content[directory + 42 : directory + 46] = struct.pack("<I", place)
    content[place + 30 : place + 44] = b"archive/data/1"
    del content[content.index(b"PK\x03\x04", place + 1) : content.index(b"PK\x01\x02")]
    end = content.rindex(b"PK\x05\x06")
    content[end + 16 : end + 20] = struct.pack("<I", content.index(b"PK\x01\x02"))
    file.write_bytes(content)
    with pytest.raises(BadPickle, match="its parts are larger than the file"):
        read_checkpoint_file(file)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"byteorder": b"big"}, "big-endian"),
        ({"data/0": bytes(12)}, "lacks 16 bytes of the numbers 0"),
        ({"data/0": None}, "lacks 16 bytes of the numbers 0"),
    ],
)
def test_an_archive_with_other_parts_is_refused(tmp_path: Path, parts: dict[str, Any], named: str) -> None:
    parts = {name: part for name, part in {**PARTS, **parts}.items() if part is not None}
    with pytest.raises(BadPickle, match=named):
        read_checkpoint_file(written(tmp_path / "c", rebuilt(FOUR, 0, (4,), (1,)), parts))


def test_an_old_file_that_announces_more_numbers_than_it_has_bytes_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path / "c", {"w": NUMBERS}, zipped=False).read_bytes()
    announced = content.replace(b"K\x0cN", b"J\xff\xff\xff\x7fN")  # the count of numbers, before no view
    assert announced != content
    (tmp_path / "c").write_bytes(announced)
    before = peak_kib()
    with pytest.raises(BadPickle, match="its tensors are larger than the file"):
        read_checkpoint_file(tmp_path / "c")
    assert peak_kib() - before < 100_000


def test_every_bit_of_a_checkpoint_may_flip(tmp_path: Path) -> None:
    """Either it is refused, or its tensors are those that were saved (a flip in a padding or in a text)."""
    for zipped in (True, False):
        content = saved(tmp_path / "c", {"state_dict": {"w": NUMBERS}, "epoch": 3}, zipped=zipped).read_bytes()
        for place in range(0, len(content), 3):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            (tmp_path / "c").write_bytes(flipped)
            try:
                value = read_checkpoint_file(tmp_path / "c")
            except BadPickle as error:
                assert len(str(error).splitlines()) == 1
                continue
            if zipped and isinstance(value, dict) and "w" in (value.get("state_dict") or {}):
                assert torch.equal(value["state_dict"]["w"], NUMBERS)


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    with refused() as messages:
        load_checkpoint(place)
    assert messages[0] == f"cannot read the checkpoint {place}: it is not a regular file"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epoch": -1}, "its epoch is -1"),
        ({"epoch": 2**70}, "its epoch is 1180591620717411303424"),
        ({"epoch": True}, "its epoch is True"),
        ({"optimizer": [1]}, "its optimizer or companion"),
        ({"companion": {"a": 1}}, "its optimizer or companion"),
        ({"companion": [torch.ones(1)]}, "its optimizer or companion"),
    ],
)
def test_a_field_of_another_type_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with refused() as messages:
        load_checkpoint(saved(tmp_path / "c", {"state_dict": {}, "epoch": 1, **changes}))
    assert named in messages[0]


def test_whole_numbers_in_the_place_of_weights_are_refused(tmp_path: Path) -> None:
    state = {"weight": torch.ones(1, 2, dtype=torch.int64), "bias": torch.ones(1)}
    file = saved(tmp_path / "c", {"state_dict": {f"module.{n}": t for n, t in state.items()}, "longtail": None})
    checkpoint = Checkpoint(epoch=1, arch="a", state_dict=state, optimizer=None, best=None, metadata=None)
    with refused() as messages:
        load_weights(nn.Linear(2, 1), checkpoint, path=file)
    assert "weight is of torch.int64, needed torch.float32" in messages[0]


def trained(*, steps: int = 1) -> tuple[nn.Module, torch.optim.SGD]:
    torch.manual_seed(0)
    network = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    for _ in range(steps):
        network(torch.ones(1, 2, 4, 4)).sum().backward()
        optimizer.step()
    return network, optimizer


def test_momentum_goes_on_where_it_was_and_options_stay(tmp_path: Path) -> None:
    network, optimizer = trained()
    checkpoint = Checkpoint(
        epoch=1, arch="a", state_dict=network.state_dict(), optimizer=optimizer.state_dict(), best=None, metadata=None
    )
    save_checkpoint(tmp_path / "c", checkpoint)
    loaded = load_checkpoint(tmp_path / "c")
    other, resumed = trained(steps=0)
    other.load_state_dict(loaded.state_dict)
    resumed.param_groups[0]["lr"] = 0.5
    load_momentum(resumed, loaded.optimizer, path=tmp_path / "c")
    assert resumed.param_groups[0]["lr"] == 0.5
    for mine, theirs in zip(other.parameters(), network.parameters(), strict=True):
        momentum = resumed.state[mine]["momentum_buffer"]
        assert torch.equal(momentum, optimizer.state[theirs]["momentum_buffer"])
        assert momentum.stride() == mine.stride()


def test_parameters_may_be_numbered_as_old_versions_of_torch_do(tmp_path: Path) -> None:
    _, optimizer = trained()
    state = optimizer.state_dict()
    addresses = {0: 140_000_000_000_016, 1: 140_000_000_000_000}
    old = {
        "state": {addresses[number]: entry for number, entry in state["state"].items()},
        "param_groups": [{**state["param_groups"][0], "params": list(addresses.values())}],
    }
    old = read_checkpoint_file(saved(tmp_path / "c", old, zipped=False))
    network, resumed = trained(steps=0)
    load_momentum(resumed, old, path=tmp_path / "c")
    assert torch.equal(resumed.state[network.weight]["momentum_buffer"], state["state"][0]["momentum_buffer"])
    assert torch.equal(resumed.state[network.bias]["momentum_buffer"], state["state"][1]["momentum_buffer"])


GROUPS = [{"params": [0, 1]}]
FITTING = {0: {"momentum_buffer": torch.zeros(3, 2, 3, 3)}, 1: {"momentum_buffer": torch.zeros(3)}}


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({**FITTING, 1: {"momentum_buffer": torch.zeros(1)}}, "for parameter 1 it is torch.float32 (1,), needed"),
        ({**FITTING, 0: {"momentum_buffer": torch.zeros(10**6)}}, "for parameter 0 it is torch.float32 (1000000,)"),
        ({**FITTING, 1: {"momentum_buffer": torch.zeros(3, dtype=torch.float64)}}, "torch.float64 (3,), needed"),
        ({**FITTING, 1: {"momentum_buffer": [0.0] * 3}}, "is no tensor"),
        ({**FITTING, 1: [0.0]}, "is no tensor"),
        ({**FITTING, 2: {}}, "its parameters are not numbered"),
        ({**FITTING, "1": {}}, "its parameters are not numbered"),
        (None, "it is no state of SGD"),
    ],
)
def test_momentum_that_does_not_fit_is_refused(state: Any, named: str) -> None:
    _, optimizer = trained(steps=0)
    with refused() as messages:
        load_momentum(optimizer, {"state": state, "param_groups": GROUPS}, path=Path("c"))
    assert messages[0].startswith("the optimizer's state in c does not fit: ") and named in messages[0]


@pytest.mark.parametrize("groups", [None, [1], [{}], [{"params": [0]}], [{"params": [0, 0]}], [{"params": ["a", "b"]}]])
def test_groups_that_do_not_fit_are_refused(groups: Any) -> None:
    _, optimizer = trained(steps=0)
    with refused():
        load_momentum(optimizer, {"state": FITTING, "param_groups": groups}, path=Path("c"))
    load_momentum(optimizer, {"state": FITTING, "param_groups": GROUPS}, path=Path("c"))


@pytest.mark.parametrize("state", [{}, {1: {"momentum_buffer": None}}, {0: FITTING[0]}, {**FITTING, 1: {}}], ids=str)
def test_a_parameter_without_momentum_begins_with_none(state: dict[int, Any]) -> None:
    network, optimizer = trained(steps=0)
    load_momentum(optimizer, {"state": state, "param_groups": GROUPS}, path=Path("c"))
    network(torch.ones(1, 2, 4, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(optimizer.state[network.bias]["momentum_buffer"], torch.full((3,), 4.0))
