"""What a job takes over from a checkpoint: what the user gives comes first, and locations only serve to find a set."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from longtail.conf.arguments import resolve_options
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.data import DATA_OPTIONS, LOCATION_OPTIONS, DataOptions
from longtail.conf.options.inference import EvaluateOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.checkpoints import Checkpoint, save_checkpoint
from longtail.training.command import main as train_without_spark
from longtail.training.continuation import training_option_names
from longtail.training.run import run_training
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, write_tiny_set

TAKEN_AND_GIVEN: dict[str, tuple[Any, Any]] = {
    "arch": ("resnet20", "resnet110"),
    "bn_momentum": (0.2, 0.3),
    "precision": ("bfloat16", "float32"),
    "tune": ("last_2", "last_1"),
    "compile": ("default", "off"),
    "epochs": (7, 9),
    "batch_size": (17, 19),
    "learning_rate": (0.03, 0.04),
    "lr_schedule": ("cosine", "constant"),
    "weight_decay": (1e-3, 0.0),
    "momentum": (0.5, 0.6),
    "nesterov": (True, False),
    "horizontal_flip": ("always", "never"),
    "seed": (3, 4),
    "eval_every": (2, 3),
    "loss_type": ("LDAM", "Focal"),
    "focal_gamma": (2.0, 3.0),
    "ldam_max_margin": (0.4, 0.3),
    "ldam_scale": (20.0, 10.0),
    "tau": (0.5, 0.7),
    "train_rule": ("DRW", "Reweight"),
    "unlabeled_weight": (0.5, 0.7),
    "confidence_threshold": ([0.9], (0.8,)),
    "pseudo_label_type": ("hard", "hard"),
    "unlabeled_ratio": (3.0, 4.0),
    "class_counts": ("labelled", "all"),
    "balancing": ("DARP", "DASO"),
    "ema_decay": (0.9, 0.8),
    "strong_operations": (3, 4),
    "pseudo_label_tau": (0.5, 0.7),
    "da_window": (3, 4),
    "darp_warmup": (0.1, 0.2),
    "darp_every": (3, 4),
    "darp_rounds": (3, 4),
    "darp_delta": (3.0, 4.0),
    "unlabeled_shares": ([0.5, 0.5], (0.3, 0.7)),
    "crest_alpha": (0.1, 0.2),
    "crest_t_min": (0.1, 0.2),
    "daso_warmup": (0.1, 0.2),
    "daso_queue": (3, 4),
    "daso_t_proto": (0.1, 0.2),
    "daso_t_dist": (0.1, 0.2),
    "daso_period": (3, 4),
    "daso_alignment": (0.1, 0.2),
    "semi_method": ("fixmatch", "fixmatch"),
}
"""By option: a value that a checkpoint records, and one that a user gives. None is the default."""


DIGITS = {"dataset": "digits", "imb_factor_unlabel": 1.0}


def write_checkpoint(file: Path, /, *, phase: str = "train", set_identity: str | None = None, **values: Any) -> Path:
    """A checkpoint as a training with these options leaves it, with no weights."""
    options = {**DataOptions(dataset="digits").model_dump(mode="json"), **values}
    metadata = CheckpointMetadata(
        run="base", phase=phase, class_names=["a", "b"], class_counts=[3, 2], rule_counts=[3, 2],
        image_shape=(8, 8, 1), arch="resnet20", head="linear", logit_scale=1.0, options=options,
        normalisation=Normalisation((0.0,), (1.0,)), pseudo_label_round=0, set_identity=set_identity,
    )  # fmt: skip
    nothing = Checkpoint(epoch=1, arch="resnet20", state_dict={}, optimizer=None, best=None, metadata=metadata)
    save_checkpoint(file, nothing)
    return file


def recorded(options_type: type[RunOptions]) -> dict[str, Any]:
    return {name: TAKEN_AND_GIVEN[name][0] for name in training_option_names(options_type)}


@pytest.mark.parametrize("options_type", [TrainOptions, TrainSemiOptions])
def test_every_option_of_a_training_is_the_checkpoint_s_unless_the_user_gives_it(
    options_type: type[RunOptions], tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", phase=options_type.phase, **recorded(options_type))
    given = {**DIGITS, "resume": checkpoint}
    taken = continued(options_type, given).options
    names = training_option_names(options_type)
    assert len(names) >= 20
    for name in names:
        of_checkpoint, of_user = TAKEN_AND_GIVEN[name]
        expected = tuple(of_checkpoint) if isinstance(of_checkpoint, list) else of_checkpoint
        assert getattr(taken, name) == expected, name
        assert getattr(continued(options_type, {**given, name: of_user}).options, name) == of_user, name


@pytest.mark.parametrize("options_type", [TrainOptions, TrainSemiOptions])
def test_every_other_option_is_neither_taken_from_a_checkpoint_nor_lost(
    options_type: type[RunOptions], tmp_path: Path
) -> None:
    """Each option is of the training, of the data set, or of this run: where it runs and writes, and what it is for."""
    of_this_run = {
        "verbose", "master", "world_size", "threads", "max_resident_gib", "shuffle_buffer", "data_through", "retries",
        "rank_timeout", "exp_str", "runs_dir", "resume", "pretrained_model", "evaluate", "dry_run", "logit_adjustment",
        "features", "tsne", "rounds", "pseudo_labels", "remote", "backend", "mlflow",
    }  # fmt: skip
    names = options_type.model_fields.keys()
    assert names - DATA_OPTIONS - set(training_option_names(options_type)) == of_this_run & names
    foreign = {"runs_dir": "/elsewhere", "world_size": 8, "threads": 7, "exp_str": "theirs", "retries": 9, "rounds": 3}
    checkpoint = write_checkpoint(
        tmp_path / "c.tar", phase=options_type.phase, **recorded(options_type), pretrained_model="/x", **foreign
    )
    given = {**DIGITS, "resume": checkpoint}
    taken, by_default = continued(options_type, given).options, resolve_options(options_type, DIGITS)
    for name in (of_this_run - {"resume", "rounds"}) & names:
        assert getattr(taken, name) == getattr(by_default, name), name


def test_of_a_training_of_another_kind_only_the_network_is_taken_over(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", phase="pretrain_rot", arch="resnet20", learning_rate=0.7)
    for options_type in (TrainOptions, TrainClassifierOptions):
        options = continued(options_type, {"resume": checkpoint, "dataset": "cifar10"}).options
        assert (options.arch, options.learning_rate) == ("resnet20", 0.1)


def test_a_loss_of_the_user_s_own_must_be_given_again(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", loss_type="mine.losses:hinge")
    with refused() as messages:
        continued(TrainOptions, {"resume": checkpoint, "dataset": "digits"})
    assert "--loss_type mine.losses:hinge" in messages[0] and "only if you give" in messages[0]
    given = {"resume": checkpoint, "dataset": "digits", "loss_type": "CE"}
    assert continued(TrainOptions, given).options.loss_type == "CE"


def a_set(data_dir: Path, name: str, *, label_shift: int = 0) -> Path:
    return write_tiny_set(data_dir / "prepared" / name, label_shift=label_shift)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


FOREIGN = {"path": "/etc", "unlabeled": "/etc", "list_file": "/etc/passwd", "test_list_file": "/etc/hosts"}


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "folder", "image_list", "table"])
@pytest.mark.parametrize("options_type", [TrainOptions, TrainClassifierOptions, EvaluateOptions])
def test_nothing_is_prepared_or_written_where_a_checkpoint_says(
    dataset: str, options_type: type[DataOptions], home: Path, tmp_path: Path
) -> None:
    wanted = {
        "folder": ["path"], "table": ["path"], "image_list": ["path", "list_file", "test_list_file", "unlabeled"],
    }.get(dataset, [])  # fmt: skip
    locations = {name: FOREIGN[name] for name in wanted} | {"data_dir": str(tmp_path / "theirs"), "dataset": dataset}
    checkpoint = write_checkpoint(tmp_path / "c.tar", **locations)
    with refused() as messages:
        continued(options_type, {"resume": checkpoint})
    assert "a checkpoint does not decide what is prepared: run `longtail prepare" in messages[0]
    assert list(home.iterdir()) == [] and not (tmp_path / "theirs").exists()


def test_places_in_a_checkpoint_serve_to_find_the_set_that_it_was_trained_on(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its content: the images may be gone, and the set may have another name."""
    a_set(tmp_path / "theirs", "another", label_shift=1)
    set_dir = a_set(tmp_path / "theirs", "renamed")
    identity = read_manifest(set_dir).identity
    locations = {"dataset": "folder", "path": "/gone", "data_dir": str(tmp_path / "theirs")}
    checkpoint = write_checkpoint(tmp_path / "c.tar", set_identity=identity, epochs=7, **locations)

    job = continued(TrainOptions, {"resume": checkpoint})

    assert job.set_dir == set_dir
    assert (job.options.data_dir, job.options.epochs) == (Path("datasets"), 7)
    assert capsys.readouterr().out == f"from {checkpoint}: the prepared set {set_dir}, epochs 7\n"
    # In the user's own directory first.
    own = a_set(home / "datasets", "own")
    assert continued(TrainOptions, {"resume": checkpoint}).set_dir == own
    shutil.rmtree(own)
    shutil.rmtree(set_dir)
    with refused() as messages:
        continued(TrainOptions, {"resume": checkpoint})
    assert "a checkpoint does not decide what is prepared" in messages[0]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locations in stores that are asked for, and not found."""
    locations: list[str] = []
    for question in ("exists", "is_dir", "is_file"):
        monkeypatch.setattr(StorePath, question, lambda place: bool(locations.append(str(place))))
    return locations


PLACES_OF = {
    "digits": ["data_dir", "unlabeled"],
    "folder": ["path", "val_path", "test_path"],
    "table": ["path", "val_path", "test_path"],
    "image_list": ["path", "list_file", "val_list_file", "test_list_file"],
}


@pytest.mark.parametrize("dataset", PLACES_OF)
def test_a_checkpoint_does_not_decide_which_store_is_asked(
    dataset: str, home: Path, tmp_path: Path, asked: list[str]
) -> None:
    locations = {name: f"s3a://theirs/{name}" for name in PLACES_OF[dataset]}
    checkpoint = write_checkpoint(tmp_path / "c.tar", dataset=dataset, **locations)
    for options_type in (TrainOptions, EvaluateOptions):
        with refused() as messages:
            continued(options_type, {"resume": checkpoint})
        assert "is not in datasets, and a checkpoint does not decide" in messages[0] and not asked


def test_a_checkpoint_may_name_another_place_in_the_user_s_store(home: Path, tmp_path: Path, asked: list[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", data_dir="s3a://theirs/sets")
    with refused():
        continued(TrainOptions, {"resume": checkpoint, "data_dir": "s3a://theirs/other"})
    assert asked == ["s3a://theirs/other/prepared", "s3a://theirs/sets/prepared"]


def test_a_set_with_changed_options_is_found_in_the_user_s_own_directory_alone(home: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", data_dir=str(tmp_path / "theirs"), n_max=30)
    given = {"resume": checkpoint, "imb_factor_unlabel": 1.0}
    name = DataOptions(dataset="digits", n_max=30, imb_factor_unlabel=1.0).set_name()
    a_set(tmp_path / "theirs", name)
    with refused() as messages:
        continued(EvaluateOptions, given)
    assert "longtail prepare --dataset digits" in messages[0] and "--imb_factor_unlabel 1.0`" in messages[0]
    assert continued(EvaluateOptions, {**given, "data_dir": tmp_path / "theirs"}).set_dir is not None
    assert continued(EvaluateOptions, {**given, "dataset": "digits"}).set_dir is None


def test_of_the_data_set_that_the_user_names_no_place_is_taken_over(home: Path, tmp_path: Path) -> None:
    locations = {name: str(tmp_path) for name in LOCATION_OPTIONS - {"dataset", "irrelevant_dataset"}}
    checkpoint = write_checkpoint(tmp_path / "c.tar", **{**locations, "dataset": "cifar10", "n_max": 30})
    options = continued(EvaluateOptions, {"resume": checkpoint, "dataset": "cifar10"}).options
    assert options.n_max == 30
    for name in LOCATION_OPTIONS - {"dataset"}:
        assert getattr(options, name) == DataOptions.model_fields[name].default, name
    assert continued(EvaluateOptions, {"resume": checkpoint, "dataset": "mnist"}).options.n_max != 30


def test_what_the_user_says_about_the_optimizer_is_what_resumes(set_dir: Path, tmp_path: Path) -> None:
    first = paths_of(set_dir, tmp_path / "first")
    run_training(tiny_options(TrainOptions), first, ALONE, attempt=1)
    changes = {"momentum": 0.5, "weight_decay": 0.0, "nesterov": True, "learning_rate": 0.01, "batch_size": 8}
    options = tiny_options(
        TrainOptions, epochs=2, resume=first.run_dir / "ckpt.pth.tar", lr_schedule="constant", **changes
    )
    run_training(options, paths_of(set_dir, tmp_path / "second"), ALONE, attempt=1)
    (group,) = torch.load(tmp_path / "second" / "ckpt.pth.tar", weights_only=True)["optimizer"]["param_groups"]
    found = {name: group[name] for name in ("momentum", "weight_decay", "nesterov", "lr")}
    assert found == {"momentum": 0.5, "weight_decay": 0.0, "nesterov": True, "lr": 0.01}


def test_the_best_epoch_on_another_set_is_not_the_best_on_this_one(set_dir: Path, tmp_path: Path) -> None:
    first = paths_of(set_dir, tmp_path / "first")
    before = run_training(tiny_options(TrainOptions), first, ALONE, attempt=1)
    other = write_tiny_set(tmp_path / "other", label_shift=1)
    resumed = tiny_options(TrainOptions, resume=first.run_dir / "ckpt.pth.tar")
    assert before["best_on_validation"]["epoch"] == 1
    assert run_training(resumed, paths_of(other, tmp_path / "b"), ALONE, attempt=1)["best_on_validation"] is None
    again = run_training(resumed, paths_of(set_dir, tmp_path / "a"), ALONE, attempt=1)
    assert again["best_on_validation"] == before["best_on_validation"]


def without_spark(set_dir: Path, runs_dir: Path, *arguments: object) -> None:
    usual = ["--runs_dir", runs_dir, "--epochs", 1, "-a", "resnet20", "-b", 16, "--threads", 1]
    train_without_spark(["train", "--set_dir", str(set_dir), *map(str, [*usual, *arguments])])


def test_without_spark_another_set_is_another_run(tmp_path: Path) -> None:
    for name, shift in (("one", 0), ("two", 1), ("copy", 0)):
        without_spark(write_tiny_set(tmp_path / name, label_shift=shift), tmp_path / "runs")
    runs = sorted(tmp_path.glob("runs/*/result.json"))
    assert len(runs) == 2 and len({json.dumps(json.loads(run.read_text())["splits"]) for run in runs}) == 2


def test_without_spark_a_set_that_is_not_its_manifest_s_is_refused(tmp_path: Path) -> None:
    set_dir, other = write_tiny_set(tmp_path / "one"), write_tiny_set(tmp_path / "two", label_shift=1)
    shutil.copytree(other / "rows" / "split=train", set_dir / "rows" / "split=train", dirs_exist_ok=True)
    with refused() as messages:
        without_spark(set_dir, tmp_path / "runs")
    assert f"{set_dir / 'rows' / 'split=train'} has other ids, labels or pixels than" in messages[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        (["--dataset", "mnist"], "dataset mnist (there digits)"),
        (["--n_max", 7], "n_max 7 (there 5000)"),
        (["--imb_factor", 0.5], "imb_factor 0.5 (there 0.01)"),
        (["--imb_factor_unlabel", 0.5], "imb_factor_unlabel 0.5 (there 1.0)"),
        (["--num_classes", 2], "num_classes 2 (there None)"),
    ],
)
def test_without_spark_options_of_another_set_are_refused(
    set_dir: Path, tmp_path: Path, given: list[object], difference: str
) -> None:
    with refused() as messages:
        without_spark(set_dir, tmp_path / "runs", *given)
    assert messages[0] == f"{set_dir} is another set than the options describe: {difference}; leave these options out"


def test_without_spark_a_checkpoint_is_evaluated(
    set_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_spark(set_dir, tmp_path / "runs")
    trained = capsys.readouterr().out.splitlines()
    (checkpoint,) = tmp_path.glob("runs/*/ckpt.pth.tar")
    without_spark(set_dir, tmp_path / "others", "-e", "--resume", checkpoint)
    assert capsys.readouterr().out.splitlines() == trained[:1]
    assert not (tmp_path / "others").exists()


def test_that_a_checkpoint_has_no_class_names_is_told_where_it_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "published.tar"
    torch.save({"epoch": 1, "arch": "resnet20", "state_dict": {"conv1.weight": torch.zeros(1)}}, checkpoint)
    note = f"{checkpoint} has no class names: its outputs are taken in the order of the classes\n"
    for options_type, told in ((EvaluateOptions, note), (TrainOptions, note), (TrainClassifierOptions, "")):
        continued(options_type, {"resume": checkpoint, "dataset": "digits"})
        assert capsys.readouterr().out == told
