"""The time of steps of a kind that was never timed: ten steps of their network on random images, on this machine.

It takes two seconds for each network, and what it finds is kept for a day in the user's cache directory. It writes
nothing else, reads no images, and knows neither evaluation nor Spark's start, so a step that ran tells more.
"""

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.pretraining import ContrastiveOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.data.sources.registry import known_image_shape
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.studies.cost import Kind, kind_of
from longtail.spark_jobs.studies.planned import PlannedStep

NUM_STEPS = 10
SECONDS = 2.0
"""For the steps of one network: their batches are made smaller if they would take longer."""
_FIRST_BATCH = 8
_NUM_CLASSES = 100
_KEPT_SECONDS = 24 * 3600
_CACHE_FILE = "probes.json"


@dataclass(frozen=True)
class Probe:
    """What is timed.

    image_shape: (height, width, channels); batch_size: per step; learns: with gradients and an update of the weights
    """

    arch: str
    image_shape: tuple[int, int, int]
    batch_size: int
    learns: bool
    threads: int | None

    @property
    def key(self) -> str:
        """Its name in the cache, with what the time depends on beside it."""
        return f"{vars(self)}, {os.cpu_count()} cores"


def probed_seconds_per_image(steps: Iterable[PlannedStep]) -> dict[Kind, float]:
    """Seconds for each image of images_of_step, by kind; without those whose network cannot be made here."""
    found: dict[Kind, float] = {}
    for kind, step in {kind_of(step): step for step in steps}.items():
        if (probe := probe_of(step)) is not None and (seconds := _seconds_per_image(probe)) is not None:
            # images_of_step counts an image once, of which contrastive pre-training sees two views.
            found[kind] = seconds * (2 if isinstance(step.planned_options, ContrastiveOptions) else 1)
    return found


def probe_of(step: PlannedStep) -> Probe | None:
    """What to time for a step; None for one without a network, or of user code, which a plan does not run."""
    options = step.planned_options
    arch = step.inputs["resume"].arch if isinstance(options, GenPseudolabelsOptions) else step.arch
    if arch is None or ":" in arch or not isinstance(options, RunOptions | GenPseudolabelsOptions):
        return None
    set_dir = prepared_set_dir(options)
    shape = read_manifest(set_dir).image_shape if set_dir.exists() else known_image_shape(options)
    learns = not isinstance(options, GenPseudolabelsOptions | TrainClassifierOptions)  # those only look at a backbone
    return Probe(arch, shape, options.batch_size, learns, options.threads)


def _seconds_per_image(probe: Probe) -> float | None:
    known = _read_cache()
    if (found := known.get(probe.key)) is None:
        try:
            seconds = timed_seconds_per_image(probe)
        except UserError:  # a package is missing, or the images are too small for the network: the step says so
            return None
        found = [seconds, time.time()]
        _write_cache({**known, probe.key: found})
    return found[0]


def timed_seconds_per_image(probe: Probe) -> float:
    """Time a network's steps now. Raises UserError if it cannot be made."""
    import torch  # a plan without unknown steps needs none
    from torch.nn.functional import cross_entropy

    from longtail.models.build import build_checked_model

    height, width, channels = probe.image_shape
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    if probe.threads is not None:
        torch.set_num_threads(probe.threads)
    try:
        network = build_checked_model(probe.arch, num_outputs=_NUM_CLASSES, image_shape=(channels, height, width))
        network = network.to(device).to(memory_format=torch.channels_last).train(probe.learns)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

        def step_seconds(batch_size: int) -> float:
            images = torch.randn(batch_size, channels, height, width, device=device)
            images = images.contiguous(memory_format=torch.channels_last)
            targets = torch.zeros(batch_size, dtype=torch.int64, device=device)
            started = time.perf_counter()
            with torch.set_grad_enabled(probe.learns):
                loss = cross_entropy(network(images), targets)
            if probe.learns:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss.item()  # waits for a GPU
            return time.perf_counter() - started

        step_seconds(_FIRST_BATCH)  # which chooses its algorithms
        most = int(SECONDS / NUM_STEPS / (step_seconds(_FIRST_BATCH) / _FIRST_BATCH))
        batch_size = min(probe.batch_size, max(2, most))
        times = [step_seconds(batch_size) for _ in range(NUM_STEPS)]
    finally:
        torch.set_num_threads(threads)
    return sorted(times)[NUM_STEPS // 2] / batch_size


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtail" / _CACHE_FILE


def _read_cache() -> dict[str, list[float]]:
    """Seconds for each image, and when they were measured, by Probe.key; without those of an earlier day."""
    with suppress(OSError, ValueError, RuntimeError, AttributeError, TypeError, IndexError, RecursionError):
        content = json.loads(_cache_file().read_text(encoding="utf-8"))
        return {
            key: [float(found[0]), float(found[1])]
            for key, found in content.items()
            if 0 <= time.time() - float(found[1]) < _KEPT_SECONDS and float(found[0]) > 0
        }
    return {}


def _write_cache(content: dict[str, list[float]]) -> None:
    with suppress(OSError, UserError, RuntimeError):  # without a cache it is timed again
        write_json_atomically(_cache_file(), content)
