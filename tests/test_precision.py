"""bfloat16, compilation and where images are kept: results, and no synchronisation of a step with the device."""

import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions, PretrainSimclrOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TRAIN
from longtail.models.build import build_model
from longtail.models.heads import CosineHead
from longtail.models.resnet import BasicBlock
from longtail.training.checkpoints import load_checkpoint
from longtail.training.images import fits, images_to_device, move_if_fits
from longtail.training.precision import autocast, compile_model, faster_precision
from longtail.training.run import run_training
from tests.events import events_in
from tests.refusals import refused
from tests.tiny_set import (
    ALONE,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_pseudo_labels,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LAST = "ckpt.pth.tar"


def test_only_bfloat16_precision_multiplies_in_bfloat16() -> None:
    model, images = build_model("resnet20", num_classes=3, in_channels=1), torch.randn(4, 1, 8, 8)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast(precision, CPU):
            assert model(images).dtype == dtype


def test_cosines_stay_exact_in_bfloat16_because_they_are_scaled_up() -> None:
    head, features = CosineHead(64, 5), torch.randn(7, 64)
    with autocast("bfloat16", CPU):
        assert torch.equal(head(features), head.forward(features))
        cosines = head(features)
    exact = nn.functional.cosine_similarity(features.double()[:, :, None], head.weight.double()[None], dim=1)
    assert (cosines - exact).abs().max() < 1e-6


def test_a_training_in_bfloat16_keeps_float32_weights_and_goes_nearly_the_same_way(
    set_dir: Path, tmp_path: Path
) -> None:
    results = {}
    for precision in ("float32", "bfloat16"):
        # At a higher rate so small a set sends them apart.
        options = tiny_options(TrainOptions, learning_rate=0.005, precision=precision)
        results[precision] = run_training(options, paths_of(set_dir, tmp_path / precision), ALONE, attempt=1)
    short, full = weights_in(tmp_path / "bfloat16" / LAST), weights_in(tmp_path / "float32" / LAST)
    assert {tensor.dtype for tensor in short.values()} == {torch.float32, torch.int64}
    assert not torch.equal(short["fc.weight"], full["fc.weight"])
    losses = [results[precision]["splits"][TRAIN]["loss"] for precision in ("float32", "bfloat16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


class SlowInOneType(nn.Module):
    """Takes 20 ms a step more in `slow`."""

    slow = "float32"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def features(self, images: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu") == (self.slow == "bfloat16"):
            time.sleep(0.02)
        return images.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


def slow_in_one_type(*, num_classes: int, in_channels: int) -> SlowInOneType:
    return SlowInOneType(num_classes, in_channels)


@pytest.mark.parametrize(("slow", "fast"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_probe_finds_the_faster_type_and_leaves_the_network_as_it_is(
    monkeypatch: pytest.MonkeyPatch, slow: str, fast: str
) -> None:
    monkeypatch.setattr(SlowInOneType, "slow", slow)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), SlowInOneType(2, 3))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random_state = torch.get_rng_state()
    assert faster_precision(network, (4, 5, 3), ALONE) == fast
    assert same_tensors(network.state_dict(), before) and torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_run_that_chose_its_precision_records_it_and_keeps_it(
    set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_of(set_dir, tmp_path / "run")
    found = []
    # It goes on as on another machine, where the other type is the faster one.
    for epochs, slow in ((1, "float32"), (2, "bfloat16")):
        monkeypatch.setattr(SlowInOneType, "slow", slow)
        options = tiny_options(
            TrainOptions, arch="tests.test_precision:slow_in_one_type", precision="auto", epochs=epochs
        )
        run_training(options, paths, ALONE, attempt=epochs)
        found.append(load_checkpoint(tmp_path / "run" / LAST).metadata)
    assert [metadata.options["precision"] for metadata in found if metadata] == ["bfloat16"] * 2
    told = {event["configuration"] for event in events_in(*paths.events_dir.iterdir()) if event.get("state")}
    assert {json.loads(text)["precision"] for text in told} == {"bfloat16"}


def test_without_compilation_the_model_is_returned_unchanged() -> None:
    model = nn.Linear(2, 2)
    assert compile_model(model, TrainOptions(), CPU) is model


def test_cuda_graphs_need_a_gpu_and_compilation_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused() as messages:
        compile_model(nn.Linear(2, 2), TrainOptions(compile="cuda_graphs"), CPU)
    assert "--compile cuda_graphs needs a GPU" in messages[0]
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with refused() as messages:
        compile_model(nn.Linear(2, 2), TrainOptions(compile="default"), CPU)
    assert "--compile needs the C++ compiler /no/such/compiler, which is not installed" in messages[0]


class OneBlock(nn.Module):
    """What the built-in networks are made of, once: a convolution, and a residual block."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block = BasicBlock(16, 16, stride=1)
        self.fc = nn.Linear(16, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.block(self.conv1(images)).mean(dim=(2, 3))  # (N, 16)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


def one_block(*, num_classes: int, in_channels: int) -> OneBlock:
    return OneBlock(num_classes, in_channels)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_training_ends_nearly_alike_and_its_checkpoint_is_an_ordinary_one(
    set_dir: Path, tmp_path: Path, precision: str
) -> None:
    losses = []
    for compile in ("off", "default"):
        # Batches of one size, for which code is made once, and one block: twenty layers take a minute.
        options = tiny_options(
            TrainOptions,
            arch="tests.test_precision:one_block",
            batch_size=20,
            learning_rate=0.005,
            compile=compile,
            precision=precision,
        )
        result = run_training(options, paths_of(set_dir, tmp_path / compile), ALONE, attempt=1)
        losses.append(result["splits"][TRAIN]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3 if precision == "float32" else 0.05)
    plain, fast = (weights_in(tmp_path / compile / LAST) for compile in ("off", "default"))
    assert plain.keys() == fast.keys()


def test_images_are_kept_on_the_device_if_half_of_its_memory_stays_free() -> None:
    assert fits(500, 1000) and not fits(501, 1000)
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    assert move_if_fits(images, CPU) is images and images_to_device(images, CPU) is images


def test_a_device_with_and_without_its_number_is_the_same() -> None:
    there = torch.zeros(3, 1, 2, 2, dtype=torch.uint8, device="meta")
    assert there.device != torch.device("meta", 0)
    assert images_to_device(there, torch.device("meta", 0)) is there


class Waits(TorchDispatchMode):
    """Counts what would make a GPU wait for the host or the host for it: numbers read, sizes that data decides."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2"):
            self.counts[name] += 1
        if name in ("index", "index_put", "index_put_"):
            self.counts["by mask"] += sum(i is not None and i.dtype == torch.bool for i in arguments[1])
        return function(*arguments, **(named or {}))


def waits(set_dir: Path, run_dir: Path, options: Any, pseudo_labels: Path) -> Counter[str]:
    semi = pseudo_labels if isinstance(options, TrainSemiOptions) and options.needs_pseudo_labels else None
    with Waits() as mode:
        run_training(options, paths_of(set_dir, run_dir, pseudo_labels=semi), ALONE, attempt=1)
    return mode.counts


@pytest.mark.parametrize(
    ("options_type", "changes"),
    [
        (TrainOptions, {"loss_type": "LDAM", "train_rule": "Reweight"}),
        (TrainOptions, {"loss_type": "Focal", "train_rule": "Resample", "precision": "bfloat16"}),
        (TrainSemiOptions, {"imb_factor_unlabel": 1.0, "pseudo_label_type": "soft", "unlabeled_ratio": 1.0}),
        (TrainSemiOptions, {"imb_factor_unlabel": 1.0, "semi_method": "fixmatch", "unlabeled_ratio": 1.0}),
        *(
            (
                TrainSemiOptions,
                # Less than a step of warm-up, so that every mechanism is at work in every step.
                {"imb_factor_unlabel": 1.0, "semi_method": "fixmatch", "unlabeled_ratio": 1.0, "balancing": method}
                | {"darp_warmup": 0.0, "darp_every": 1, "daso_warmup": 0.0},
            )
            for method in ("DA", "DARP", "ABC", "DASO")
        ),
        (PretrainRotOptions, {}),
        (PretrainMocoOptions, {}),
        (PretrainSimclrOptions, {}),
    ],
)
def test_no_step_synchronises_with_the_device(
    set_dir: Path, tmp_path: Path, options_type: Any, changes: dict[str, Any]
) -> None:
    table = write_pseudo_labels(tmp_path / "pseudo", unlabeled_ids(), [0, 1, 2] * 4, [0.5] * 12)
    counts = []
    for batch_size in (20, 10):
        options = tiny_options(options_type, batch_size=batch_size, **changes)
        assert math.ceil(40 / batch_size) in (2, 4), "steps"
        counts.append(waits(set_dir, tmp_path / str(batch_size), options, table))
    assert counts[0] == counts[1], "twice the steps, no more waits"


def test_the_counter_detects_synchronisations() -> None:
    with Waits() as mode:
        values = torch.arange(4.0)
        values.sum().item()
        values[values > 1]
        values.nonzero()
    assert mode.counts == {"_local_scalar_dense": 1, "by mask": 1, "nonzero": 1}
