"""Trees of small image files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, colour: tuple[int, int, int], *, size: tuple[int, int] = (20, 12)) -> Path:
    """A file of one colour, (width, height), in the format that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), colour, np.uint8)).save(path)
    return path


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour of its own for each of 4096 numbers."""
    return number % 16 * 16, number // 16 % 16 * 16, number // 256 * 16


def write_class(directory: Path, num_images: int, *, suffix: str = ".png", first_colour: int = 0) -> list[Path]:
    return [write_image(directory / f"{i:03d}{suffix}", colour_of(first_colour + i)) for i in range(num_images)]
