"""The reliability diagram of a calibration, drawn without a screen, and its numbers in the terminal."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location

if TYPE_CHECKING:
    from longtail.training.calibration import Calibration, Reliability


def print_calibration(calibration: "Calibration") -> None:
    """What was fitted, and how far confidences were off before and after."""
    before, after, scaling = calibration.before, calibration.after, calibration.scaling
    print(f"temperature {scaling.temperature:.3f}, biases {min(scaling.biases):+.2f} to {max(scaling.biases):+.2f}")
    print(
        f"calibration error of {calibration.num_images} held-out images: {100 * before.error:.1f} % before, "
        f"{100 * after.error:.1f} % after (cross-validated); accuracy {100 * before.accuracy:.1f} % before, "
        f"{100 * after.accuracy:.1f} % after"
    )
    smallest, largest = min(scaling.class_shares), max(scaling.class_shares)
    print(
        f"its probabilities are calibrated for class shares like those of these images ({100 * smallest:.1f} to "
        f"{100 * largest:.1f} %): for others, `longtail predict` and `longtail evaluate` correct them by --prior"
    )


def draw_reliability(calibration: "Calibration", file: Location, *, title: str) -> None:
    """Write reliability_figure() as a PNG."""
    figure = reliability_figure(calibration, title=title)
    write_atomically(file, lambda temporary: figure.savefig(temporary, format="png", dpi=120))


def reliability_figure(calibration: "Calibration", *, title: str) -> Figure:
    """Accuracy over confidence of the held-out images in bins, before and after; on the diagonal it is exact."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="exact")
    for name, reliability in (("before", calibration.before), ("after", calibration.after)):
        confidence, accuracy = _means(reliability)
        axes.plot(confidence, accuracy, marker="o", label=f"{name}: error {100 * reliability.error:.1f} %")
    axes.set(xlabel="mean confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=title)
    axes.legend()
    return figure


def _means(reliability: "Reliability") -> tuple[list[float], list[float]]:
    """Mean confidence and accuracy of each bin that has images."""
    columns = zip(reliability.images, reliability.correct, reliability.confidence, strict=True)
    means = [(confidence / images, correct / images) for images, correct, confidence in columns if images]
    return [confidence for confidence, _ in means], [accuracy for _, accuracy in means]
