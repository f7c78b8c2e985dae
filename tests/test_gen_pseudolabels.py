"""Pseudo-labels (spark_jobs/gen_pseudolabels.py): those of a plain loop over the images, however they are spread.

The classifiers learned the digits for four epochs: badly, but they tell some classes apart.
"""

import dataclasses
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import UNLABELED
from longtail.data.kept_predictions import LABELLING, PER_CLASS, keep_ends, kept_rows, read_kept
from longtail.data.loader import load_hidden_labels, load_split
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels
from longtail.data.sources import digits
from longtail.models.build import build_model
from longtail.spark_jobs.frames.predictions import Classifier, classifier_of, predicted_together, with_pseudo_labels
from longtail.spark_jobs.frames.reading import read_parquet_or_delta
from longtail.spark_jobs.gen_pseudolabels import main
from longtail.spark_jobs.steps import labelling
from longtail.spark_jobs.steps.label_quality import is_labelled
from longtail.spark_jobs.steps.labelling import default_table, gen_pseudolabels, labels_of_run
from longtail.spark_jobs.steps.prepare import prepare
from longtail.training.distributed import Rank
from longtail.training.inference import infer, load_classifier
from longtail.training.run import run_training
from longtail.training.run_directory import FinishedRun, RunPaths

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = {"imb_factor_unlabel": 0.5, "unlabel_size_factor": 3.0, "rand_number": 5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def set_dir(spark: SparkSession, data_dir: Path) -> Path:
    return prepare(spark, resolve_options(TrainOptions, {"data_dir": data_dir, **DATA}))


@pytest.fixture(scope="module")
def checkpoints(data_dir: Path, set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By loss: LDAM's head gives cosines, which become probabilities only when scaled by 30."""
    learning = {"epochs": 4, "batch_size": 16, "learning_rate": 0.05}
    runs = tmp_path_factory.mktemp("runs")
    for loss in ("CE", "LDAM"):
        options = resolve_options(TrainOptions, {"data_dir": data_dir, **DATA, **learning, "loss_type": loss})
        paths = RunPaths(set_dir=set_dir, run_dir=runs / loss, events_dir=runs / "events")
        run_training(options, paths, Rank(0, 1, torch.device("cpu")), attempt=1)
    return {loss: runs / loss / "ckpt.pth.tar" for loss in ("CE", "LDAM")}


@pytest.fixture(scope="module")
def images(spark: SparkSession, set_dir: Path) -> DataFrame:
    return spark.read.parquet(str(set_dir / "rows" / "split=unlabeled")).select("id", "image")


@pytest.fixture(scope="module")
def classifier(set_dir: Path, checkpoints: dict[str, Path]) -> Callable[..., Classifier]:
    def of(loss: str, *, batch_size: int = 500) -> Classifier:
        return classifier_of(checkpoints[loss], read_manifest(set_dir), set_dir=set_dir, batch_size=batch_size)

    return of


def labels_by_id(labelled: DataFrame) -> dict[int, tuple[int, float]]:
    rows = labelled.collect()
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: (row.pseudo_label, row.confidence) for row in rows}


def plain_loop(checkpoint: Path, set_dir: Path, *, head: str, scale: float) -> dict[int, tuple[int, float]]:
    """The same with torch and numpy alone, a few images at a time."""
    manifest = read_manifest(set_dir)
    labelled = load_split(set_dir, "train", manifest).images / 255
    unlabeled = load_split(set_dir, "unlabeled", manifest)
    model = build_model("resnet20", num_classes=10, in_channels=1, head=head)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    model.eval()
    found = {}
    for start in range(0, len(unlabeled.ids), 25):
        pixels = (unlabeled.images[start : start + 25] / 255 - labelled.mean()) / labelled.std()  # (n, 8, 8, 1)
        with torch.no_grad():
            logits = scale * model(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()).double().numpy()  # (n, 10)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        for i, row in zip(unlabeled.ids[start : start + 25].tolist(), probabilities, strict=True):
            found[i] = (int(row.argmax()), float(row.max()))
    return found


def assert_same_labels(found: dict[int, tuple[int, float]], expected: dict[int, tuple[int, float]]) -> None:
    assert {i: label for i, (label, _) in found.items()} == {i: label for i, (label, _) in expected.items()}
    for i, (_, confidence) in expected.items():
        assert found[i][1] == pytest.approx(confidence, abs=1e-4)


@pytest.mark.parametrize(("loss", "head", "scale"), [("CE", "linear", 1.0), ("LDAM", "cosine", 30.0)])
def test_labels_are_those_of_a_plain_loop_over_the_images(
    images: DataFrame,
    set_dir: Path,
    checkpoints: dict[str, Path],
    classifier: Callable[..., Classifier],
    loss: str,
    head: str,
    scale: float,
) -> None:
    expected = plain_loop(checkpoints[loss], set_dir, head=head, scale=scale)

    found = labels_by_id(with_pseudo_labels(images, classifier(loss)))

    assert len({label for label, _ in expected.values()}) > 2, "a classifier of one class would say little"
    assert_same_labels(found, expected)


def test_partitions_do_not_change_a_bit_of_the_table(
    images: DataFrame, classifier: Callable[..., Classifier], spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One partition and nine, so the same images with other neighbours; the last pass is never full."""
    tables = []
    for num_partitions, batch_size in ((1, 7), (9, 7), (9, 100)):
        monkeypatch.setattr(type(spark.sparkContext), "defaultParallelism", num_partitions)
        labelled = with_pseudo_labels(images, classifier("CE", batch_size=batch_size))
        assert labelled.rdd.getNumPartitions() == num_partitions
        tables.append(labelled.toArrow().sort_by("id"))

    assert tables[0] == tables[1]
    assert_same_labels(
        *({row["id"]: (row["pseudo_label"], row["confidence"]) for row in t.to_pylist()} for t in tables[1:])
    )


def test_a_row_says_all_that_the_network_said(
    images: DataFrame, checkpoints: dict[str, Path], classifier: Callable[..., Classifier]
) -> None:
    rows = with_pseudo_labels(images.limit(50), classifier("LDAM")).collect()

    version = hashlib.sha256(checkpoints["LDAM"].read_bytes()).hexdigest()
    assert {(row.model_version, row["round"]) for row in rows} == {(version, 1)}
    for row in rows:
        likeliest = sorted(row.probabilities, reverse=True)
        assert len(likeliest) == 10 and sum(likeliest) == pytest.approx(1, abs=1e-5)
        assert row.probabilities[row.pseudo_label] == row.confidence == likeliest[0]
        assert row.margin == pytest.approx(likeliest[0] - likeliest[1], abs=1e-6)


@pytest.mark.long
def test_a_worker_loads_the_network_once_for_all_its_partitions(
    spark: SparkSession, images: DataFrame, classifier: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads() -> dict[int, tuple[int, int]]:
        """By Python worker: how often it loaded a network, and how often it had it."""

        def look(batches):
            import os

            import pyarrow as pa
            from pyspark import BarrierTaskContext

            from longtail.training.inference import load_classifier

            for _ in batches:
                pass
            BarrierTaskContext.get().barrier()  # four at once, so that no worker is left out
            seen = load_classifier.cache_info()
            yield pa.RecordBatch.from_pydict({"pid": [os.getpid()], "loads": [seen.misses], "hits": [seen.hits]})

        four = spark.range(0, 4, 1, numPartitions=4)
        rows = four.mapInArrow(look, "pid long, loads long, hits long", barrier=True).collect()
        return {row.pid: (row.loads, row.hits) for row in rows}

    with_pseudo_labels(images, classifier("LDAM")).collect()  # so that the next checkpoint is new to every worker
    before = loads()
    monkeypatch.setattr(type(spark.sparkContext), "defaultParallelism", 12)
    for _ in range(2):
        assert len(with_pseudo_labels(images, classifier("CE")).collect()) == images.count()
    after = loads()

    new_loads = [after[pid][0] - before.get(pid, (0, 0))[0] for pid in after]
    new_uses = sum(sum(after[pid]) - sum(before.get(pid, (0, 0))) for pid in after)
    assert max(new_loads) == 1
    assert new_uses >= 24, "twelve partitions, two times"


def test_a_rewritten_checkpoint_is_read_again(
    images: DataFrame,
    set_dir: Path,
    checkpoints: dict[str, Path],
    classifier: Callable[..., Classifier],
    tmp_path: Path,
) -> None:
    """Workers keep the network between jobs, but never an old one."""
    path = tmp_path / "ckpt.pth.tar"
    few = images.limit(60)
    found = {}
    for loss in ("CE", "LDAM"):
        shutil.copy(checkpoints[loss], path)
        rewritten = classifier_of(path, read_manifest(set_dir), set_dir=set_dir, batch_size=60)
        found[loss] = labels_by_id(with_pseudo_labels(few, rewritten))

    fresh = with_pseudo_labels(few, classifier("LDAM", batch_size=60))
    assert found["LDAM"] != found["CE"]
    assert_same_labels(found["LDAM"], labels_by_id(fresh))


def test_a_checkpoint_that_is_rewritten_before_the_tasks_read_it_is_refused(
    set_dir: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "ckpt.pth.tar"
    shutil.copy(checkpoints["CE"], path)
    meant = classifier_of(path, read_manifest(set_dir), set_dir=set_dir, batch_size=60)
    shutil.copy(checkpoints["LDAM"], path)

    with pytest.raises(UserError) as error:
        infer(path, meant.version, np.zeros((3, 8, 8, 1), np.uint8), batch_size=2)

    assert str(error.value) == f"{path} was rewritten while it was in use: start the job again"


@pytest.fixture(scope="module")
def options_for(data_dir: Path, checkpoints: dict[str, Path]) -> Callable[..., GenPseudolabelsOptions]:
    def options(**values: Any) -> GenPseudolabelsOptions:
        given = {"data_dir": data_dir, **DATA, "resume": checkpoints["CE"], **values}
        return resolve_options(GenPseudolabelsOptions, given)

    return options


@pytest.fixture(scope="module")
def published(spark: SparkSession, options_for, set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a table that was asked for by a .pickle name."""
    output_dir = tmp_path_factory.mktemp("output")
    options = options_for(output_dir=output_dir, output_filename="pseudo_labeled_digits.pickle", probabilities=True)
    assert gen_pseudolabels(spark, options, set_dir=set_dir) == output_dir / "pseudo_labeled_digits.parquet"
    return output_dir


@pytest.fixture(scope="module")
def table(published: Path) -> pa.Table:
    return pq.read_table(published / "pseudo_labeled_digits.parquet").sort_by("id")


def test_the_table_has_a_row_for_every_unlabeled_image_and_no_other(table: pa.Table, set_dir: Path) -> None:
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int64", "pseudo_label": "int32", "confidence": "float", "margin": "float",
        "probabilities": "list<element: float>", "model_version": "string", "round": "int32",
    }  # fmt: skip
    np.testing.assert_array_equal(table["id"], load_split(set_dir, "unlabeled", read_manifest(set_dir)).ids)
    assert 0 <= min(table["pseudo_label"].to_pylist()) <= max(table["pseudo_label"].to_pylist()) <= 9
    assert all(0.1 <= confidence <= 1 for confidence in table["confidence"].to_pylist())


def test_a_few_labels_of_each_class_are_kept_beside_the_run(
    table: pa.Table, checkpoints: dict[str, Path], set_dir: Path
) -> None:
    kept = read_kept(checkpoints["CE"].parent, UNLABELED)
    assert kept is not None
    assert (kept.source, kept.set_dir, kept.per_class) == (LABELLING, str(set_dir), PER_CLASS)
    columns = (table[name].to_numpy() for name in ("id", "pseudo_label", "confidence"))
    assert kept.rows.sort_by("id").equals(keep_ends(kept_rows(*columns)).sort_by("id"))


def test_the_probabilities_are_those_of_all_classes_and_the_label_is_the_likeliest(table: pa.Table) -> None:
    probabilities = np.array(table["probabilities"].to_pylist())
    assert probabilities.shape == (len(table), 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == table["pseudo_label"].to_numpy()).all()
    assert (probabilities.max(axis=1).astype(np.float32) == table["confidence"].to_numpy()).all()
    assert set(table["round"].to_pylist()) == {1}, "the classifier learned from labels alone"


def test_unless_asked_for_the_table_has_no_probabilities_and_soft_pseudo_labels_say_how_to_get_them(
    spark: SparkSession, options_for, set_dir: Path, table: pa.Table, tmp_path: Path
) -> None:
    written = gen_pseudolabels(spark, options_for(output_dir=tmp_path), set_dir=set_dir)

    plain = pq.read_table(written).sort_by("id")
    assert plain.equals(table.drop_columns("probabilities").cast(plain.schema))
    with pytest.raises(UserError) as error:
        load_probabilities(written)
    assert str(error.value) == (
        f"{written} has no probabilities, which --pseudo_label_type soft needs: write it again with "
        f"`longtail gen_pseudolabels --probabilities`"
    )


def test_a_pipeline_with_soft_pseudo_labels_writes_the_table_of_one_with_hard_ones_again(
    spark: SparkSession, checkpoints: dict[str, Path], data_dir: Path, set_dir: Path, tmp_path: Path
) -> None:
    shutil.copy(checkpoints["CE"], tmp_path / "ckpt.pth.tar")
    run = FinishedRun(tmp_path, {})

    def columns(pseudo_label_type: str) -> list[str]:
        values = {"data_dir": data_dir, **DATA, "pseudo_label_type": pseudo_label_type}
        options = resolve_options(PipelineOptions, values)
        return pq.read_table(labels_of_run(spark, options, run, set_dir=set_dir)).column_names

    assert "probabilities" not in columns("hard")
    assert "probabilities" in columns("soft")
    assert "probabilities" in columns("hard"), "what is there suffices"


def test_a_table_whose_process_was_killed_before_its_quality_was_known_is_written_again(
    spark: SparkSession, checkpoints: dict[str, Path], data_dir: Path, set_dir: Path, tmp_path: Path
) -> None:
    shutil.copy(checkpoints["CE"], tmp_path / "ckpt.pth.tar")
    options = resolve_options(PipelineOptions, {"data_dir": data_dir, **DATA})
    table = labels_of_run(spark, options, FinishedRun(tmp_path, {}), set_dir=set_dir)
    quality = table.with_suffix(".quality.json")
    found = quality.read_bytes()
    quality.unlink()
    assert not is_labelled(table)

    labels_of_run(spark, options, FinishedRun(tmp_path, {}), set_dir=set_dir)

    assert is_labelled(table)
    assert quality.read_bytes() == found


def test_with_thousands_of_classes_a_task_predicts_some_hundreds_of_images_together() -> None:
    batch = pa.RecordBatch.from_pydict({"id": np.arange(1200)})

    parts = list(predicted_together(batch, num_classes=8142))

    assert [len(part) for part in parts] == [515, 515, 170]
    assert pa.Table.from_batches(parts).combine_chunks().to_batches() == [batch]
    assert [len(part) for part in predicted_together(batch, num_classes=10)] == [1200]
    assert len(list(predicted_together(batch, num_classes=2**30))) == 1200


def test_a_pickle_name_also_gives_the_published_layout(
    published: Path, table: pa.Table, checkpoints: dict[str, Path]
) -> None:
    """It has a label for each of the 1,297 training images of the digits, whose ids begin at 500."""
    content = pickle.loads((published / "pseudo_labeled_digits.pickle").read_bytes())

    assert set(content) == {"extrapolated_targets", "prediction_model", "longtail_class_names"}
    assert json.loads(content["longtail_class_names"].tobytes()) == [str(digit) for digit in range(10)]
    assert content["prediction_model"] == str(checkpoints["CE"])
    assert content["extrapolated_targets"].dtype == np.int64
    assert content["extrapolated_targets"].shape == (1297,)
    assert content["extrapolated_targets"][table["id"].to_numpy() - 500].tolist() == table["pseudo_label"].to_pylist()
    rows = digits.read(digits.locate(GenPseudolabelsOptions(resume=checkpoints["CE"])).shards[1])
    images = np.frombuffer(b"".join(rows["image"].to_pylist()), np.uint8).reshape(-1, 8, 8, 1)
    logits = infer(checkpoints["CE"], content_hash(checkpoints["CE"]), images, batch_size=500).logits
    assert content["extrapolated_targets"].tolist() == logits.argmax(dim=1).tolist()


def test_quality_tells_precision_and_recall_of_each_class(published: Path, table: pa.Table, set_dir: Path) -> None:
    guess = dict(zip(table["id"].to_pylist(), table["pseudo_label"].to_pylist(), strict=True))
    truth = dict(zip(*(column.tolist() for column in load_hidden_labels(set_dir)), strict=True))
    expected = []
    for label in range(10):
        predicted = sum(guess[i] == label for i in truth)
        support = sum(truth[i] == label for i in truth)
        correct = sum(guess[i] == truth[i] == label for i in truth)
        right_half = sum(guess[i] == label and (truth[i] < 5) == (label < 5) for i in truth)
        expected.append(
            {
                "class_id": label, "predicted": predicted, "support": support, "labelled": support, "correct": correct,
                "class_name": str(label), "judged": predicted, "right_half": right_half,
                "precision": correct / predicted if predicted else None, "recall": correct / support,
            }
        )  # fmt: skip

    quality = json.loads((published / "pseudo_labeled_digits.quality.json").read_text())

    assert quality["classes"] == expected
    assert quality["accuracy"] == sum(guess[i] == truth[i] for i in truth) / len(truth)
    for name, half in (("head_precision", range(5)), ("tail_precision", range(5, 10))):
        of_half = [i for i in truth if guess[i] in half]
        assert quality[name] == sum(truth[i] in half for i in of_half) / len(of_half)


def test_a_directory_holds_only_what_was_asked_for_and_a_second_run_replaces_it(
    spark: SparkSession,
    options_for,
    checkpoints: dict[str, Path],
    set_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = options_for(output_dir=tmp_path, output_filename="labels.parquet")
    gen_pseudolabels(spark, options, set_dir=set_dir)
    first = pq.read_table(tmp_path / "labels.parquet").sort_by("id")

    again = options.model_copy(update={"resume": checkpoints["LDAM"]})
    gen_pseudolabels(spark, again, set_dir=set_dir)

    names = ["labels.origin.json", "labels.parquet", "labels.quality.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    second = pq.read_table(tmp_path / "labels.parquet").sort_by("id")
    assert second["id"] == first["id"]
    assert second["pseudo_label"] != first["pseudo_label"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(labelling, "write_quality", full)
    with pytest.raises(OSError, match="No space left"):
        gen_pseudolabels(spark, options, set_dir=set_dir)
    assert pq.read_table(tmp_path / "labels.parquet").sort_by("id")["pseudo_label"] == first["pseudo_label"]
    assert not (tmp_path / "labels.quality.json").exists(), "it would be that of the other labels"


def test_a_delta_table_is_read_as_its_log_says(
    spark: SparkSession, options_for, set_dir: Path, table: pa.Table, tmp_path: Path
) -> None:
    """Somebody selects with Delta's own DELETE: what it gave up, no reader and no training sees."""
    options = options_for(output_dir=tmp_path, output_filename="labels.parquet", format="delta")
    written = gen_pseudolabels(spark, options, set_dir=set_dir)
    assert written == tmp_path / "labels.parquet"
    delta_table = deltalake.DeltaTable(str(written))
    assert delta_table.version() == 0
    assert pa.table(delta_table.to_pyarrow_table()).sort_by("id").select(["id", "confidence"]) == table.select(
        ["id", "confidence"]
    )

    delta_table.delete("confidence < 0.5")

    confident = [
        i for i, c in zip(*(table[name].to_pylist() for name in ("id", "confidence")), strict=True) if c >= 0.5
    ]
    assert 0 < len(confident) < len(table)
    assert load_pseudo_labels(written)[0].tolist() == confident
    assert sorted(row.id for row in read_parquet_or_delta(spark, written).select("id").collect()) == confident


@pytest.mark.long
def test_a_selection_is_written_and_its_quality_told_over_all_images(
    spark: SparkSession, options_for, checkpoints: dict[str, Path], set_dir: Path, table: pa.Table, tmp_path: Path
) -> None:
    """--threshold alone keeps labels as they are; --align changes them; --top_k bounds every class."""
    options = options_for(output_dir=tmp_path, output_filename="labels.parquet", threshold=0.5, top_k=20)
    written = pq.read_table(gen_pseudolabels(spark, options, set_dir=set_dir))
    quality = json.loads((tmp_path / "labels.quality.json").read_text())["classes"]

    by_class: dict[int, list[tuple[float, int]]] = {label: [] for label in range(10)}
    for row in table.to_pylist():
        if row["confidence"] >= 0.5:
            by_class[row["pseudo_label"]].append((-row["confidence"], row["id"]))
    expected = {i: label for label, rows in by_class.items() for _, i in sorted(rows)[:20]}
    assert dict(zip(written["id"].to_pylist(), written["pseudo_label"].to_pylist(), strict=True)) == expected
    assert 0 < len(expected) < table.num_rows
    counts = read_manifest(set_dir).counts["unlabeled"]
    assert [row["support"] for row in quality] == counts
    assert sum(row["labelled"] for row in quality) == sum(row["predicted"] for row in quality) == len(expected)

    aligned = options_for(output_dir=tmp_path, output_filename="aligned.parquet", align=0.0)
    labels = pq.read_table(gen_pseudolabels(spark, aligned, set_dir=set_dir))["pseudo_label"].to_pylist()
    assert len(labels) == table.num_rows
    # Pulled to classes alike: the most frequent class is less so than it was.
    assert max(labels.count(c) for c in range(10)) < max(table["pseudo_label"].to_pylist().count(c) for c in range(10))


def test_main_takes_the_data_set_from_the_checkpoint_and_names_the_next_step(
    spark: SparkSession, options_for, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table = default_table(options_for())
    main(["--resume", str(checkpoints["CE"]), "--data_dir", str(table.parents[2])])

    said = capsys.readouterr().out
    told = "to train on them anyway" if "warning: less than 75 % of the pseudo-labels are right" in said else "next"
    assert f"pseudo-labels: {table}\n{told}: longtail train_semi " in said
    assert pq.read_table(table).num_rows == sum(read_manifest(table_set(table)).counts["unlabeled"])


def table_set(table: Path) -> Path:
    """DATA_DIR/pseudo_labels/SET/FILE is of DATA_DIR/prepared/SET."""
    return table.parents[2] / "prepared" / table.parent.name


def test_a_set_without_an_unlabeled_part_is_refused(
    spark: SparkSession, options_for, set_dir: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(set_dir)
    dataclasses.replace(manifest, counts={**manifest.counts, "unlabeled": [0] * 10}).write(tmp_path)

    with pytest.raises(UserError, match="has no unlabeled part: give --imb_factor_unlabel"):
        gen_pseudolabels(spark, options_for(), set_dir=tmp_path)


def test_images_of_another_shape_are_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError) as error:
        images = np.zeros((3, 4, 4, 4), np.uint8)  # as many bytes
        infer(checkpoints["CE"], content_hash(checkpoints["CE"]), images, batch_size=2)

    assert str(error.value) == f"{checkpoints['CE']} was trained on images of shape (8, 8, 1), these have (4, 4, 4)"


def test_network_and_images_are_moved_to_the_device_and_a_full_one_is_one_line(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here without a GPU: what is moved to one stays where it is."""
    path, version, gpu = checkpoints["CE"], content_hash(checkpoints["CE"]), torch.device("cuda", 5)
    images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1) % 17
    expected = infer(path, version, images, batch_size=2).logits
    moved: list[object] = []

    def recorded(to: Callable[..., object]) -> Callable[..., object]:
        def move(self: object, *where: object, **how: object) -> object:
            if where != (gpu,):
                return to(self, *where, **how)
            moved.append(tuple(self.shape) if isinstance(self, torch.Tensor) else type(self).__name__)
            return self

        return move

    monkeypatch.setattr(torch.Tensor, "to", recorded(torch.Tensor.to))
    monkeypatch.setattr(torch.nn.Module, "to", recorded(torch.nn.Module.to))
    assert infer(path, version, images, batch_size=2, device=gpu).logits.equal(expected)
    assert moved == ["SmallImageResNet", (2, 1, 8, 8), (2, 1, 8, 8)]

    network, _ = load_classifier(path, version, device=gpu)
    features = type(network).features

    def full(self: object, images: torch.Tensor) -> torch.Tensor:
        if len(images) == 3:  # fewer are passed while the network is loaded, on the CPU
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return features(self, images)

    monkeypatch.setattr(type(network), "features", full)
    with pytest.raises(UserError, match=f"cuda:5 has too little memory for {path} and 3 images at once: lower --batch"):
        infer(path, version, images, batch_size=3, device=gpu)


def test_a_checkpoint_of_rotations_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(checkpoints["CE"], weights_only=True)
    ours = json.loads(content["longtail"])
    ours["model_card"]["phase"] = "pretrain_rot"
    path = tmp_path / "rotation.pth.tar"
    torch.save({**content, "longtail": json.dumps(ours)}, path)

    with pytest.raises(UserError) as error:
        infer(path, content_hash(path), np.zeros((3, 8, 8, 1), np.uint8), batch_size=2)

    assert str(error.value) == (
        f"{path} was written by pretrain_rot, which has no classifier: to start a training from its backbone, give it "
        f"as --pretrained_model"
    )


def published_checkpoint(own: Path, path: Path, **changes: Any) -> Path:
    """The same weights, in a checkpoint of the published code."""
    content = torch.load(own, weights_only=True)
    tensors = {f"module.{name}": tensor for name, tensor in content["state_dict"].items()}
    torch.save({"epoch": 4, "arch": content["arch"], "state_dict": tensors, "best_acc1": None, **changes}, path)
    return path


def test_a_published_checkpoint_labels_as_the_same_weights_of_a_run_do(
    spark: SparkSession, options_for, checkpoints: dict[str, Path], set_dir: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = published_checkpoint(checkpoints["LDAM"], tmp_path / "theirs.pth.tar")

    written = gen_pseudolabels(spark, options_for(resume=path, output_dir=tmp_path / "output"), set_dir=set_dir)

    assert f"{path} says neither how its inputs are normalised" in capsys.readouterr().out
    expected = plain_loop(checkpoints["LDAM"], set_dir, head="cosine", scale=30.0)
    assert_same_labels(labels_by_id(spark.read.parquet(str(written))), expected)


def test_a_checkpoint_that_is_refused_leaves_nothing_and_says_why(
    spark: SparkSession, options_for, checkpoints: dict[str, Path], set_dir: Path, tmp_path: Path
) -> None:
    path = published_checkpoint(checkpoints["CE"], tmp_path / "theirs.pth.tar", arch="theirs")
    output_dir = tmp_path / "output"

    with pytest.raises(UserError) as error:
        gen_pseudolabels(spark, options_for(resume=path, output_dir=output_dir), set_dir=set_dir)

    assert str(error.value) == f"{path} does not say which network it is of: name it with -a, as -a resnet32"
    assert not output_dir.exists()
