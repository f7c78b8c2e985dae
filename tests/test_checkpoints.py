"""Checkpoints: ours and the published ones are read whole, all else is refused by name and runs no code."""

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.models.build import build_model
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_metadata import FORMAT_VERSION, BestEpoch, CheckpointMetadata
from longtail.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from tests.refusals import refused


def new_model(*, seed: int = 0, num_classes: int = 3, head: str = "linear", arch: str = "resnet20") -> nn.Module:
    torch.manual_seed(seed)
    return build_model(arch, num_classes=num_classes, in_channels=1, head=head)


def same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def checkpoint_of(model: nn.Module, *, epoch: int = 7) -> Checkpoint:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(4, 1, 8, 8)).sum().backward()
    optimizer.step()
    return Checkpoint(
        epoch=epoch,
        arch="resnet20",
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        best=BestEpoch(epoch=5, val_balanced_accuracy=0.625, test_scores={"accuracy": 0.5, "few_shot_accuracy": None}),
        metadata=CheckpointMetadata(
            run="digits-train",
            phase="train",
            arch="resnet20",
            head="linear",
            logit_scale=1.0,
            class_names=["zero", "one", "two"],
            class_counts=[40, 9, 2],
            rule_counts=[30, 8, 1],
            pseudo_label_round=2,
            image_shape=(8, 8, 1),
            normalisation=Normalisation(mean=(0.25,), std=(0.5,)),
            options={"dataset": "digits", "resume": None, "learning_rate": 0.1},
        ),
    )


def write_published(path: Path, state_dict: dict[str, Tensor]) -> None:
    """A file in the layout of the published code."""
    torch.save(
        {
            "epoch": 200,
            "arch": "resnet20",
            "state_dict": state_dict,
            "best_acc1": torch.tensor(70.36),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        },
        path,
    )


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "ckpt.pth.tar"
    saved = checkpoint_of(new_model())
    save_checkpoint(file, saved)
    loaded = load_checkpoint(file)
    assert same_weights(loaded.state_dict, saved.state_dict)
    assert (loaded.epoch, loaded.arch) == (7, "resnet20")
    assert loaded.best == saved.best
    assert loaded.metadata == saved.metadata
    for number, state in saved.optimizer["state"].items():
        assert torch.equal(loaded.optimizer["state"][number]["momentum_buffer"], state["momentum_buffer"])
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]


def test_a_checkpoint_has_the_published_keys(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", checkpoint_of(new_model()))
    content = torch.load(tmp_path / "c", weights_only=True)
    assert {"epoch", "arch", "state_dict", "best_acc1", "optimizer"} < set(content)
    assert content["best_acc1"] == 62.5  # per cent


def test_without_validation_there_is_no_best_epoch(tmp_path: Path) -> None:
    model = new_model()
    plain = Checkpoint(
        epoch=1, arch="resnet20", state_dict=model.state_dict(), optimizer=None, best=None, metadata=None
    )
    save_checkpoint(tmp_path / "c", plain)
    loaded = load_checkpoint(tmp_path / "c")
    assert (loaded.best, loaded.metadata, loaded.optimizer) == (None, None, None)


def test_a_failed_save_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "c"
    save_checkpoint(file, checkpoint_of(new_model(), epoch=1))
    broken = Checkpoint(
        epoch=2, arch="x", state_dict={}, optimizer={"f": lambda: None}, best=None, metadata=None
    )  # fmt: skip
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(file, broken)
    assert load_checkpoint(file).epoch == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_during_a_save_gets_the_previous_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "c"
    save_checkpoint(file, checkpoint_of(new_model(), epoch=1))
    before = file.read_bytes()
    with file.open("rb") as reader:
        save_checkpoint(file, checkpoint_of(new_model(), epoch=2))
        assert reader.read() == before
    assert load_checkpoint(file).epoch == 2


@pytest.mark.parametrize(
    "prefix", ["", "module.", "module.encoder_q.", "encoder_q.", "_orig_mod.", "module.backbone.", "model.net.encoder."]
)
@pytest.mark.parametrize("head_name", ["fc", "linear"])
def test_the_published_layout_loads_whatever_wrapped_the_network(tmp_path: Path, prefix: str, head_name: str) -> None:
    source, target = new_model(seed=1), new_model(seed=2)
    state = source.state_dict()
    write_published(tmp_path / "c", {f"{prefix}{name}".replace("fc.", f"{head_name}."): t for name, t in state.items()})
    checkpoint = load_checkpoint(tmp_path / "c")
    # 19 convolutions, as many batch norms of 5 tensors, weight and bias of the head.
    assert load_weights(target, checkpoint, path=tmp_path / "c") == 19 + 19 * 5 + 2
    assert same_weights(target.state_dict(), state)
    assert (checkpoint.epoch, checkpoint.arch, checkpoint.metadata) == (200, "resnet20", None)


def test_the_query_encoder_of_a_moco_checkpoint_is_loaded(tmp_path: Path) -> None:
    source, target = new_model(seed=1), new_model(seed=2)
    query = {f"module.encoder_q.{name}": tensor for name, tensor in source.state_dict().items()}
    key = {f"module.encoder_k.{name}": torch.zeros_like(tensor) for name, tensor in source.state_dict().items()}
    write_published(tmp_path / "c", {**key, **query, "module.queue": torch.zeros(128, 16)})
    load_weights(target, load_checkpoint(tmp_path / "c"), path=tmp_path / "c", backbone_only=True)
    assert torch.equal(target.conv1.weight, source.conv1.weight)


def test_a_missing_tensor_under_a_prefix_is_named(tmp_path: Path) -> None:
    state = {f"module.backbone.{name}": tensor for name, tensor in new_model(seed=1).state_dict().items()}
    del state["module.backbone.layer3.0.conv2.weight"]
    assert "layer3.0.conv2.weight is missing" in refused_state(tmp_path, state)


def test_the_backbone_alone_loads_beside_a_head_of_another_size(tmp_path: Path) -> None:
    source, target = new_model(seed=1, num_classes=4), new_model(seed=2, num_classes=3)
    head_before = target.fc.weight.detach().clone()
    write_published(tmp_path / "c", source.state_dict())
    assert load_weights(target, load_checkpoint(tmp_path / "c"), path=tmp_path / "c", backbone_only=True) == 19 + 19 * 5
    assert torch.equal(target.fc.weight, head_before)
    backbone = [name for name in target.state_dict() if not name.startswith("fc.")]
    assert all(torch.equal(target.state_dict()[name], source.state_dict()[name]) for name in backbone)


def refused_state(tmp_path: Path, state: dict[str, Tensor], *, backbone_only: bool = False) -> str:
    """The message with which a network refuses a state, which must leave the network as it was."""
    write_published(tmp_path / "c", state)
    model = new_model(seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with refused() as messages:
        load_weights(model, load_checkpoint(tmp_path / "c"), path=tmp_path / "c", backbone_only=backbone_only)
    assert same_weights(model.state_dict(), before)
    assert f"{tmp_path / 'c'} (resnet20) does not fit the network" in messages[0]
    return messages[0]


@pytest.mark.parametrize("backbone_only", [False, True])
def test_a_missing_tensor_is_named(tmp_path: Path, backbone_only: bool) -> None:
    state = new_model(seed=1).state_dict()
    del state["layer2.1.bn1.running_mean"]
    assert "layer2.1.bn1.running_mean is missing" in refused_state(tmp_path, state, backbone_only=backbone_only)


@pytest.mark.parametrize("backbone_only", [False, True])
def test_an_unknown_tensor_is_named(tmp_path: Path, backbone_only: bool) -> None:
    state = {**new_model(seed=1).state_dict(), "layer4.0.conv1.weight": torch.zeros(1)}
    assert "layer4.0.conv1.weight is unknown" in refused_state(tmp_path, state, backbone_only=backbone_only)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    state = new_model(seed=1, num_classes=4).state_dict()
    message = refused_state(tmp_path, state)
    assert "fc.weight has shape (4, 64), needed (3, 64)" in message
    assert "fc.bias has shape (4,), needed (3,)" in message


def test_three_of_many_problems_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    # resnet32 has two more blocks in each of three stages, each of 2 convolutions and 2 batch norms of 5 tensors.
    message = refused_state(tmp_path, new_model(seed=1, arch="resnet32").state_dict())
    assert message.count("is unknown") == 3
    assert f"and {3 * 2 * (2 + 2 * 5) - 3} more" in message


def test_a_checkpoint_without_any_backbone_tensor_is_refused(tmp_path: Path) -> None:
    assert "is missing" in refused_state(tmp_path, {"fc.weight": torch.zeros(3, 64)}, backbone_only=True)


class Hostile:
    """Runs a command of the shell when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    file, trace = tmp_path / "c", tmp_path / "trace"
    content = {"epoch": 1, "state_dict": {}, "optimizer": Hostile(f"touch {trace}")}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with refused() as messages:
        load_checkpoint(file)
    assert messages[0] == (
        f"{file} is not a checkpoint of tensors and plain values (it names posix.system); it may hold code, so it is "
        "not loaded: if you trust it, load it with PyTorch and save its state_dict alone"
    )
    assert not trace.exists()
    # The file is a working one: read without care, it leaves its trace.
    torch.load(file, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_refused_wherever_it_ends(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "c"
    torch.save({"epoch": 1, "state_dict": {"w": torch.randn(50)}}, file, _use_new_zipfile_serialization=zipped)
    content = file.read_bytes()
    for kept in range(0, len(content), 41):
        file.write_bytes(content[:kept])
        with refused() as messages:
            load_checkpoint(file)
        assert str(file) in messages[0]


def test_a_flipped_byte_in_a_weight_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c"
    weights = torch.randn(50)
    torch.save({"epoch": 1, "state_dict": {"w": weights}}, file)
    content = bytearray(file.read_bytes())
    place = content.find(weights.numpy().tobytes())
    assert place > 0, "the weights lie in the file as they are"
    content[place + 5] ^= 1
    file.write_bytes(content)
    with refused() as messages:
        load_checkpoint(file)
    assert f"{file} is damaged or not a checkpoint (Bad CRC-32 for file 'c/data/0')" in messages[0]


@pytest.mark.parametrize("content", [b"", b"hello", b"epoch: 1\n" * 50, bytes(1000), b"PK\x03\x04", b"\x89PNG\r\n"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c"
    file.write_bytes(content)
    with refused() as messages:
        load_checkpoint(file)
    assert str(file) in messages[0]


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(2),
        [1],
        {"epoch": 1},
        {"state_dict": [1]},
        {"state_dict": {"w": 3}},
        {"state_dict": {1: torch.ones(1)}},
    ],
    ids=["tensor", "list", "no state", "list of state", "number", "no name"],
)
def test_a_file_of_tensors_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c")
    with refused() as messages:
        load_checkpoint(tmp_path / "c")
    assert "is not a checkpoint: it has no state_dict" in messages[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["state_dict", "companion", "optimizer"])
def test_a_checkpoint_of_a_diverged_training_is_refused_by_every_reader(
    tmp_path: Path, part: str, value: float
) -> None:
    file = tmp_path / "ckpt.pth.tar"
    save_checkpoint(file, checkpoint_of(new_model()))
    content = torch.load(file, weights_only=True)
    content["companion"] = {"queue": torch.zeros(2, 3)}
    tensors = content["optimizer"]["state"][4] if part == "optimizer" else content[part]
    tensors[list(tensors)[-1]].view(-1)[-1] = value
    torch.save(content, file)
    with refused() as messages:
        load_checkpoint(file)
    assert messages[0].startswith(f"{file} has NaN or infinite numbers (")
    assert "train again with a lower --lr" in messages[0]
    if part == "optimizer":
        assert "the optimizer's momentum_buffer of parameter 4" in messages[0]


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    newer = json.dumps({"format_version": FORMAT_VERSION + 1, "model": "other"})
    torch.save({"epoch": 1, "state_dict": {}, "longtail": newer}, tmp_path / "c")
    with refused() as messages:
        load_checkpoint(tmp_path / "c")
    assert (
        f"c has the format version {FORMAT_VERSION + 1}, this version of Longtail reads up to {FORMAT_VERSION}: "
        "upgrade longtail" in messages[0]
    )


@pytest.mark.parametrize(
    "ours", ["no json", "{}", "3", '{"format_version": 1, "model_card": {"run": "r"}, "best": null}']
)
def test_a_checkpoint_without_a_whole_model_card_is_refused(tmp_path: Path, ours: str) -> None:
    torch.save({"epoch": 1, "state_dict": {}, "longtail": ours}, tmp_path / "c")
    with refused() as messages:
        load_checkpoint(tmp_path / "c")
    assert "has no valid description of its model" in messages[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", 3), ("phase", None), ("arch", ["resnet20"]), ("logit_scale", "1"), ("class_names", "012"),
        ("class_names", [0, 1, 2]), ("class_counts", [40, 9, "2"]), ("class_counts", {"0": 40}), ("rule_counts", None),
        ("pseudo_label_round", 1.5), ("image_shape", [8, 8]), ("image_shape", [8, 8, "1"]), ("options", []),
        ("normalisation", {"mean": [0.25], "std": ["0.5"]}), ("normalisation", [0.25, 0.5]), ("set_identity", 7),
        ("colour", "red"),
    ],
)  # fmt: skip
def test_a_model_card_with_a_field_of_another_type_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    file = tmp_path / "c"
    save_checkpoint(file, checkpoint_of(new_model()))
    content = torch.load(file, weights_only=True)
    part = json.loads(content["longtail"])
    part["model_card"][name] = value
    torch.save({**content, "longtail": json.dumps(part)}, file)
    with refused() as messages:
        load_checkpoint(file)
    assert messages[0].startswith(f"{file} has no valid description of its model (")
    assert len(messages[0]) < 400


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"there is no checkpoint {tmp_path / 'c'}"):
        load_checkpoint(tmp_path / "c")
    with refused():
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"logit_scale": -1.0},
        {"logit_scale": 0.0},
        {"head": "other"},
        {"class_names": ["zero", "one", "one"]},
        {"class_names": ["zero", "one"]},
        {"class_names": ["zero", "one", "\x1b[31m"]},
        {"class_counts": [40, 9, -2]},
        {"rule_counts": [30]},
        {"normalisation": {"mean": [0.25], "std": [0.0]}},
        {"normalisation": {"mean": [0.25] * 3, "std": [0.5] * 3}},
        {"normalisation": {"mean": [float("nan")], "std": [0.5]}},
        {"image_shape": [0, 8, 1]},
        {"pseudo_label_round": -1},
        {"options": {}},
        {"options": {"dataset": 5}},
    ],
    ids=str,
)
def test_a_card_whose_values_would_give_wrong_predictions_is_refused(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    file = tmp_path / "c.tar"
    save_checkpoint(file, checkpoint_of(new_model()))
    content = torch.load(file, weights_only=True)
    fields = json.loads(content["longtail"])
    fields["model_card"] |= changed
    torch.save({**content, "longtail": json.dumps(fields)}, file)
    with refused() as messages:
        load_checkpoint(file)
    assert messages[0].startswith(str(file))


def test_a_tensor_that_is_not_finite_is_not_hidden_by_another_of_its_name(tmp_path: Path) -> None:
    file = tmp_path / "c.tar"
    torch.save({"state_dict": {"a": torch.tensor([math.nan])}, "companion": {"a": torch.zeros(1)}}, file)
    with refused() as messages:
        load_checkpoint(file)
    assert f"{file} has NaN or infinite numbers (a)" in messages[0]


@pytest.mark.parametrize(
    ("key", "prefix"),
    [(None, ""), ("model", "module."), ("model_state_dict", "_orig_mod."), ("net", "module._orig_mod.")],
)
def test_tensors_are_found_where_other_programs_keep_them(tmp_path: Path, key: str | None, prefix: str) -> None:
    model = new_model(seed=1)
    tensors = {f"{prefix}{name}": tensor.half() for name, tensor in model.state_dict().items()}
    torch.save(tensors if key is None else {key: tensors, "epoch": 3}, tmp_path / "c.pth")
    loaded = load_checkpoint(tmp_path / "c.pth")
    assert loaded.state_dict.keys() == model.state_dict().keys()
    assert torch.equal(loaded.state_dict["fc.weight"], model.state_dict()["fc.weight"].half())
