"""The loop: it learns, sees every sample once, goes on exactly where it stopped, and refuses what cannot be trained."""

import json
import math
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from longtail.conf.options.training import LOSSES, TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.contract import split_directory
from longtail.models.build import build_model
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.distributed import Rank
from longtail.training.epoch_plan import epoch_generator
from longtail.training.run import run_training
from tests.events import events_in
from tests.interruption import interrupted_after
from tests.refusals import refused
from tests.tiny_set import ALONE, COUNTS, paths_of, same_tensors, tiny_options, weights_in, write_tiny_set

pytestmark = pytest.mark.usefixtures("one_thread")

LAST, BEST = "ckpt.pth.tar", "ckpt.best.pth.tar"


LONG = tiny_options(TrainOptions, epochs=10, val_fraction=0.1)


@pytest.fixture(scope="module")
def long_run(set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an undisturbed run of ten epochs, beside its events."""
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    run_training(LONG, paths_of(set_dir, run_dir), ALONE, attempt=1)
    return run_dir


def result_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "result.json").read_text())


def events_of(run_dir: Path, kind: str = "class") -> list[dict[str, Any]]:
    """All metric events of a kind of the run, by attempt and epoch."""
    events = events_in(*sorted((run_dir.parent / "events").glob(f"{run_dir.name}-*")))
    return [event for event in events if event["kind"] == kind]


def test_training_lowers_the_loss_and_separates_the_classes(long_run: Path) -> None:
    losses = {
        epoch: sum(e["loss_sum"] for e in events_of(long_run) if (e["epoch"], e["split"]) == (epoch, TRAIN))
        for epoch in (1, 10)
    }
    assert losses[10] < losses[1] / 4
    assert result_of(long_run)["splits"][TEST]["balanced_accuracy"] > 0.9


def test_every_sample_is_seen_once_in_every_epoch(long_run: Path) -> None:
    for split in (TRAIN, VAL, TEST):
        for epoch in range(1, 11):
            events = [e for e in events_of(long_run) if (e["split"], e["epoch"]) == (split, epoch)]
            assert [e["support"] for e in events] == COUNTS[split]
            assert sum(e["predicted"] for e in events) == sum(COUNTS[split])


def test_a_run_writes_result_events_checkpoints_and_scalars(long_run: Path) -> None:
    files = {path.name for path in long_run.iterdir()}
    assert {"result.json", LAST, BEST, "tensorboard"} <= files
    assert list((long_run / "tensorboard").glob("events.out.tfevents.*"))
    assert sorted(path.name for path in (long_run.parent / "events").iterdir()) == [
        *(f"undisturbed-attempt001-epoch{epoch:05d}.parquet" for epoch in range(1, 11)),
        "undisturbed-attempt001-finished.jsonl",
        "undisturbed-attempt001-started.jsonl",
    ]


def test_run_events_have_the_epoch_and_the_options(long_run: Path) -> None:
    told = sorted(events_of(long_run, "run"), key=lambda event: event["emitted_at"])
    assert [event["state"] for event in told] == ["started", *["epoch_done"] * 10, "finished"]
    assert [event["epoch"] for event in told] == [0, *range(1, 11), 10]
    assert json.loads(told[0]["configuration"]) == LONG.model_dump(mode="json")
    assert {event["message"] for event in told} == {""}


def test_the_confusion_matrix_of_every_epoch_has_the_counts_of_its_classes(long_run: Path) -> None:
    for split in (VAL, TEST):
        for epoch in range(1, 11):
            cells = [e for e in events_of(long_run, "confusion") if (e["split"], e["epoch"]) == (split, epoch)]
            classes = [e for e in events_of(long_run) if (e["split"], e["epoch"]) == (split, epoch)]
            matrix = np.zeros((3, 3), int)
            for cell in cells:
                assert cell["count"] > 0
                matrix[cell["true_class"], cell["predicted_class"]] += cell["count"]
            assert matrix.sum(axis=1).tolist() == [event["support"] for event in classes]
            assert matrix.sum(axis=0).tolist() == [event["predicted"] for event in classes]
            assert matrix.diagonal().tolist() == [event["correct"] for event in classes]
    assert {cell["split"] for cell in events_of(long_run, "confusion")} == {VAL, TEST}


def test_the_last_events_are_the_result(long_run: Path) -> None:
    result, last = result_of(long_run), [e for e in events_of(long_run) if e["epoch"] == 10]
    assert (result["run"], result["phase"], result["epoch"]) == ("undisturbed", "train", 10)
    assert result["class_names"] == ["class 0", "class 1", "class 2"]
    assert result["copies"] == []
    assert result["class_counts"] == COUNTS[TRAIN]
    assert result["shot_groups"] == ["many", "medium", "few"]  # 24 is more than 20, 4 less than 10
    assert len(last) == 3 * 3
    for event in last:
        totals = result["splits"][event["split"]]["totals"]
        for field in ("support", "correct", "predicted", "loss_sum", "confidence_sum"):
            assert event[field] == totals[field][event["class_id"]]
        assert (event["shot_group"], event["train_count"]) == (
            result["shot_groups"][event["class_id"]],
            COUNTS[TRAIN][event["class_id"]],
        )
        assert (event["run"], event["attempt"], event["phase"]) == ("undisturbed", 1, "train")
        assert event["class_name"] == f"class {event['class_id']}"
        assert event["num_epochs"] == 10


def test_the_result_has_the_scores_of_the_last_predictions(long_run: Path) -> None:
    splits = result_of(long_run)["splits"]
    assert "confusion" not in splits[TRAIN], "while learning, every batch had another network"
    for split in (VAL, TEST):
        scores, confusion = splits[split], splits[split]["confusion"]
        matrix = np.zeros((3, 3))
        matrix[confusion["target"], confusion["predicted"]] = confusion["count"]
        totals = scores["totals"]
        assert matrix.sum(axis=1).tolist() == totals["support"]
        assert matrix.sum(axis=0).tolist() == totals["predicted"]
        assert matrix.diagonal().tolist() == totals["correct"]
        assert scores["top5_accuracy"] is None
        assert scores["class_precision"][0] == totals["correct"][0] / totals["predicted"][0]
        # Were all images in one bin, it would be this; bins can only add to it.
        overall = abs(sum(totals["correct"]) - sum(totals["confidence_sum"])) / sum(totals["support"])
        assert overall - 1e-9 <= scores["expected_calibration_error"] < 1


def test_the_best_checkpoint_is_that_of_the_first_epoch_with_the_highest_validation_score(long_run: Path) -> None:
    scores = []
    for epoch in range(1, 11):
        events = [e for e in events_of(long_run) if (e["epoch"], e["split"]) == (epoch, VAL)]
        scores.append(sum(e["correct"] / e["support"] for e in events) / len(events))
    best = result_of(long_run)["best_on_validation"]
    assert best["val_balanced_accuracy"] == pytest.approx(max(scores))
    assert best["epoch"] == 1 + scores.index(max(scores))
    assert torch.load(long_run / BEST, weights_only=True)["epoch"] == best["epoch"]
    tests = [e for e in events_of(long_run) if (e["epoch"], e["split"]) == (best["epoch"], TEST)]
    assert best["test_scores"]["accuracy"] == pytest.approx(sum(e["correct"] for e in tests) / sum(COUNTS[TEST]))


def test_without_validation_data_there_is_no_best_checkpoint(tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set", with_validation=False)
    result = run_training(tiny_options(TrainOptions), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert result["best_on_validation"] is None
    assert set(result["splits"]) == {TRAIN, TEST}
    assert not (tmp_path / "run" / BEST).exists()


@pytest.fixture
def stopped_run(set_dir: Path, tmp_path: Path) -> Path:
    """Directory of a run of ten epochs that was stopped after three."""
    run_dir = tmp_path / "stopped"
    with interrupted_after(3):
        run_training(LONG, paths_of(set_dir, run_dir), ALONE, attempt=1)
    assert torch.load(run_dir / LAST, weights_only=True)["epoch"] == 3
    assert not (run_dir / "result.json").exists()
    return run_dir


def assert_same_end(run_dir: Path, undisturbed: Path) -> None:
    """The two runs have the same weights and momentum to the last bit, and the same result but for the name."""
    assert same_tensors(weights_in(run_dir / LAST), weights_in(undisturbed / LAST))
    momenta = [
        {str(number): state["momentum_buffer"] for number, state in optimizer["state"].items()}
        for optimizer in (torch.load(d / LAST, weights_only=True)["optimizer"] for d in (run_dir, undisturbed))
    ]
    assert same_tensors(*momenta)
    assert {**result_of(run_dir), "run": None} == {**result_of(undisturbed), "run": None}


def test_a_stopped_run_resumes_with_identical_results(set_dir: Path, stopped_run: Path, long_run: Path) -> None:
    # Other random numbers in between must not matter.
    torch.manual_seed(1)
    torch.rand(7)
    run_training(LONG, paths_of(set_dir, stopped_run), ALONE, attempt=2)
    assert_same_end(stopped_run, long_run)
    assert [(e["attempt"], e["epoch"]) for e in events_of(stopped_run) if (e["split"], e["class_id"]) == (TEST, 0)] == [
        (1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6), (2, 7), (2, 8), (2, 9), (2, 10),
    ]  # fmt: skip


def test_another_run_resumes_from_its_checkpoint_with_identical_results(
    set_dir: Path, stopped_run: Path, long_run: Path, tmp_path: Path
) -> None:
    options = LONG.model_copy(update={"resume": stopped_run / LAST})
    run_training(options, paths_of(set_dir, tmp_path / "other"), ALONE, attempt=1)
    assert_same_end(tmp_path / "other", long_run)


def test_a_run_with_all_its_epochs_is_only_evaluated_again(set_dir: Path, tmp_path: Path) -> None:
    paths = paths_of(set_dir, tmp_path / "run")
    first = run_training(tiny_options(TrainOptions), paths, ALONE, attempt=1)
    before = weights_in(tmp_path / "run" / LAST)
    again = run_training(tiny_options(TrainOptions), paths, ALONE, attempt=2)
    assert again["splits"][TEST] == first["splits"][TEST]
    assert same_tensors(weights_in(tmp_path / "run" / LAST), before)


def test_every_epoch_of_every_seed_has_random_numbers_of_its_own() -> None:
    def draws(seed: int, epoch: int) -> tuple[float, ...]:
        return tuple(torch.rand(3, generator=epoch_generator(seed, epoch)).tolist())

    assert draws(5, 2) == draws(5, 2)
    # Neither sums nor products of the two may be all that counts.
    assert len({draws(seed, epoch) for seed in range(10) for epoch in range(10)}) == 100


@pytest.mark.parametrize(
    ("lr_schedule", "expected"),
    [
        ("cosine", [1.0] * 4 + [0.5] * 4),  # by epochs: (1 + cos 0)/2 and (1 + cos 90 degrees)/2
        ("cosine_7_16", [math.cos(7 / 16 * math.pi * step / 8) for step in range(8)]),
    ],
)
def test_the_learning_rate_of_a_step_follows_the_schedule(
    set_dir: Path, tmp_path: Path, lr_schedule: str, expected: list[float]
) -> None:
    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    options = tiny_options(TrainOptions, epochs=2, batch_size=10, lr_schedule=lr_schedule)
    try:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    finally:
        hook.remove()
    assert rates == pytest.approx([options.learning_rate * factor for factor in expected])


def test_the_seed_decides_everything(set_dir: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name))
        run_training(tiny_options(TrainOptions, seed=seed), paths_of(set_dir, tmp_path / name), ALONE, attempt=1)
    weights = {name: weights_in(tmp_path / name / LAST) for name in "abc"}
    assert same_tensors(weights["a"], weights["b"])
    assert not same_tensors(weights["a"], weights["c"])


def test_the_held_out_scores_are_those_of_the_saved_network_at_rest(set_dir: Path, long_run: Path) -> None:
    rows = pq.read_table(split_directory(set_dir, TEST) / "part-0.parquet", partitioning=None)
    pixels = np.stack([np.frombuffer(image, np.uint8).reshape(1, 8, 8) for image in rows.column("image").to_pylist()])
    labels = rows.column("label").to_numpy()
    train = pq.read_table(split_directory(set_dir, TRAIN) / "part-0.parquet", partitioning=None)
    seen = np.stack([np.frombuffer(image, np.uint8) for image in train.column("image").to_pylist()]) / 255
    model = build_model("resnet20", num_classes=3, in_channels=1)
    model.load_state_dict(weights_in(long_run / LAST))
    inputs = torch.from_numpy((pixels / 255 - seen.mean()) / seen.std())
    logits = model.double().eval()(inputs).detach().numpy()
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    scores = result_of(long_run)["splits"][TEST]
    assert scores["loss"] == pytest.approx(losses.mean(), rel=1e-3)
    assert scores["accuracy"] == (logits.argmax(axis=1) == labels).mean()


def test_evaluation_repeats_the_scores_of_the_run_and_writes_nothing(set_dir: Path, long_run: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in long_run.parent.rglob("*"))
    options = LONG.model_copy(update={"resume": long_run / LAST, "evaluate": True})
    result = run_evaluation(options, paths_of(set_dir, long_run.parent / "evaluation"), ALONE)
    expected = result_of(long_run)
    assert (result["run"], result["epoch"]) == ("undisturbed", 10)
    for split in (VAL, TEST):
        assert result["splits"][split]["class_accuracy"] == expected["splits"][split]["class_accuracy"]
        assert result["splits"][split]["loss"] == pytest.approx(expected["splits"][split]["loss"], rel=1e-5)
    assert sorted((path, path.stat().st_mtime_ns) for path in long_run.parent.rglob("*")) == before


def test_post_hoc_logit_adjustment_moves_the_odds_of_two_classes_by_their_sizes(set_dir: Path, long_run: Path) -> None:
    # A network that knows nothing: all logits are 0, so the adjusted ones are -tau log n_c / N.
    content = torch.load(long_run / LAST, weights_only=True)
    blank = {**content["state_dict"], "fc.weight": torch.zeros(3, 64), "fc.bias": torch.zeros(3)}
    checkpoint = long_run.parent / "blank"
    torch.save({**content, "state_dict": blank}, checkpoint)
    options = LONG.model_copy(update={"resume": checkpoint, "evaluate": True, "logit_adjustment": 2.0})
    totals = run_evaluation(options, paths_of(set_dir, long_run.parent / "evaluation"), ALONE)["splits"][TEST]["totals"]
    checkpoint.unlink()
    assert totals["predicted"] == [0, 0, 30]
    odds = [24**-2, 12**-2, 4**-2]
    assert totals["confidence_sum"] == pytest.approx([10 * odds[2] / sum(odds)] * 3, rel=1e-5)
    assert totals["loss_sum"] == pytest.approx([-10 * math.log(o / sum(odds)) for o in odds], rel=1e-5)


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("train_rule", typing.get_args(TrainOptions.model_fields["train_rule"].annotation))
def test_every_loss_trains_under_every_rule(set_dir: Path, tmp_path: Path, loss_type: str, train_rule: str) -> None:
    # Three epochs, so that a deferred rule has the last one.
    network = "tests.written_network:small"
    options = tiny_options(TrainOptions, arch=network, epochs=3, loss_type=loss_type, train_rule=train_rule)
    result = run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    train = result["splits"][TRAIN]
    assert math.isfinite(train["loss"])
    support = train["totals"]["support"]
    assert sum(support) == 40
    # Without resampling every sample is seen once.
    assert (support == COUNTS[TRAIN]) == (train_rule in ("None", "Reweight", "DRW"))


def test_a_training_that_diverges_is_refused_with_its_epoch_and_rate(set_dir: Path, tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, epochs=5, learning_rate=1e30)
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert "in epoch 1: lower --lr (it is 1e+30)" in messages[0]
    # Weights that are no numbers are neither kept nor reported.
    assert not (tmp_path / "run" / LAST).exists()
    assert events_of(tmp_path / "run") == []


def test_more_ranks_than_images_in_a_batch_are_refused(set_dir: Path, tmp_path: Path) -> None:
    # 40 images in 3 batches are 13 in the smallest.
    with refused() as messages:
        run_training(
            tiny_options(TrainOptions), paths_of(set_dir, tmp_path / "run"), Rank(13, 14, ALONE.device), attempt=1
        )
    assert "40 images in 3 batches are too few for --world_size 14" in messages[0]


def test_a_checkpoint_with_more_epochs_than_asked_for_is_refused(set_dir: Path, long_run: Path, tmp_path: Path) -> None:
    options = LONG.model_copy(update={"epochs": 9, "resume": long_run / LAST})
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert "has 10 finished epochs: raise --epochs (9)" in messages[0]


def test_a_checkpoint_without_optimizer_state_cannot_be_resumed(set_dir: Path, long_run: Path, tmp_path: Path) -> None:
    content = torch.load(long_run / LAST, weights_only=True)
    torch.save({**content, "optimizer": None}, tmp_path / "published")
    options = LONG.model_copy(update={"resume": tmp_path / "published"})
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert "no optimizer state to resume from: give it as --pretrained_model" in messages[0]


def test_weights_spoilt_by_the_last_step_end_the_run_before_anything_is_saved(set_dir: Path, tmp_path: Path) -> None:
    # One step: its loss is that of the initial weights, a finite number.
    options = tiny_options(TrainOptions, batch_size=1000, learning_rate=1e60)
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert messages[0].startswith("the weights became NaN or infinite in epoch 1 (")
    assert messages[0].endswith("lower --lr (it is 1e+60)")
    assert not {LAST, BEST, "result.json"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_weights_that_are_numbers_but_give_none_are_refused_too(set_dir: Path, tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, batch_size=1000, learning_rate=1e9)
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert "in epoch 1" in messages[0] and "lower --lr (it is 1e+09)" in messages[0]
    assert not {LAST, BEST, "result.json"} & {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_norm_over_one_image_is_refused(set_dir: Path, tmp_path: Path, batch_size: int) -> None:
    rank = Rank(0, min(batch_size, 2), ALONE.device)
    options = tiny_options(TrainOptions, batch_size=batch_size, world_size=rank.world_size)
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), rank, attempt=1)
    assert messages[0].startswith("batch norm needs two images per rank in every step, and 40 images")
    assert "raise --batch_size" in messages[0]
