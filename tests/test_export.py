"""Exported classifiers (training/export/): read by programs without Longtail, with the logits of the original."""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.export import main
from longtail.streaming.intervals import wilson_interval
from longtail.training.checkpoints import load_checkpoint
from longtail.training.export.files import SAFETENSORS_TYPES, safetensors
from longtail.training.export.model_card import model_card_text
from longtail.training.inference import infer_with, read_classifier
from longtail.training.run import run_training
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, weights_in

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["class 0", "class 1", "class 2"]

WITHOUT_LONGTAIL = """
import json, sys
import numpy as np, torch
extra = {"longtail.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra)
logits = program.module()(torch.from_numpy(np.load(sys.argv[2])))
names = json.loads(extra["longtail.json"])["class_names"]
print(json.dumps([[names[i] for i in logits.argmax(dim=1)], logits.tolist()]))
assert "longtail" not in sys.modules
"""


@pytest.fixture(scope="module", params=["LDAM", pytest.param("CE", marks=pytest.mark.long)])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, set_dir: Path) -> Path:
    """With a cosine head, and with a linear one."""
    paths = paths_of(set_dir, tmp_path_factory.mktemp("export") / "run")
    run_training(tiny_options(TrainOptions, epochs=2, loss_type=request.param), paths, ALONE, attempt=1)
    return paths.run_dir / "ckpt.pth.tar"


@pytest.fixture(scope="module")
def images(set_dir: Path) -> np.ndarray:
    return np.array(load_split(set_dir, TEST, read_manifest(set_dir)).images)


def logits_of(checkpoint: Path, images: np.ndarray) -> np.ndarray:
    network, metadata = read_classifier(checkpoint)
    return infer_with(network, metadata, images, path=checkpoint, batch_size=30).logits.numpy()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.long
def test_an_exported_program_is_used_in_ten_lines_without_longtail(
    checkpoint: Path, images: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--resume", str(checkpoint), "--to", str(tmp_path / "net.pt2")])
    assert capsys.readouterr().out == f"exported: {tmp_path / 'net.pt2'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
    np.save(tmp_path / "images.npy", images)

    code = [sys.executable, "-c", WITHOUT_LONGTAIL, str(tmp_path / "net.pt2"), str(tmp_path / "images.npy")]
    done = subprocess.run(code, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    names, logits = json.loads(done.stdout)
    expected = logits_of(checkpoint, images)
    assert_same(np.array(logits), expected)
    assert names == [NAMES[number] for number in expected.argmax(axis=1)]


def test_an_onnx_file_gives_the_same_logits_and_names(checkpoint: Path, images: np.ndarray, tmp_path: Path) -> None:
    import onnxruntime

    main(["--resume", str(checkpoint), "--to", str(tmp_path / "net.onnx")])

    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images})

    assert_same(np.asarray(logits), logits_of(checkpoint, images))
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_safetensors_hold_the_weights_and_the_json_beside_them_the_rest(checkpoint: Path, tmp_path: Path) -> None:
    main(["--resume", str(checkpoint), "--to", str(tmp_path / "net.safetensors")])

    content = (tmp_path / "net.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    weights = weights_in(checkpoint)
    types = {"F32": torch.float32, "I64": torch.int64}
    assert header.keys() - {"__metadata__"} == weights.keys() and length % 8 == 0
    end = 0
    for name, tensor in weights.items():
        first, end = (8 + length + offset for offset in header[name]["data_offsets"])
        found = torch.frombuffer(bytearray(content[first:end]), dtype=types[header[name]["dtype"]])
        assert torch.equal(found.view(header[name]["shape"]), tensor), name
    assert end == len(content)
    about = json.loads((tmp_path / "net.json").read_text())
    _, metadata = read_classifier(checkpoint)
    assert about["class_names"] == NAMES and about["class_counts"] == [24, 12, 4]
    assert about["normalisation"] == {
        "mean": list(metadata.normalisation.mean),
        "std": list(metadata.normalisation.std),
    }


def test_the_model_card_has_scores_with_intervals_and_limits(checkpoint: Path, tmp_path: Path) -> None:
    main(["--resume", str(checkpoint), "--to", str(tmp_path / "card.md")])
    text = (tmp_path / "card.md").read_text()
    totals = json.loads((checkpoint.parent / "result.json").read_text())["splits"][TEST]["totals"]
    right = totals["correct"][2]
    low, high = (100 * bound for bound in wilson_interval(right / 10, 10, sqrt=math.sqrt))
    assert f"| class 2 | few | 4 | 10 | {10 * right:.1f} % | {low:.1f} to {high:.1f} % |" in text
    assert "The largest class has 24 training images, the smallest 4." in text
    assert "Few-shot classes are least reliable: class 2." in text
    many, medium, few = (f"{10 * number:.1f} %" for number in totals["correct"])
    assert f"the means of its classes' accuracies: many-shot {many}, medium-shot {medium}, few-shot {few}." in text
    assert "twice" not in text
    # By hand: 8 of 10, (0.8 + z²/20 ± z sqrt(0.016 + z²/400)) / (1 + z²/10).


def test_the_model_card_tells_copies_in_the_data_without_names_of_files(checkpoint: Path) -> None:
    result = json.loads((checkpoint.parent / "result.json").read_text())
    copies = [
        {"split": "train", "of": "test", "num_conflicts": 1, "left_out": False},
        {"split": "unlabeled", "of": "labelled", "num_conflicts": 0, "left_out": True},
    ]
    result["copies"] = [{**row, "kind": "near", "num_images": 3, "examples": [["x.png", "y.png"]]} for row in copies]
    metadata = load_checkpoint(checkpoint).metadata
    assert metadata is not None
    text = model_card_text(result, metadata.options, version="0")
    assert (
        "resized):\n\n"
        "- the part train has 3 near copies of test images (1 of another class)\n"
        "- left out of the unlabeled part: 3 near copies of labelled images\n\n## Scores" in text
    )
    assert "x.png" not in text


def test_a_file_that_describes_no_model_is_not_replaced_by_a_description(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"run": "base"}')
    with refused() as messages:
        main(["--resume", str(checkpoint), "--to", str(tmp_path / "result.safetensors")])
    assert f"{tmp_path}/result.json already exists and does not describe an exported model" in messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_safetensors_have_numbers_of_every_usual_type() -> None:
    values = {str(kind): torch.tensor([[0, 1], [1, 0]]).to(kind) for kind in SAFETENSORS_TYPES}
    content = safetensors({**values, "scalar": torch.tensor(7)})
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for kind in SAFETENSORS_TYPES:
        first, end = (8 + length + offset for offset in header[str(kind)]["data_offsets"])
        found = torch.frombuffer(bytearray(content[first:end]), dtype=kind).view(2, 2)
        assert torch.equal(found, values[str(kind)]) and header[str(kind)]["shape"] == [2, 2]
    assert header["scalar"]["shape"] == [] and content.endswith(struct.pack("<q", 7))
    with refused() as messages:
        safetensors({"weight": torch.zeros(2, dtype=torch.complex64)})
    assert messages[0] == "weight is of torch.complex64, which safetensors files do not have: export to .pt2"


def test_what_cannot_be_exported_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    moved = tmp_path / "model.pth.tar"
    moved.write_bytes(checkpoint.read_bytes())
    for resume, to, message in (
        (moved, "card.md", "result.json with test scores is needed for a model card"),
        (checkpoint, "net.h5", "a name that ends in .pt2, .onnx, .safetensors or .md was expected"),
        (tmp_path / "none", "net.pt2", "there is no such file"),
        (Path(__file__), "net.pt2", "is damaged or not a checkpoint"),
    ):
        with refused() as messages:
            main(["--resume", str(resume), "--to", str(tmp_path / to)])
        assert message in messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth.tar"]
