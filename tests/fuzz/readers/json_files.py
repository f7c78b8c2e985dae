"""JSON files: results, descriptions of models and of runs, and entries of the trash."""

from pathlib import Path
from random import Random
from typing import Any

from longtail.streaming.runs.descriptions import read_description
from longtail.streaming.runs.trash import trash_entries
from longtail.training.checkpoint_metadata import metadata_text, read_metadata
from longtail.training.result_file import read_result
from tests.fuzz.mutation import damaged_json

_MODEL: dict[str, Any] = {
    "run": "base", "phase": "train", "arch": "resnet20", "head": "linear", "logit_scale": 1.0,
    "class_names": ["a", "b"], "class_counts": [3, 1], "rule_counts": [3, 1], "pseudo_label_round": 0,
    "image_shape": [8, 8, 1], "normalisation": {"mean": [0.5], "std": [0.2]}, "options": {"dataset": "digits"},
    "set_identity": "00",
}  # fmt: skip
_SCORES = {
    "accuracy": 0.5, "balanced_accuracy": 0.5, "many_shot_accuracy": 0.5, "medium_shot_accuracy": None,
    "few_shot_accuracy": None, "class_accuracy": [0.5, None], "macro_f1": 0.5, "totals": {"support": [2.0, 0.0]},
    "confusion": {"target": [0], "predicted": [1], "count": [2]},
}  # fmt: skip
_SEEDS: list[dict[str, Any]] = [
    {"format_version": 2, "model_card": _MODEL, "best": {"epoch": 1, "val_balanced_accuracy": 0.5, "test_scores": {}}},
    {"run": "base", "phase": "train", "epoch": 1, "class_names": ["a"], "class_counts": [1], "pseudo_label_round": 0,
     "shot_groups": ["few"], "best_on_validation": None, "chosen_on_validation": {}, "splits": {"test": _SCORES}},
    {"format_version": 1, "display_name": "a", "tags": ["b"], "note": "c", "hidden": False},
    {"format_version": 1, "run": "base", "deleted_at": 1.0, "expires_at": 2.0, "state": "deleted"},
]  # fmt: skip


def generate(random: Random) -> bytes:
    return damaged_json(random.choice(_SEEDS), random)


def read(content: bytes, directory: Path) -> None:
    entry = directory / "trash" / "base@20260101T000000-1a2b3c4d"
    for file in (entry / "entry.json", directory / "descriptions" / "base.json", directory / "result.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    trash_entries(directory)
    if b"model_card" in content:
        metadata_text(*read_metadata(content.decode(errors="replace"), path=directory / "result.json"))
    elif b"splits" in content:
        read_result(directory / "result.json")
    else:
        read_description(directory, "base")
