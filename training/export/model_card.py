"""A model card in Markdown (Mitchell et al. 2019), from a checkpoint and the result of its training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, write_text_atomically
from longtail.conf.vocabulary import FEW, SHOT_GROUPS, TEST
from longtail.data.copies import copy_lines
from longtail.streaming.intervals import wilson_interval
from longtail.training.calibration import NUM_BINS, Calibration
from longtail.training.inference import load_classifier_checkpoint
from longtail.training.run_directory import RESULT_FILE, finished_run


def write_model_card(checkpoint: Path, to: Path) -> None:
    """Write the card. Raises UserError if result.json is not beside the checkpoint, or has no test scores."""
    run = finished_run(checkpoint.absolute().parent)
    if run is None or TEST not in run.result.get("splits", {}):
        raise UserError(
            f"{checkpoint.parent / RESULT_FILE} with test scores is needed for a model card: keep it beside the "
            f"checkpoint, or export the network alone"
        )
    metadata = load_classifier_checkpoint(checkpoint).metadata
    assert metadata is not None, "load_classifier_checkpoint() refuses a checkpoint without it"
    text = model_card_text(
        run.result, metadata.options, version=content_hash(checkpoint), calibration=metadata.calibration
    )
    write_text_atomically(to, text)


def model_card_text(
    result: dict[str, Any], options: dict[str, Any], *, version: str, calibration: Calibration | None = None
) -> str:
    """The card's text.

    result: the content of result.json
    options: of the training
    version: SHA-256 of the checkpoint
    calibration: of the checkpoint, which the training's scores do not have
    """
    test = result["splits"][TEST]
    support, correct = test["totals"]["support"], test["totals"]["correct"]
    counts, groups = result["class_counts"], result["shot_groups"]
    rare = [name for name, group in zip(result["class_names"], groups, strict=True) if group == FEW]
    lines = [
        f"# {_plain(result['run'])}",
        "",
        f"A classifier of images into {len(counts)} classes, trained on {sum(counts)} long-tailed images of "
        f"{_plain(options['dataset'])} with Longtail. Network {_plain(options['arch'])}, loss "
        f"{_plain(options['loss_type'])}, {result['epoch']} epochs. Model version (SHA-256): `{version}`.",
        "",
        "## Data",
        "",
        f"The largest class has {max(counts)} training images, the smallest {min(counts)}. The scores are of "
        f"{sum(support):.0f} test images, which influenced neither the training nor the choice of the checkpoint.",
        "",
        *_copies(result),
        "## Scores",
        "",
        "95 % intervals (Wilson) say how exactly the test images measure an accuracy; another training gives another.",
        "",
        "| group | classes | test images | accuracy | 95 % interval |",
        "|---|---:|---:|---:|---|",
        _row("all", len(counts), sum(support), sum(correct)),
    ]
    for group in SHOT_GROUPS:
        members = [number for number, of_class in enumerate(groups) if of_class == group]
        if members:
            images = sum(support[number] for number in members), sum(correct[number] for number in members)
            lines.append(_row(f"{group}-shot", len(members), *images))
    error = test["expected_calibration_error"]
    means = [f"{group}-shot {_percent(test[f'{group}_shot_accuracy'])}" for group in SHOT_GROUPS if group in groups]
    lines += [
        "",
        f"Balanced accuracy: {_percent(test['balanced_accuracy'])}. Macro F1: {_percent(test['macro_f1'])}. In the "
        f"table, all images of a group count alike; the means of its classes' accuracies: {', '.join(means)}.",
        "",
        "| class | shots | training images | test images | accuracy | 95 % interval |",
        "|---|---|---:|---:|---:|---|",
        *(
            _row(f"{_plain(name)} | {group} | {count}", None, of_class, right)
            for name, group, count, of_class, right in zip(
                result["class_names"], groups, counts, support, correct, strict=True
            )
        ),
        "",
        "## Calibration",
        "",
        f"Expected calibration error (15 bins): {_percent(error)}. A confidence is off by so much on average.",
        *([] if calibration is None else _calibration_lines(calibration)),
        "",
        "## Intended use",
        "",
        "Images like those of the training data, in classes of the list above. Every image gets one of these classes, "
        "whatever it shows.",
        "",
        "## Limits",
        "",
        f"- {_limits_of_rare(rare)}",
        "- The class shares of the training are part of what was learned: where they are others, the predictions lean "
        "to the classes that were frequent then.",
        "- What other images, cameras and conditions than the test images' give was not measured.",
        "",
    ]
    return "\n".join(lines)


def _copies(result: dict[str, Any]) -> list[str]:
    """Paragraph about images that the set has twice; empty without them, and for runs of versions that did not look."""
    lines = copy_lines(result.get("copies", []))
    if not lines:
        return []
    return [
        "Images that are in the data twice (near copies: the same picture encoded again or resized):",
        "",
        *(f"- {line}" for line in lines),
        "",
    ]


def _calibration_lines(calibration: Calibration) -> list[str]:
    """The reliability diagram of the calibration as a table."""
    before, after, scaling = calibration.before, calibration.after, calibration.scaling
    lines = [
        "",
        f"The scores of this card are of the network before calibration. By {calibration.num_images} held-out images, "
        f"its logits are divided by the temperature {scaling.temperature:.3f}, and each class has a bias. On them, the "
        f"calibration error is {_percent(before.error)} before and {_percent(after.error)} after, the accuracy "
        f"{_percent(before.accuracy)} and {_percent(after.accuracy)} (after: cross-validated). The probabilities hold "
        f"for class shares like those of the held-out images: {_percent(min(scaling.class_shares))} to "
        f"{_percent(max(scaling.class_shares))}.",
        "",
        "| confidence | images before | accuracy before | images after | accuracy after |",
        "|---|---:|---:|---:|---:|",
    ]
    for number in range(NUM_BINS):
        cells = [f"{100 * number / NUM_BINS:.0f} to {100 * (number + 1) / NUM_BINS:.0f} %"]
        for part in (before, after):
            images = part.images[number]
            cells += [str(images), _percent(part.correct[number] / images if images else None)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _row(name: str, num_classes: int | None, total: float, correct: float) -> str:
    cells = [name, *([] if num_classes is None else [str(num_classes)]), f"{total:.0f}"]
    if not total:
        return f"| {' | '.join(cells)} | - | - |"
    low, high = wilson_interval(correct / total, total, sqrt=math.sqrt)
    return f"| {' | '.join(cells)} | {_percent(correct / total)} | {100 * low:.1f} to {100 * high:.1f} % |"


def _limits_of_rare(rare: Sequence[str]) -> str:
    if not rare:
        return "No class is few-shot."
    return f"Few-shot classes are least reliable: {', '.join(map(_plain, rare))}."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _plain(text: object) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>#|" else character for character in str(text))
