"""Features of a trained network: as a table, and as a t-SNE map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.features import tsne_map, write_tsne_plot
from longtail.training.objective import Task
from longtail.training.run import run_training
from longtail.training.supervised import supervised_task
from tests.tiny_set import ALONE, COUNTS, paths_of, tiny_options, weights_in

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exports(set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with a run, and with the table and the plot that an evaluation of it wrote."""
    directory = tmp_path_factory.mktemp("exports")
    run_training(tiny_options(TrainOptions, epochs=4), paths_of(set_dir, directory / "run"), ALONE, attempt=1)
    options = tiny_options(
        TrainOptions,
        evaluate=True,
        resume=directory / "run" / "ckpt.pth.tar",
        features=directory / "out" / "features.parquet",
        tsne=directory / "out" / "map.png",
    )
    run_evaluation(options, paths_of(set_dir, directory / "none"), ALONE)
    return directory


def task_of(set_dir: Path) -> Task:
    return supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)


def test_the_table_has_a_row_for_every_held_out_image(set_dir: Path, exports: Path) -> None:
    table = pq.read_table(exports / "out" / "features.parquet")
    splits = table.column("split").to_pylist()
    assert {split: splits.count(split) for split in (TRAIN, VAL, TEST)} == {TRAIN: 0, VAL: 6, TEST: 30}
    task = task_of(set_dir)
    for name, expected in (("id", "ids"), ("label", "labels")):
        held_out = [getattr(task.data.held_out[split], expected).tolist() for split in (VAL, TEST)]
        assert table.column(name).to_pylist() == [*held_out[0], *held_out[1]]


def test_the_features_are_those_of_the_saved_network(set_dir: Path, exports: Path) -> None:
    table = pq.read_table(exports / "out" / "features.parquet")
    features = np.array(table.column("features").to_pylist()[sum(COUNTS[VAL]) :])
    assert features.shape == (30, 64)
    weights = weights_in(exports / "run" / "ckpt.pth.tar")
    logits = features @ weights["fc.weight"].double().numpy().T + weights["fc.bias"].double().numpy()
    assert table.column("predicted").to_pylist()[sum(COUNTS[VAL]) :] == logits.argmax(axis=1).tolist()
    model = build_model("resnet20", num_classes=3, in_channels=1).eval()
    model.load_state_dict(weights)
    task = task_of(set_dir)
    expected = model.features(task.data.normalisation.apply(task.data.held_out[TEST].images)).detach().numpy()
    assert np.allclose(features, expected, rtol=1e-4, atol=1e-6)


def test_the_plot_is_a_picture_and_nothing_else_is_written(exports: Path) -> None:
    assert (exports / "out" / "map.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (exports / "out").iterdir()} == {"features.parquet", "map.png"}
    assert not (exports / "none").exists()


def test_the_map_separates_clusters_and_depends_on_the_seed() -> None:
    generator = np.random.default_rng(0)
    features = np.concatenate([generator.normal(10 * cluster, 1, (20, 16)) for cluster in range(3)]).astype(np.float32)
    places = tsne_map(features, seed=5)
    assert places.shape == (60, 2)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    assert np.array_equal(tsne_map(features, seed=5), places)


def test_many_classes_are_coloured_by_shot_group(set_dir: Path, tmp_path: Path) -> None:
    data = task_of(set_dir).data
    many = replace(
        data, class_names=[f"class {i}" for i in range(30)], shot_groups=["many"] * 10 + ["medium"] * 10 + ["few"] * 10
    )
    test = data.held_out[TEST]
    samples = replace(test, labels=torch.arange(30))
    texts = {}
    for name, this, these in (("classes", data, test), ("groups", many, samples)):
        plot = tmp_path / f"{name}.svg"
        write_tsne_plot(plot, these, torch.randn(30, 4), this, seed=0)
        texts[name] = plot.read_text()
    assert "<!-- class 2 -->" in texts["classes"] and "<!-- many -->" not in texts["classes"]
    assert "<!-- many -->" in texts["groups"] and "<!-- class 2 -->" not in texts["groups"]
