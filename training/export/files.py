"""Writes a classifier as a file that programs without Longtail read, by the file's ending.

.pt2 is PyTorch's exported program, .onnx is ONNX; both take raw pixels and have the class names in their metadata.
.safetensors has the weights alone, with a JSON file beside it that says the rest. The exported networks are read
back and compared with the original before they get their names.
"""

import importlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, read_regular_text, write_atomically, write_json_atomically
from longtail.conf.base.json_text import finite_json
from longtail.models.network import Network
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.export.classifier import INPUT, OUTPUT, RawPixelClassifier, description
from longtail.training.inference import infer_with, read_classifier

METADATA = "longtail.json"
"""Name of the description in an exported program, and its key in an ONNX file."""
TOLERANCE = 1e-5
"""Largest difference of a logit, relative to the largest logit (at least 1)."""
TRIED_IMAGES = 5
SAFETENSORS_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def export_classifier(checkpoint: Path, to: Path, *, arch: str | None = None) -> list[Path]:
    """Write the classifier; return the files.

    Raises UserError if the checkpoint cannot be read, or if a package is missing; RuntimeError if the exported network
    computes something else.
    """
    network, metadata = read_classifier(checkpoint, arch)
    about = description(metadata, version=content_hash(checkpoint))
    # Not channels-last, a layout that exported programs would require of their inputs.
    network = network.to(memory_format=torch.contiguous_format)
    WRITERS[to.suffix](network, metadata, about, to)
    return [to, _card_file(to)] if to.suffix == ".safetensors" else [to]


def _card_file(to: Path) -> Path:
    return to.with_suffix(".json")


def _write_program(network: Network, metadata: CheckpointMetadata, about: dict[str, Any], to: Path) -> None:
    program = _exported(network, metadata)

    def write(temporary: Path) -> None:
        torch.export.save(program, str(temporary), extra_files={METADATA: json.dumps(about)})
        _check(network, metadata, lambda images: torch.export.load(str(temporary)).module()(images))

    _write_with_ending(to, write)


def _write_onnx(network: Network, metadata: CheckpointMetadata, about: dict[str, Any], to: Path) -> None:
    onnx, onnxruntime = _onnx_packages()

    def write(temporary: Path) -> None:
        model = torch.onnx.export(
            _exported(network, metadata), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
        assert model is not None, "dynamo=True returns the model"
        proto = model.model_proto
        onnx.helper.set_model_props(
            proto, {METADATA: json.dumps(about), "class_names": json.dumps(metadata.class_names)}
        )
        temporary.write_bytes(proto.SerializeToString())
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        _check(network, metadata, lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0]))

    _write_with_ending(to, write)


def _onnx_packages() -> tuple[Any, Any]:
    """The modules onnx and onnxruntime, which are an optional extra. Raises UserError if one is missing."""
    try:
        # onnxscript is what PyTorch needs.
        onnx, onnxruntime, _ = map(importlib.import_module, ("onnx", "onnxruntime", "onnxscript"))
    except ImportError:
        raise UserError("ONNX files need packages of their own: pip install 'longtail[onnx]'") from None
    return onnx, onnxruntime


def _write_safetensors(network: Network, metadata: CheckpointMetadata, about: dict[str, Any], to: Path) -> None:
    # First: whenever the process is killed, no file stands beside weights that it does not describe.
    _remove_old_description(_card_file(to))
    write_atomically(to, lambda temporary: temporary.write_bytes(safetensors(network.state_dict())))
    write_json_atomically(_card_file(to), about)


def _remove_old_description(file: Path) -> None:
    """Raises UserError if the file is there and describes no model: a run's result.json, for example."""
    try:
        is_description = "model_version" in finite_json(read_regular_text(file))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, RecursionError):
        is_description = False
    if not is_description:
        raise UserError(f"{file} already exists and does not describe an exported model: choose another --to")
    file.unlink()


def safetensors(tensors: dict[str, Tensor]) -> bytes:
    """Tensors in the format of safetensors: the length of a JSON header, the header, and the numbers, little-endian."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, first = [], 0
    for name, tensor in tensors.items():
        if tensor.dtype not in SAFETENSORS_TYPES:
            raise UserError(f"{name} is of {tensor.dtype}, which safetensors files do not have: export to .pt2")
        content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        offsets = [first, first + len(content)]
        header[name] = {"dtype": SAFETENSORS_TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        parts.append(content)
        first += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def _exported(network: Network, metadata: CheckpointMetadata) -> "torch.export.ExportedProgram":
    images = torch.zeros((2, *metadata.image_shape), dtype=torch.uint8)
    with torch.inference_mode(False), torch.no_grad():
        return torch.export.export(
            RawPixelClassifier(network, metadata).eval(), (images,), dynamic_shapes=({0: torch.export.Dim("N")},)
        )


def _check(network: Network, metadata: CheckpointMetadata, run: Callable[[Tensor], Tensor]) -> None:
    """Raise RuntimeError unless ``run`` gives the network's own logits, for one image and for several."""
    generator = np.random.default_rng(0)
    for num_images in (1, TRIED_IMAGES):
        images = generator.integers(0, 256, (num_images, *metadata.image_shape), dtype=np.uint8)
        with torch.no_grad():
            found = run(torch.from_numpy(images))
        expected = infer_with(network, metadata, images, path=Path(metadata.run), batch_size=num_images).logits
        difference = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        if found.shape != expected.shape or not difference <= TOLERANCE:
            raise RuntimeError(f"the exported network's logits differ by {difference:.2g} from its own")


def _write_with_ending(to: Path, write: Callable[[Path], None]) -> None:
    """As write_atomically, for libraries that decide by the suffix of a name."""

    def through_ending(temporary: Path) -> None:
        with_ending = temporary.with_name(temporary.name + to.suffix)
        try:
            write(with_ending)
            with_ending.replace(temporary)
        finally:
            with_ending.unlink(missing_ok=True)

    write_atomically(to, through_ending)


WRITERS: dict[str, Callable[[Network, CheckpointMetadata, dict[str, Any], Path], None]] = {
    ".pt2": _write_program,
    ".onnx": _write_onnx,
    ".safetensors": _write_safetensors,
}
"""By the file's ending."""
