"""What one training costs, before it runs (`longtail train --dry_run`): starts no Spark, and writes no run."""

from longtail.conf.next_command import next_command
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.sources.unlabeled import check_unlabeled_location
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.studies.cost import images_of_step, kind_of, optimizer_steps_of_step
from longtail.spark_jobs.studies.planned import PlannedStep
from longtail.spark_jobs.studies.probe import NUM_STEPS, probed_seconds_per_image


def print_cost(options: TrainOptions) -> None:
    """Print the images and steps of a training in all its epochs, and the time that a probe of its network suggests.

    Downloads nothing. Raises UserError if the user's own images cannot be found.
    """
    if not prepared_set_dir(options).exists():
        check_unlabeled_location(options)
    step = PlannedStep(job=options.phase, values={}, inputs={}, planned_options=options)
    num_images, num_steps = images_of_step(step), optimizer_steps_of_step(step)
    if num_images is None:
        command = next_command("prepare", PrepareOptions, options)
        print(f"the sizes of this set are not known before it is prepared: run `{command}`, then this command again")
        return
    name = options.run_name({}).rpartition("-")[0]
    print(f"{name}: {num_images:,} images in {num_steps:,} steps, {options.epochs} epochs")
    rate = probed_seconds_per_image([step]).get(kind_of(step))
    if rate is None:
        print(f"how long it takes is not known: -a {options.arch} cannot be probed here, or is code of your own")
        return
    print(
        f"about {_in_words(rate * num_images)} in one process on this machine, by a probe of {NUM_STEPS} steps on "
        "random images; without the start of Spark, preparing the set, and evaluation"
    )


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
