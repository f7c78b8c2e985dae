"""Options of the pipeline of all steps."""

from longtail.conf.options.base import option
from longtail.conf.options.semi import PseudoLabelOptions
from longtail.conf.options.training import SupervisedOptions


class PipelineOptions(PseudoLabelOptions, SupervisedOptions):
    """pipeline: prepare, stats, train, gen_pseudolabels, train_semi and a comparison, with a live per-class table."""

    examples = (
        ("", "all steps on the digits of scikit-learn, in about a minute on a CPU"),
        ("--ssp --loss_type LDAM --train_rule DRW", "with self-supervised pre-training and LDAM-DRW"),
        ("--dataset cifar10 --world_size 2", "on CIFAR-10 with two ranks"),
    )

    imb_factor_unlabel: float | None = option(
        1.0,
        "smallest over largest unlabeled class, 1/rho_U; above 1 the tail is reversed",
        group="Unlabeled images",
        gt=0,
    )
    ssp: bool = option(False, "pre-train by rotation prediction first", group="Method")
    semi_epochs: int | None = option(None, "epochs of train_semi; default: --epochs", group="Optimisation", gt=0)
    semi_batch_size: int | None = option(
        None, "images per step of train_semi; default: twice --batch_size", group="Optimisation", gt=0
    )
