"""`longtail predict` and `evaluate --path`: any images, by a checkpoint alone."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pyspark.sql import SparkSession
from scipy.special import softmax

import longtail as lt
from longtail.conf.arguments import resolve_options
from longtail.conf.options.inference import EvaluateImagesOptions, PredictOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.any_image import pixels_of, raw_pixels
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.spark_jobs.cluster.failures import user_message
from longtail.spark_jobs.steps.evaluation import evaluate_images
from longtail.spark_jobs.steps.predict import predict
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.class_predictions import class_predictions
from longtail.training.inference import feature_passes, infer, infer_with, read_classifier
from longtail.training.prior_shift import estimate_shares
from longtail.training.run import run_training
from tests.conftest import RunJob
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, write_tiny_set

LOSS = {"loss_type": "LDAM"}
NAMES = ["class 0", "class 1", "class 2"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def set_dir(directory: Path) -> Path:
    return write_tiny_set(directory / "set")


@pytest.fixture(scope="module")
def checkpoint(directory: Path, set_dir: Path) -> Path:
    """Moved away from everything that it was made from."""
    paths = paths_of(set_dir, directory / "run")
    run_training(tiny_options(TrainOptions, epochs=12, **LOSS), paths, ALONE, attempt=1)
    moved = directory / "elsewhere" / "model.pth.tar"
    moved.parent.mkdir()
    (paths.run_dir / "ckpt.pth.tar").rename(moved)
    return moved


@pytest.fixture(scope="module")
def images(set_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 30 test images, (30, 8, 8, 1), and their classes."""
    found = load_split(set_dir, TEST, read_manifest(set_dir))
    assert found.labels is not None
    return found.images, found.labels


def expected(checkpoint: Path, images: np.ndarray) -> Any:
    return class_predictions(infer(checkpoint, version(checkpoint), images, batch_size=500).logits)


def version(checkpoint: Path) -> str:
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def file_of(image: np.ndarray) -> bytes:
    """A grey image (height, width, 1) as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(image[..., 0]).save(content, "PNG")
    return content.getvalue()


def run_predict(spark: SparkSession, checkpoint: Path, path: Path, **values: Any) -> list[dict[str, Any]]:
    output = path.parent / f"{path.name}-predictions"
    predict(spark, resolve_options(PredictOptions, {"resume": checkpoint, "path": path, "output": output, **values}))
    return pq.read_table(output).to_pylist()


def test_of_equally_probable_classes_the_first_is_predicted() -> None:
    logits = torch.zeros(3, 500)
    logits[1, [499, 250]] = 2.0
    logits[2, 77] = 2.0
    found = class_predictions(logits)
    assert found.predicted.tolist() == [0, 250, 77]
    assert found.confidence.tolist() == found.probabilities.max(dim=1).values.tolist()
    assert (found.margin[:2] == 0).all() and found.margin[2] > 0


@pytest.mark.parametrize(("bias", "is_refused"), [(3e38, False), (float("nan"), True), (float("-inf"), True)])
def test_outputs_that_are_no_numbers_are_refused_and_large_ones_are_not(
    checkpoint: Path, images: tuple[np.ndarray, np.ndarray], bias: float, is_refused: bool
) -> None:
    """Although the sum of the large ones is infinite."""
    network, metadata = read_classifier(checkpoint)
    network.fc.register_forward_hook(lambda _module, _inputs, outputs: torch.full_like(outputs, bias))
    with refused() if is_refused else nullcontext([]) as messages:
        found = infer_with(network, replace(metadata, logit_scale=1.0), images[0], path=checkpoint, batch_size=7)
        assert (found.logits == bias).all()
    assert [("gives NaN or infinite outputs" in message) for message in messages] == [True] * is_refused


def test_files_of_any_depth_get_names_confidence_and_the_five_best(
    spark: SparkSession, checkpoint: Path, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    for number, image in enumerate(images[0]):
        file = tmp_path / "photos" / f"day {number % 3}" / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file_of(image))
    (tmp_path / "photos" / "notes.txt").write_text("no image")

    rows = run_predict(spark, checkpoint, tmp_path / "photos", batch_size=7, probabilities=True, features=True)

    found = expected(checkpoint, images[0])
    assert sorted(row["file"] for row in rows) == sorted(f"day {n % 3}/{n:02d}.png" for n in range(30))
    for row in rows:
        number = int(row["file"][-6:-4])
        assert row["predicted"] == found.predicted[number] and row["class_name"] == NAMES[row["predicted"]]
        probabilities = found.probabilities[number].numpy()
        assert row["confidence"] == pytest.approx(probabilities.max(), abs=1e-5)
        order = probabilities.argsort()[::-1]
        assert row["margin"] == pytest.approx(probabilities[order[0]] - probabilities[order[1]], abs=1e-5)
        assert [best["class_name"] for best in row["top5"]] == [NAMES[i] for i in order]
        assert row["probabilities"] == pytest.approx(probabilities.tolist(), abs=1e-5)
        assert row["model_version"] == version(checkpoint) and row["bad_image"] is None and len(row["features"]) == 64
    assert (found.predicted.numpy() == images[1]).mean() > 0.9
    assert [path.name for path in tmp_path.glob(".*")] == []


def table_of(images: np.ndarray, labels: np.ndarray, form: str) -> pa.Table:
    """A user's table: the images in one of the known forms, and columns of their own."""
    pixels = [image.tobytes() for image in images]
    own = {"Key.of mine": [f"k{n}" for n in range(len(images))], "label": [NAMES[label] for label in labels]}
    if form == "files":
        return pa.table({**own, "image": [file_of(image) for image in images]})
    if form == "hugging face":
        return pa.table({**own, "image": [{"bytes": file_of(image), "path": None} for image in images]})
    if form == "spark":
        fields = {"origin": "", "height": 8, "width": 8, "nChannels": 1, "mode": 0}
        return pa.table({**own, "image": [{**fields, "data": image} for image in pixels]})
    if form == "sized pixels":
        sizes = {name: [size] * len(images) for name, size in (("height", 8), ("width", 8), ("channels", 1))}
        return pa.table({**own, "image": pixels, **sizes})
    return pa.table({**own, "image": pixels})


@pytest.mark.parametrize("form", ["hugging face", "spark", "sized pixels"])
def test_a_table_keeps_its_columns_whatever_its_images_are(
    spark: SparkSession, checkpoint: Path, images: tuple[np.ndarray, np.ndarray], tmp_path: Path, form: str
) -> None:
    table = table_of(*images, form)
    pq.write_table(table, tmp_path / "ours.parquet")

    rows = run_predict(spark, checkpoint, tmp_path / "ours.parquet")

    found = expected(checkpoint, images[0])
    assert rows[0].keys() == {
        *(set(table.column_names) - {"image"}),
        "class_name", "predicted", "confidence", "margin", "top5", "model_version", "bad_image",
    }  # fmt: skip
    by_key = {row["Key.of mine"]: row for row in rows}
    assert [by_key[f"k{n}"]["predicted"] for n in range(30)] == found.predicted.tolist()
    assert [by_key[f"k{n}"]["confidence"] for n in range(30)] == pytest.approx(found.confidence.tolist(), abs=1e-5)
    assert [by_key[f"k{n}"]["label"] for n in range(30)] == [NAMES[label] for label in images[1]]


def test_bad_images_stop_the_job_by_name_or_are_listed_with_the_reason(
    spark: SparkSession, checkpoint: Path, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.png").write_bytes(file_of(images[0][0]))
    (photos / "cut.png").write_bytes(file_of(images[0][1])[:40])
    (photos / "text.jpg").write_text("hello")
    (photos / "phone.heic").write_bytes(b"....ftypheic")
    with refused_by_task() as messages:
        run_predict(spark, checkpoint, photos)
    assert "cannot be decoded" in messages[0] and "--on_bad_image skip" in messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]

    by_file = {row["file"]: row for row in run_predict(spark, checkpoint, photos, on_bad_image="skip")}

    assert by_file.keys() == {"good.png", "cut.png", "text.jpg", "phone.heic"}
    assert by_file["good.png"]["class_name"] in NAMES and by_file["good.png"]["bad_image"] is None
    for name in ("cut.png", "text.jpg", "phone.heic"):
        nulls = ("class_name", "predicted", "confidence", "margin", "top5")
        assert all(by_file[name][column] is None for column in nulls)
        assert by_file[name]["bad_image"] and by_file[name]["model_version"] == version(checkpoint)
    assert "it is not a JPEG" in by_file["text.jpg"]["bad_image"]

    (tmp_path / "wanted.txt").write_text("good.png\n\ngone.png\n")
    listed = run_predict(spark, checkpoint, photos, on_bad_image="skip", list_file=tmp_path / "wanted.txt")
    assert {row["file"]: row["bad_image"] for row in listed} == {"good.png": None, "gone.png": "no such file"}
    (tmp_path / "wanted.txt").write_text("good.png\n../secret.png\n")
    with refused() as messages:
        run_predict(spark, checkpoint, photos, list_file=tmp_path / "wanted.txt")
    assert "wanted.txt, line 2: a name below --path was expected, not ../secret.png" in messages[0]


@contextmanager
def refused_by_task() -> Iterator[list[str]]:
    """Expects an error, of a task, whose message is one line for the user; the list holds it afterwards."""
    messages: list[str] = []
    with pytest.raises(Exception) as caught:
        yield messages
    messages.append(user_message(caught.value) or "")
    assert messages[0].splitlines() == messages, caught.value


def test_a_labelled_table_and_a_folder_are_scored_by_the_names_of_the_classes(
    spark: SparkSession,
    directory: Path,
    set_dir: Path,
    checkpoint: Path,
    images: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
) -> None:
    table = table_of(*images, "files").rename_columns({"label": "kind"})
    pq.write_table(table, tmp_path / "ours.parquet")
    for number, (image, label) in enumerate(zip(*images, strict=True)):
        file = tmp_path / "folders" / NAMES[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file_of(image))
    options = tiny_options(TrainOptions, resume=checkpoint, evaluate=True, **LOSS)
    usual = run_evaluation(options, paths_of(set_dir, directory / "unused"), ALONE)["splits"][TEST]

    for path, label_column in (("ours.parquet", "kind"), ("folders", "label")):
        given = {"resume": checkpoint, "path": tmp_path / path, "label_column": label_column}
        wanted = resolve_options(EvaluateImagesOptions, {**given, "output_dir": tmp_path / "out"})
        output_dir, result = evaluate_images(spark, wanted)
        scores = result["splits"][TEST]
        assert scores["confusion"] == usual["confusion"] and scores["class_accuracy"] == usual["class_accuracy"]
        for name in ("accuracy", "balanced_accuracy", "loss", "expected_calibration_error", "macro_f1"):
            assert scores[name] == pytest.approx(usual[name], rel=1e-5), name
        assert json.loads((output_dir / "scores.json").read_text()) == result

    pq.write_table(table.set_column(1, "kind", [["cat"] * 30]), tmp_path / "ours.parquet")
    with refused_by_task() as messages:
        wanted = resolve_options(
            EvaluateImagesOptions, {**given, "path": tmp_path / "ours.parquet", "label_column": "kind"}
        )
        evaluate_images(spark, wanted)
    assert f"the label 'cat' is no class of {checkpoint}, which has class 0, class 1, class 2" in messages[0]


def test_what_is_no_input_or_no_output_is_refused_before_anything_is_written(
    spark: SparkSession, checkpoint: Path, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    table = tmp_path / "ours.parquet"
    pq.write_table(table_of(*images, "files"), table)
    given = {"resume": checkpoint, "path": table, "output": tmp_path / "out"}

    def message(**values: Any) -> str:
        with refused() as messages:
            predict(spark, resolve_options(PredictOptions, {**given, **values}))
        return messages[0]

    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    (tmp_path / "mine").mkdir()
    assert "no column 'img': it has Key.of mine, label, image; name it with --image_column" in message(
        image_column="img"
    )
    assert "'label' is of the type string" in message(image_column="label")
    assert "letters has no image and is no Parquet or Delta table" in message(path=tmp_path / "letters")
    assert "is there already, and is no table of predictions" in message(output=tmp_path / "mine")
    pq.write_table(
        table_of(*images, "files").append_column("KEY.of mine", [list(range(30))]), tmp_path / "twins.parquet"
    )
    assert "names differ in upper and lower case alone: rename one" in message(path=tmp_path / "twins.parquet")
    (tmp_path / "twins.parquet").unlink()
    assert "is within --path" in message(path=tmp_path / "letters", output=tmp_path / "letters" / "out")
    assert "holds the images of --path" in message(output=tmp_path)
    assert "there is no such directory or file" in message(path=tmp_path / "nowhere")
    assert "unknown option 'outptu' (did you mean output?)" in message(outptu="x")
    pq.write_table(table_of(*images, "files").rename_columns({"label": "Confidence"}), table)
    assert "has columns of predictions already, Confidence" in message()
    assert {path.name for path in tmp_path.iterdir()} == {"ours.parquet", "letters", "mine"}


def test_images_of_another_size_or_colour_become_what_the_network_takes() -> None:
    red = np.zeros((20, 30, 3), np.uint8)
    red[:, 5:25] = (200, 0, 0)
    red[:, :5] = red[:, 25:] = 255  # cropped
    content = io.BytesIO()
    Image.fromarray(red).save(content, "PNG")
    assert (pixels_of(content.getvalue(), (10, 10, 3))[:, 1:-1] == (200, 0, 0)).all()
    grey = pixels_of({"bytes": content.getvalue()}, (10, 10, 1))
    assert grey.shape == (10, 10, 1) and (grey[:, 1:-1] == 60).all()  # 0.299 x 200, by ITU-R 601
    blue_green_red = {"height": 20, "width": 30, "nChannels": 3, "data": red[..., ::-1].tobytes()}
    assert (pixels_of(blue_green_red, (20, 30, 3)) == red).all()
    assert (pixels_of(red.tobytes(), (20, 30, 3)) == red).all()
    assert pixels_of(content.getvalue(), (10, 20, 3)).shape == (10, 20, 3)
    # The first pixels say "BM", as BMP files do.
    like_bmp = np.frombuffer(b"BM" + bytes(range(190)), np.uint8).reshape(8, 8, 3)
    assert (pixels_of(like_bmp.tobytes(), (8, 8, 3)) == like_bmp).all()
    for bad in (None, 3, b"", b"BM", red.tobytes()[:-1], {"bytes": None}, {**blue_green_red, "nChannels": 4}):
        with pytest.raises((ValueError, OSError)):
            pixels_of(bad, (20, 30, 3))


def test_a_full_batch_is_divided_evenly_into_passes_that_fit_the_caches() -> None:
    network = build_model("resnet20", num_classes=3, in_channels=3).eval()
    with torch.inference_mode():
        sizes = [
            (len(features), num_images)
            for features, num_images in feature_passes(
                network, Normalisation((0.5,), (0.5,)), torch.zeros(256, 3, 32, 32, dtype=torch.uint8), batch_size=256,
                device=torch.device("cpu"),
            )
        ]  # fmt: skip
    assert sizes == [(86, 86), (86, 86), (86, 84)]  # at most 100 images of 32x32


def test_pixels_in_a_column_are_told_from_files_and_are_not_copied() -> None:
    shape, generator = (2, 3, 1), np.random.default_rng(0)
    images = [generator.integers(128, 256, 6, dtype=np.uint8).tobytes() for _ in range(6)]
    column = pa.array([b"x", *images]).slice(1)
    pixels, is_certain = raw_pixels(column, shape)
    assert is_certain.all() and pixels.tobytes() == b"".join(images)
    data = np.frombuffer(column.buffers()[2], np.uint8)
    assert np.shares_memory(pixels, data) and not pixels.flags.writeable
    # Null, of another length, and such as begin as a GIF or BMP file are for whoever decodes.
    mixed = pa.array([images[0], None, images[1][:5], b"GIF8..", b"BM1234", images[2]])
    pixels, is_certain = raw_pixels(mixed, shape)
    assert is_certain.tolist() == [True, False, False, False, False, True]
    assert (pixels[0].tobytes(), pixels[1].tobytes(), pixels[5].tobytes()) == (images[0], bytes(6), images[2])
    for none in (pa.array([], pa.binary()), pa.array([None], pa.binary()), pa.array([{"bytes": images[0]}])):
        assert not raw_pixels(none, shape)[1].any()


def test_a_loaded_model_predicts_arrays_frames_and_in_sql(
    spark: SparkSession, checkpoint: Path, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model = lt.load(checkpoint)
    found = expected(checkpoint, images[0])
    assert (model.class_names, model.class_counts, model.image_shape) == (NAMES, [24, 12, 4], (8, 8, 1))

    batch = model.predict_batch(images[0], features=True)
    assert batch.class_name == [NAMES[number] for number in found.predicted]
    np.testing.assert_allclose(batch.probabilities, found.probabilities, atol=1e-5)
    np.testing.assert_allclose(batch.confidence, found.confidence, atol=1e-5)
    assert batch.features is not None and batch.features.shape == (30, 64)
    as_files = model.predict_batch([file_of(images[0][0]), images[0][1][..., 0], images[0][2]])
    assert as_files.predicted.tolist() == found.predicted[:3].tolist()
    assert model.predict_batch(images[0][:0]).class_name == []
    with refused() as messages:
        model.predict_batch([images[0][0], b"no image"])
    assert messages[0].startswith("image 1 cannot be read: it is not a JPEG")
    table = table_of(*images, "files").append_column("number", [list(range(30))])
    pq.write_table(table, tmp_path / "ours.parquet")
    frame = spark.read.parquet(str(tmp_path / "ours.parquet"))
    refused_calls: list[tuple[Callable[[], object], str]] = [
        (lambda: model.predict_batch(images[0][0]), "one image was given: images were expected, as image[None]"),
        (lambda: lt.load(checkpoint, prior=cast(Any, 5)), "prior is of the type int: uniform, train, a mapping"),
        (lambda: model.predict(cast(Any, pd.DataFrame())), "predict() takes a Spark DataFrame, not a"),
        (lambda: model.predict(spark.range(1), image="id", on_bad_image=cast(Any, "skp")), "(did you mean skip?)"),
        (lambda: model.predict(spark.range(1)), "it has id; name it with --image_column (in Python, image=)"),
        (lambda: model.predict_batch(cast(Any, None)), "images are of the type NoneType: an array or a list of them"),
        (lambda: model.class_shares(cast(Any, 5)), "images are of the type int: an array or a list of them"),
        (lambda: cast(Any, lt.load)(checkpoint, btch_size=3), "'btch_size' (did you mean batch_size?): load() has"),
        (lambda: cast(Any, model).predict(frame, on_bad_imge="skip"), "'on_bad_imge' (did you mean on_bad_image?)"),
        (lambda: cast(Any, lt.dashboard)("analytics", prt=80), "unknown option 'prt' (did you mean port?)"),
        (lambda: model.predict(frame.selectExpr("image", "1 AS a", "2 AS a")), "two columns of one name, a: rename"),
        (lambda: model.predict(frame.selectExpr("image", "INTERVAL '1' MONTH AS age")), "'age' of the images' table"),
        (lambda: model.predict_batch([b"7" * 65]), "its 65 bytes are no pixels of 8 x 8 x 1 (64 bytes)"),
    ]  # fmt: skip
    for call, message in refused_calls:
        with refused() as messages:
            call()
        assert message in messages[0]
    adjusted = lt.load(checkpoint, logit_adjustment=1.0).predict_batch(images[0])
    expected_odds = batch.probabilities / np.array([24, 12, 4])
    np.testing.assert_allclose(
        adjusted.probabilities, expected_odds / expected_odds.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6
    )

    rows = sorted(model.predict(frame).toArrow().to_pylist(), key=lambda row: row["number"])
    assert [row["predicted"] for row in rows] == found.predicted.tolist()
    assert rows[0]["image"] == table["image"][0].as_py() and rows[0]["Key.of mine"] == "k0"
    of_twins = model.predict(frame.limit(1).selectExpr("image", "1 AS a", "2 AS A", "now() AS at")).toArrow()
    assert of_twins.select([1, 2]).to_pydict() == {"a": [1], "A": [2]}

    frame.createOrReplaceTempView("ours")
    model.register(spark, "classify")
    query = (
        "SELECT number, classify(image) AS found, classify(unhex('00')).bad_image AS reason FROM ours ORDER BY number"
    )
    asked = spark.sql(query).collect()
    assert [row["found"]["class_name"] for row in asked] == batch.class_name
    assert [best["class_name"] for best in asked[0]["found"]["top5"]] == [NAMES[i] for i in found.best[0]]
    assert asked[0]["reason"].startswith("it is not a JPEG")


@pytest.mark.long
def test_a_calibrated_checkpoint_predicts_for_other_class_shares(
    job: RunJob, checkpoint: Path, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pq.write_table(table_of(*images, "files"), tmp_path / "held_out.parquet")
    chosen = [*range(10), *range(10, 13), 20]  # ten images of the first class, three, and one
    pq.write_table(table_of(images[0][chosen], images[1][chosen], "files"), tmp_path / "new.parquet")
    before = version(checkpoint)

    done = job("calibrate", "--resume", checkpoint, "--path", "held_out.parquet", "--output", "calibrated.pth.tar")

    assert done.returncode == 0, done.stderr
    assert "calibration error of 30 held-out images" in done.stdout
    assert version(checkpoint) == before and (tmp_path / "calibrated-reliability.png").stat().st_size > 1000
    calibrated = tmp_path / "calibrated.pth.tar"
    model, raw = lt.load(calibrated), infer(checkpoint, before, images[0], batch_size=500).logits.numpy()
    assert model.metadata.calibration is not None
    scaling = model.metadata.calibration.scaling
    held = softmax(raw / scaling.temperature + np.array(scaling.biases), axis=1)
    np.testing.assert_allclose(model.predict_batch(images[0]).probabilities, held, atol=1e-5)
    np.testing.assert_allclose(held.mean(axis=0), scaling.class_shares, atol=1e-4)

    new = "--path", "new.parquet", "--probabilities"
    said = job("predict", "--resume", calibrated, *new, "--output", "estimated", "--prior", "estimated")
    assert said.returncode == 0 and said.stderr == "", said.stderr
    assert "class shares, estimated from 14 images" in said.stdout
    shares = pd.read_csv(tmp_path / "estimated" / "_class_shares.csv")
    np.testing.assert_allclose(shares["share"], estimate_shares(held[chosen], held.mean(axis=0)), atol=0.01)
    assert (shares["low"] <= shares["share"]).all() and (shares["share"] <= shares["high"]).all()
    odds = held[chosen] * shares["share"].to_numpy() / np.array(scaling.class_shares)
    rows = {row["Key.of mine"]: row for row in pq.read_table(tmp_path / "estimated").to_pylist()}
    found = np.array([rows[f"k{number}"]["probabilities"] for number in range(14)])
    np.testing.assert_allclose(found, odds / odds.sum(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(model.class_shares(images[0][chosen])["share"], shares["share"], atol=1e-4)

    as_file = lt.load(calibrated, prior=tmp_path / "estimated" / "_class_shares.csv").predict_batch(images[0][chosen])
    np.testing.assert_allclose(as_file.probabilities, found, atol=1e-4)
    uniform = job("evaluate", "--resume", calibrated, "--path", "new.parquet", "--prior", "uniform")
    assert uniform.returncode == 0, uniform.stderr
    scores = json.loads((tmp_path / "evaluation" / "scores.json").read_text())
    assert scores["class_shares"]["shares"] == [1 / 3] * 3
    of_api = lt.load(calibrated, prior="uniform").predict_batch(images[0][chosen]).predicted
    assert scores["splits"]["test"]["accuracy"] == pytest.approx((of_api == images[1][chosen]).mean())

    for arguments, message in (
        (("calibrate", "--resume", calibrated, "--path", "new.parquet", "--output", "two"), "is calibrated already"),
        (("calibrate", "--resume", checkpoint, "--path", "new.parquet", "--output", "two"), "14 images are too few"),
        (("calibrate", "--resume", checkpoint, "--path", "new.parquet", "--output", "new.parquet"), "exists and is no"),
        (("predict", "--resume", calibrated, *new, "--output", "p", "--prior", "unifrom"), "(did you mean uniform?)"),
        (
            ("predict", "--resume", calibrated, *new, "--output", "p", "--prior", "train", "--logit_adjustment", "1"),
            "give one of them",
        ),
    ):
        refusal = job(*arguments)
        assert refusal.returncode == 2 and message in refusal.stderr, refusal.stderr
        assert not (tmp_path / "p").exists() and not (tmp_path / "two").exists()
    warned = job("predict", "--resume", checkpoint, *new, "--output", "p", "--prior", "estimated")
    assert warned.returncode == 0 and "is not calibrated, so the estimated class shares" in warned.stderr


@pytest.mark.long
def test_from_a_folder_of_photos_to_predictions_of_another_in_three_commands(job: RunJob, tmp_path: Path) -> None:
    for number, name in enumerate(("ant", "bee", "cat")):
        generator = np.random.default_rng(number)
        for image in range((24, 16, 12)[number]):
            pixels = generator.integers(0, 100, (24, 24, 3), dtype=np.uint8)
            pixels[8 * number : 8 * number + 8] += 150
            file = tmp_path / ("ours" if image < 10 else "theirs") / name / f"{image}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, quality=95)
    own = "--dataset folder --path ours --imb_type natural --image_size 24"
    trained = job("train", *f"{own} -a resnet20 --epochs 12 --threads 1 -b 8 --lr 0.05".split())
    assert trained.returncode == 0, trained.stderr
    (checkpoint,) = tmp_path.glob("runs/*/ckpt.pth.tar")
    suggested = trained.stdout.splitlines()[-1].removeprefix("next: longtail ")
    assert suggested == f"predict --resume {checkpoint} --threads 1 --path {tmp_path / 'ours'} --output predictions"
    predicted = job(*suggested.replace(str(tmp_path / "ours"), "theirs").split())
    assert predicted.returncode == 0, predicted.stderr
    assert f"predictions of 22 images: {tmp_path / 'predictions'}" in predicted.stdout
    rows = pq.read_table(tmp_path / "predictions").to_pylist()
    right = [row["class_name"] == row["file"].partition("/")[0] for row in rows]
    assert len(right) == 22 and sum(right) >= 16
    evaluated = job("evaluate", "--resume", checkpoint, "--path", "theirs")
    assert evaluated.returncode == 0, evaluated.stderr
    scores = json.loads((checkpoint.parent / "evaluation" / "scores.json").read_text())
    assert scores["splits"]["test"]["accuracy"] == pytest.approx(sum(right) / 22)
