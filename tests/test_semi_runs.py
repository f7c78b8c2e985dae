"""Whole trainings with each method on top of FixMatch: stopped and gone on from, measured, used, told in events."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from longtail.conf.base.files import content_hash
from longtail.conf.options.fixmatch import BALANCING
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, UNLABELED
from longtail.data.contract import HIDDEN_LABEL, split_directory
from longtail.data.manifest import read_manifest
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.fixmatch import fixmatch_task
from longtail.training.inference import infer
from longtail.training.objective import Task
from longtail.training.run import run_training
from longtail.training.semi.fixmatch_base import ViewOutputs
from longtail.training.semi.semi_module import SemiModule
from tests.events import events_in
from tests.interruption import interrupted_after
from tests.refusals import refused
from tests.tiny_set import (
    ALONE,
    COUNTS,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_pseudo_labels,
    write_tiny_set,
)

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = "ckpt.pth.tar"


def options(method: str, **changes: Any) -> TrainSemiOptions:
    usual = {"unlabeled_ratio": 1.0, "confidence_threshold": 0.4, "darp_every": 2, "da_window": 4, "daso_queue": 5}
    return tiny_options(
        TrainSemiOptions,
        **{"imb_factor_unlabel": 1.0, "semi_method": "fixmatch", "balancing": method, **usual, **changes},
    )


def train(set_dir: Path, run_dir: Path, method: str, **changes: Any) -> dict[str, Any]:
    return run_training(options(method, **changes), paths_of(set_dir, run_dir), ALONE, attempt=1)


@pytest.mark.parametrize("method", BALANCING)
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(set_dir: Path, tmp_path: Path, method: str) -> None:
    train(set_dir, tmp_path / "undisturbed", method, epochs=3)
    with interrupted_after(2):
        train(set_dir, tmp_path / "stopped", method, epochs=3)
    torch.manual_seed(5)
    train(set_dir, tmp_path / "stopped", method, epochs=3)
    ours, theirs = (tmp_path / name / LAST for name in ("stopped", "undisturbed"))
    assert same_tensors(weights_in(ours), weights_in(theirs))
    companions = [torch.load(path, weights_only=True)["companion"] for path in (ours, theirs)]
    assert same_tensors(*companions)
    kept = {name.removeprefix("method.") for name in companions[0] if name.startswith("method.")}
    assert (
        kept
        == {
            "none": set(),
            "DA": {"recent"},
            "CReST+": {"recent"},
            "DARP": {"predictions", "multipliers", "smallest_kept"},
            "ABC": {"backbone_head.weight", "backbone_head.bias"},
            "DASO": {"queue", "num_queued", "shares", "counted"},
        }[method]
    )


def test_darp_s_estimate_is_not_the_labelled_shares_and_lies_in_the_checkpoint(set_dir: Path, tmp_path: Path) -> None:
    changes = {"unlabeled_shares": "estimated", "val_fraction": 0.1, "darp_warmup": 0.2}
    train(set_dir, tmp_path / "run", "DARP", epochs=2, **changes)
    sizes = torch.load(tmp_path / "run" / LAST, weights_only=True)["companion"]["method.sizes"]
    labelled = torch.tensor(COUNTS[TRAIN], dtype=torch.float64)
    assert sizes.sum() == pytest.approx(sum(COUNTS[UNLABELED]))
    assert not torch.allclose(sizes, sizes.sum() * labelled / labelled.sum())


@pytest.mark.long
@pytest.mark.parametrize("method", BALANCING)
def test_every_method_takes_another_way(set_dir: Path, tmp_path: Path, method: str) -> None:
    changes = {"epochs": 2, "darp_warmup": 0.2, "darp_every": 1, "daso_warmup": 0.2, "confidence_threshold": 0.0}
    # In its first generation CReST+ is distribution alignment.
    other = {"none": "DA", "CReST+": "none"}.get(method, "none")
    train(set_dir, tmp_path / "one", method, **changes)
    train(set_dir, tmp_path / "other", other, **changes)
    assert not same_tensors(weights_in(tmp_path / "one" / LAST), weights_in(tmp_path / "other" / LAST))


def test_what_the_run_says_of_the_test_images_is_what_its_checkpoint_says(set_dir: Path, tmp_path: Path) -> None:
    for method in ("none", "ABC"):
        run_dir = tmp_path / method
        result = train(set_dir, run_dir, method, epochs=2)
        checkpoint = run_dir / LAST
        again = run_evaluation(
            tiny_options(TrainOptions, evaluate=True, resume=checkpoint), paths_of(set_dir, run_dir), ALONE
        )
        assert again["splits"][TEST]["class_accuracy"] == result["splits"][TEST]["class_accuracy"]
        assert again["splits"][TEST]["loss"] == pytest.approx(result["splits"][TEST]["loss"], rel=1e-6)
        images = np.zeros((3, 8, 8, 1), np.uint8)
        assert infer(checkpoint, content_hash(checkpoint), images, batch_size=3).logits.shape == (3, 3)


def test_the_average_is_kept_and_the_trained_weights_lie_beside_it(set_dir: Path, tmp_path: Path) -> None:
    train(set_dir, tmp_path / "run", "none", learning_rate=0.5)
    kept = weights_in(tmp_path / "run" / LAST)
    beside = torch.load(tmp_path / "run" / LAST, weights_only=True)["companion"]
    assert {name.removeprefix("trained.") for name in beside} == set(kept)
    assert not torch.equal(kept["fc.weight"], beside["trained.fc.weight"])
    assert torch.equal(kept["bn1.running_mean"], beside["trained.bn1.running_mean"])
    train(set_dir, tmp_path / "alone", "none", learning_rate=0.5, ema_decay=0.0)
    assert torch.load(tmp_path / "alone" / LAST, weights_only=True)["companion"] == {}


def test_the_trained_network_and_the_average_start_from_what_was_pre_trained(set_dir: Path, tmp_path: Path) -> None:
    run_training(tiny_options(TrainOptions), paths_of(set_dir, tmp_path / "before"), ALONE, attempt=1)
    train(set_dir, tmp_path / "run", "none", pretrained_model=tmp_path / "before" / LAST, learning_rate=1e-30)
    before, after = weights_in(tmp_path / "before" / LAST), weights_in(tmp_path / "run" / LAST)
    beside = torch.load(tmp_path / "run" / LAST, weights_only=True)["companion"]
    assert torch.allclose(after["conv1.weight"], before["conv1.weight"])
    assert torch.equal(beside["trained.conv1.weight"], before["conv1.weight"])
    assert not torch.equal(after["fc.weight"], before["fc.weight"])


@pytest.mark.parametrize(("method", "learned"), [("DASO", 120), ("ABC", 160)])
def test_a_training_looks_at_the_views_that_it_needs(
    set_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    learned: int,
) -> None:
    seen: list[tuple[int, bool]] = []
    outputs = SemiModule._outputs

    def counted(module: SemiModule, images: torch.Tensor) -> ViewOutputs:
        seen.append((len(images), torch.is_grad_enabled()))
        return outputs(module, images)

    monkeypatch.setattr(SemiModule, "_outputs", counted)
    changes = {"daso_warmup": 0.2} if method == "DASO" else {}
    result = train(set_dir, tmp_path / "run", method, epochs=2, **changes)
    # An epoch has 40 labelled images in their weak views, and 40 unlabeled ones in two, with ABC three.
    assert sum(number for number, has_gradient in seen if has_gradient) == 2 * learned
    assert all(has_gradient for _, has_gradient in seen)
    assert result["splits"][TRAIN]["totals"]["support"] == COUNTS[TRAIN]


def test_batch_norm_takes_as_much_of_a_batch_as_it_is_told(set_dir: Path, tmp_path: Path) -> None:
    train(set_dir, tmp_path / "run", "none", bn_momentum=1e-12)
    assert weights_in(tmp_path / "run" / LAST)["bn1.running_mean"].abs().max() < 1e-9


def test_nesterov_s_momentum_takes_another_way(set_dir: Path, tmp_path: Path) -> None:
    for name in ("plain", "nesterov"):
        train(set_dir, tmp_path / name, "none", nesterov=name == "nesterov")
    assert not same_tensors(weights_in(tmp_path / "plain" / LAST), weights_in(tmp_path / "nesterov" / LAST))


def test_a_training_cannot_be_resumed_with_another_method(set_dir: Path, tmp_path: Path) -> None:
    train(set_dir, tmp_path / "one", "ABC")
    with refused() as messages:
        train(set_dir, tmp_path / "other", "DASO", epochs=2, resume=tmp_path / "one" / LAST)
    assert "is from another kind of training or other options" in messages[0]


# CReST+


def second_generation(set_dir: Path, table: Path) -> Task:
    return fixmatch_task(
        options("CReST+", rounds=2, crest_alpha=1.0), set_dir, read_manifest(set_dir), ALONE.device, pseudo_labels=table
    )


def test_a_further_generation_has_the_selected_images_with_their_pseudo_labels(set_dir: Path, tmp_path: Path) -> None:
    # Labelled 24, 12, 4: of class 0 a sixth is taken, of class 1 a half, of class 2 all.
    ids, labels = unlabeled_ids(), [0] * 6 + [1] * 4 + [2] * 2
    confidence = [0.5, 0.9, 0.6, 0.7, 0.8, 0.5, 0.7, 0.6, 0.9, 0.5, 0.4, 0.4]
    task = second_generation(set_dir, write_pseudo_labels(tmp_path / "table", ids, labels, confidence))
    taken = [ids[1], ids[6], ids[8], ids[10], ids[11]]
    assert task.data.train.ids[40:45].tolist() == taken
    assert task.data.train.labels[40:45].tolist() == [0, 1, 1, 2, 2]
    assert task.data.train.ids[45:].tolist() == ids and set(task.data.train.labels[45:].tolist()) == {NO_CLASS}
    assert torch.equal(task.data.train.images[40], task.data.train.images[45 + 1])
    assert (task.data.num_labelled, task.data.pseudo_label_round) == (45, 1)
    assert (task.data.class_counts, task.data.pseudo_label_counts) == ([25, 14, 6], [1, 2, 2])


def test_a_table_of_other_images_is_refused(set_dir: Path, tmp_path: Path) -> None:
    table = write_pseudo_labels(tmp_path / "table", [1, 2], [0, 0], [0.5, 0.5])
    with refused() as messages:
        second_generation(set_dir, table)
    assert "labels other images than the unlabeled part" in messages[0]


def test_a_second_generation_is_trained(set_dir: Path, tmp_path: Path) -> None:
    table = write_pseudo_labels(tmp_path / "table", unlabeled_ids(), [0, 1, 2] * 4, [0.5] * 12)
    paths = paths_of(set_dir, tmp_path / "run", pseudo_labels=table)
    result = run_training(options("CReST+", rounds=2), paths, ALONE, attempt=1)
    # Of four each ceil(4 (4/24)^(1/3)) = 3, ceil(4 (12/24)^(1/3)) = 4, and all.
    assert (result["pseudo_label_round"], result["class_counts"]) == (1, [27, 16, 8])


# What is told of the pseudo-labels


def class_events(run_dir: Path) -> list[dict[str, Any]]:
    events = events_in(*sorted((run_dir.parent / "events").iterdir()))
    return [event for event in events if event["kind"] == "class" and event["run"] == run_dir.name]


def test_each_epoch_tells_how_right_the_pseudo_labels_of_each_class_were(set_dir: Path, tmp_path: Path) -> None:
    # Everything is sure: each of the 40 images that an epoch sees has a pseudo-label.
    train(set_dir, tmp_path / "run", "none", epochs=2, confidence_threshold=0.0)
    for epoch in (1, 2):
        events = [e for e in class_events(tmp_path / "run") if (e["split"], e["epoch"]) == (UNLABELED, epoch)]
        assert [event["class_id"] for event in events] == [0, 1, 2]
        assert sum(event["support"] for event in events) == sum(event["predicted"] for event in events) == 40
        # 12 images of 3, 4 and 5: in 40 draws each comes three times, and four of them once more.
        for event, count in zip(events, COUNTS[UNLABELED], strict=True):
            assert 3 * count <= event["support"] <= 4 * count
            assert event["correct"] <= min(event["support"], event["predicted"])
    train(set_dir, tmp_path / "unsure", "none", confidence_threshold=1.0)
    told = [event for event in class_events(tmp_path / "unsure") if event["split"] == UNLABELED]
    assert [(event["correct"], event["predicted"]) for event in told] == [(0, 0)] * 3
    assert sum(event["support"] for event in told) == 40


def test_where_nobody_knows_the_truth_nothing_is_told(tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    file = split_directory(set_dir, UNLABELED) / "part-0.parquet"
    rows = pq.read_table(file, partitioning=None)
    place = rows.schema.get_field_index(HIDDEN_LABEL)
    field = rows.schema.field(place)
    nobody = rows.set_column(place, field, pa.nulls(len(rows), field.type))
    pq.write_table(nobody, file, write_page_checksum=True)
    train(set_dir, tmp_path / "run", "DA")
    assert {event["split"] for event in class_events(tmp_path / "run")} == {TRAIN, TEST, "val"}
