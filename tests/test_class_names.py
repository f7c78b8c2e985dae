"""Classes are matched by their names, wherever two files meet (data/class_names.py)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import UNLABELED
from longtail.data.class_names import check_same_order, class_order
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import CLASS_NAMES_KEY, IMAGES_KEY, check_table_fits
from longtail.models.heads import CosineHead, ReorderedHead, ScaledLinearHead, linear_head
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.run import run_training
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, unlabeled_ids, write_pseudo_labels

FILE, SET = Path("runs/a/ckpt.pth.tar"), Path("datasets/prepared/b")


def order_of(found: list[str], wanted: list[str]) -> list[int] | None:
    return class_order(found, wanted, file=FILE, of=SET)


@pytest.mark.parametrize(
    ("found", "wanted", "order"),
    [
        (["cat", "dog", "eel"], ["cat", "dog", "eel"], None),
        (["cat", "dog", "eel"], ["eel", "cat", "dog"], [2, 0, 1]),
        (["1", "10", "2"], ["1", "2", "10"], [0, 2, 1]),
    ],
)
def test_the_order_leads_from_one_to_the_other(found: list[str], wanted: list[str], order: list[int] | None) -> None:
    assert order_of(found, wanted) == order
    if order is not None:
        assert [found[index] for index in order] == wanted


@pytest.mark.parametrize(
    ("found", "wanted", "differences"),
    [
        (["cat", "dog"], ["cat", "zebra"], "it lacks zebra and has dog instead;"),
        (["cat", "dog", "eel"], ["cat", "dog"], "has eel instead;"),
        (["cat"], ["cat", "dog"], "it lacks dog;"),
        (list("abcde"), list("vwxyz"), "it lacks v, w, x and 2 more and has a, b, c and 2 more instead;"),
        (["cat", "cat", "dog"], ["cat", "dog", "dog"], "has two classes of the same name"),
        (["cat\x1b[31m\nred"], ["cat"], "it lacks cat and has cat\\x1b[31m\\nred instead;"),
    ],
)
def test_other_names_are_refused_and_named(found: list[str], wanted: list[str], differences: str) -> None:
    with refused() as messages:
        order_of(found, wanted)
    assert differences in messages[0] and str(FILE) in messages[0] and str(SET) in messages[0]


def test_where_the_order_must_be_the_same_another_one_is_refused() -> None:
    check_same_order(["a", "b"], ["a", "b"], file=FILE, of=SET, remedy="train anew")
    with refused() as messages:
        check_same_order(["a", "b", "c"], ["a", "c", "b"], file=FILE, of=SET, remedy="train anew")
    assert "in another order (class 1 is 'b' there and 'c' here): train anew" in messages[0]


@pytest.mark.parametrize("head", [linear_head(4, 3), CosineHead(4, 3), ScaledLinearHead(4, 3)])
def test_a_reordered_head_gives_the_same_outputs_in_another_order(head: torch.nn.Module) -> None:
    features = torch.randn(5, 4)
    outputs = head(features)
    assert torch.equal(ReorderedHead(head, [2, 0, 1])(features), torch.stack([outputs[:, i] for i in (2, 0, 1)], dim=1))


def table_with(set_dir: Path, table: Path, **recorded: object) -> Path:
    """Pseudo-labels for the tiny set with metadata of the id column as Spark writes it."""
    write_pseudo_labels(table, unlabeled_ids(), [0, 1, 2] * 4, [0.5] * 12)
    rows = pq.read_table(table / "part-0.parquet")
    schema = json.dumps({"fields": [{"name": "id", "metadata": recorded}]})
    metadata = {"org.apache.spark.sql.parquet.row.metadata": schema}
    pq.write_table(rows.replace_schema_metadata(metadata), table / "part-0.parquet", write_page_checksum=True)
    return table


def test_pseudo_labels_are_learned_for_the_classes_and_images_that_they_are_for(set_dir: Path, tmp_path: Path) -> None:
    manifest = read_manifest(set_dir)
    images = manifest.checksums[UNLABELED]
    fitting = table_with(set_dir, tmp_path / "a", **{CLASS_NAMES_KEY: manifest.class_names, IMAGES_KEY: images})
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1)
    semi_supervised_task(options, set_dir, manifest, torch.device("cpu"), pseudo_labels=fitting)
    for name, recorded, says in (
        ("b", {CLASS_NAMES_KEY: manifest.class_names[::-1]}, "in another order (class 0 is 'class 2' there"),
        ("c", {CLASS_NAMES_KEY: ["class 0", "class 1", "zebra"]}, "it lacks class 2 and has zebra instead"),
        ("d", {CLASS_NAMES_KEY: manifest.class_names, IMAGES_KEY: images[::-1]}, "labels other images than"),
    ):
        table = table_with(set_dir, tmp_path / name, **recorded)
        with refused() as messages:
            semi_supervised_task(options, set_dir, manifest, torch.device("cpu"), pseudo_labels=table)
        assert str(table) in messages[0] and says in messages[0]
        # A part of it among the files of one that fits.
        mixed = shutil.copytree(fitting, tmp_path / f"{name}-mixed")
        shutil.copy(table / "part-0.parquet", mixed / "part-1.parquet")
        with refused() as messages:
            check_table_fits(mixed, manifest, set_dir=set_dir)
        assert str(mixed / "part-1.parquet") in messages[0] and says in messages[0]


def test_a_new_head_on_a_frozen_backbone_needs_no_names_but_the_old_head_does(set_dir: Path, tmp_path: Path) -> None:
    paths = paths_of(set_dir, tmp_path / "run")
    run_training(tiny_options(TrainOptions), paths, ALONE, attempt=1)
    renamed = shutil.copytree(set_dir, tmp_path / "renamed")
    replace(read_manifest(renamed), class_names=["a", "b", "c"]).write(renamed)
    for method in ("cRT", "NCM"):
        options = tiny_options(TrainClassifierOptions, resume=paths.run_dir / "ckpt.pth.tar", method=method)
        result = run_training(options, paths_of(renamed, tmp_path / method), ALONE, attempt=1)
        assert result["class_names"] == ["a", "b", "c"]
    for method in ("LWS", "tau"):
        options = tiny_options(
            TrainClassifierOptions, resume=paths.run_dir / "ckpt.pth.tar", method=method, tau_norm=1.0
        )
        with refused() as messages:
            run_training(options, paths_of(renamed, tmp_path / method), ALONE, attempt=1)
        assert "it lacks a, b, c and has class 0, class 1, class 2 instead" in messages[0]
