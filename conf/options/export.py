"""The job that writes a trained classifier for programs without Longtail."""

from pathlib import Path

from pydantic import FilePath, field_validator

from longtail.conf.options.base import JobOptions, option
from longtail.conf.options.classifier import own_network
from longtail.conf.options.training import NetworkName

MODEL_CARD_ENDING = ".md"
ENDINGS = (".pt2", ".onnx", ".safetensors", MODEL_CARD_ENDING)


class ExportOptions(JobOptions):
    """export: a classifier as a file for programs without Longtail, or its model card."""

    examples = (
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --to digits.pt2",
            "PyTorch's exported program: raw pixels in, logits out",
        ),
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --to digits.md",
            "a model card with scores, intervals and limits",
        ),
    )

    resume: FilePath = option(..., "checkpoint of the classifier", group="Input")
    to: Path = option(
        ...,
        "file to write; its ending says what: .pt2 (torch.export), .onnx (pip install 'longtail[onnx]'), .safetensors "
        "(weights, with a JSON file beside them) or .md (model card)",
        group="Output",
    )
    arch: NetworkName | None = own_network()

    @field_validator("to")
    @classmethod
    def _ending_is_known(cls, value: Path) -> Path:
        if value.suffix not in ENDINGS:
            raise ValueError(f"a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} was expected")
        if value.is_dir():
            raise ValueError("it is a directory, a file was expected")
        return value.absolute()
