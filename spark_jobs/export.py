"""A classifier as a file for programs without Longtail, or its model card.

    longtail export --resume CKPT --to FILE
    spark-submit spark_jobs/export.py --resume CKPT --to FILE

The ending of FILE says what is written: .pt2 (torch.export) and .onnx take raw pixels, uint8 (N, height, width,
channels), and give logits; class names are in their metadata. .safetensors has the weights, and a JSON file beside it
the rest. .md is a model card from result.json beside the checkpoint. Starts no Spark.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.export import MODEL_CARD_ENDING, ExportOptions
from longtail.spark_jobs.cli import run_job


def main(argv: Sequence[str]) -> None:
    options = parse_options(ExportOptions, argv, prog="longtail export")
    check_can_be_written(options.to.parent, option="--to")
    # With torch, which takes seconds to import.
    from longtail.training.export.files import export_classifier
    from longtail.training.export.model_card import write_model_card

    if options.to.suffix == MODEL_CARD_ENDING:
        write_model_card(options.resume, options.to)
        print(f"model card: {options.to}")
        return
    for file in export_classifier(options.resume, options.to, arch=options.arch):
        print(f"exported: {file}")


if __name__ == "__main__":
    run_job("export", main, sys.argv[1:])
