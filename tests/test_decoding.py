"""Decoding of image files: the right pixels, or a refusal with the reason."""

import contextlib
import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from longtail.data.image_files import BAD_IMAGE, check_and_decode, check_image, decode

ORIENTATION = 0x0112


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


UPRIGHT = np.array([[10, 250, 10], [90, 10, 200], [250, 30, 30]], np.uint8)
"""Grey levels (3, 3), no two of whose eight turns are equal."""


def stored(orientation: int) -> np.ndarray:
    """The pixels that a camera stores beside each orientation, by the table of the EXIF standard.

    It says where row 0 and column 0 of what is stored are in the upright image: 6 is (right, top), for example.
    """
    return {
        1: UPRIGHT,  # (top, left)
        2: UPRIGHT[:, ::-1],  # (top, right)
        3: UPRIGHT[::-1, ::-1],  # (bottom, right)
        4: UPRIGHT[::-1],  # (bottom, left)
        5: UPRIGHT.T,  # (left, top)
        6: UPRIGHT.T[::-1],  # (right, top): row 0 is the right column, from the top
        7: UPRIGHT.T[::-1, ::-1],  # (right, bottom)
        8: UPRIGHT.T[:, ::-1],  # (left, bottom)
    }[orientation]


def grey_png(bits: int, value: int, transparent: int) -> bytes:
    """A PNG file of 8x8 pixels of one grey value, written by hand after its specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + int(f"{value:0{bits}b}" * 8, 2).to_bytes(bits, "big")
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)),
        chunk(b"tRNS", struct.pack(">H", transparent)),
    ]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IDAT", zlib.compress(row * 8)), chunk(b"IEND", b"")])


@pytest.mark.parametrize(("bits", "value", "grey"), [(1, 0, 0), (2, 2, 170), (4, 5, 85), (8, 99, 99)])
def test_a_transparent_value_of_few_bits_shows_white_and_others_do_not(bits: int, value: int, grey: int) -> None:
    assert (decode(grey_png(bits, value, value), 8) == 255).all()
    assert (decode(grey_png(bits, value, value ^ 1), 8) == grey).all()


def test_a_damaged_tiff_file_prints_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for compression in ("tiff_lzw", "tiff_deflate"):
        content = encoded(Image.fromarray(noise), "TIFF", compression=compression)
        with pytest.raises(BAD_IMAGE):
            check_image(content[:3000] + bytes(400) + content[3400:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_photograph_is_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    large = stored(orientation).repeat(16, 0).repeat(16, 1)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    content = encoded(Image.fromarray(large).convert("RGB"), kind, exif=exif, **options)
    decoded = decode(content, 48)[8::16, 8::16]
    assert (abs(decoded.astype(int) - UPRIGHT[..., None]) <= (6 if kind == "JPEG" else 0)).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("exif", [b"Exif\0\0MM", b"Exif\0\0" + bytes(40), b"Exif\0\0MM\0*\xff\xff\xff\xff", b"\0" * 9])
def test_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    content = encoded(Image.fromarray(UPRIGHT).convert("RGB"), "PNG", exif=exif)
    assert (decode(content, 3) == UPRIGHT[..., None]).all()


def test_16_bit_grey_is_scaled_to_8_bits() -> None:
    """round(v / 257): 128 / 257 is 0.498, 129 / 257 is 0.502, 4095 / 257 is 15.93."""
    values = {0: 0, 128: 0, 129: 1, 257: 1, 4095: 16, 32768: 128, 65407: 255, 65278: 254, 65535: 255}
    for kind in ("PNG", "TIFF"):
        for value, grey in values.items():
            content = encoded(Image.fromarray(np.full((2, 2), value, np.uint16)), kind)
            assert decode(content, 2).tolist() == [[[grey] * 3] * 2] * 2, (kind, value)
            check_image(content)


def tiff(bits: int, photometric: int, strip: bytes, *, width: int, height: int) -> bytes:
    """A little-endian grey TIFF file of one strip, written by hand after the TIFF 6.0 specification."""
    entries = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 3, height), (279, 4, len(strip))]
    directory = len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        directory += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little")
        directory += value.to_bytes(4, "little")
    return b"II*\0" + (8 + len(strip)).to_bytes(4, "little") + strip + directory + bytes(4)


def test_12_bit_grey_and_white_as_zero_are_understood() -> None:
    # Two pixels in three bytes, the upper bits first: 4095 and 2048.
    assert decode(tiff(12, 1, bytes([0xFF, 0xF8, 0x00]) * 2, width=2, height=2), 2)[0].tolist() == [
        [255] * 3,
        [128] * 3,
    ]
    sixteen = np.array([[0, 65535], [257, 65278]], "<u2").tobytes()
    assert decode(tiff(16, 0, sixteen, width=2, height=2), 2)[..., 0].tolist() == [[255, 0], [254, 1]]


def rgba(*colours: tuple[int, int, int, int]) -> Image.Image:
    return Image.fromarray(np.array([colours] * len(colours), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_show_white_and_half_transparent_ones_half(kind: str) -> None:
    """Alpha 51 is a fifth: 0.2 * 100 + 0.8 * 255 = 224."""
    content = encoded(
        rgba((200, 30, 60, 0), (100, 100, 100, 51)), kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert (abs(decode(content, 2)[0].astype(int) - [[255] * 3, [224] * 3]) <= 1).all()


def test_transparency_of_grey_and_palette_images_shows_white() -> None:
    grey = Image.fromarray(np.array([[9, 9], [200, 200]], np.uint8))
    assert decode(encoded(grey, "PNG", transparency=9), 2)[..., 0].tolist() == [[255, 255], [200, 200]]
    assert decode(encoded(grey.convert("LA"), "PNG"), 2)[..., 0].tolist() == [[9, 9], [200, 200]]
    palette = Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    for kind in ("PNG", "GIF"):
        content = encoded(palette, kind, transparency=0)
        assert decode(content, 2)[0].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize(
    ("picture", "kind", "colour"),
    [
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 20, 30)), "BMP", (10, 20, 30)),
        (Image.new("RGB", (4, 4), (255, 0, 0)), "GIF", (255, 0, 0)),
        (Image.new("YCbCr", (4, 4), (255, 128, 128)), "TIFF", (255, 255, 255)),
    ],
)
def test_other_colour_spaces_become_rgb(picture: Image.Image, kind: str, colour: tuple[int, int, int]) -> None:
    assert (abs(decode(encoded(picture, kind), 2).astype(int) - colour) <= 3).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_an_animation_or_of_several_pages_the_first_is_taken(kind: str) -> None:
    first, *rest = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    content = encoded(first, kind, save_all=True, append_images=rest, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(content)) as picture:
        assert getattr(picture, "n_frames", 1) == 3
    assert decode(content, 2).tolist() == [[[255, 0, 0]] * 2] * 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "floating-point pixels"),
        (encoded(Image.new("I", (2, 2), 70000), "TIFF"), "32-bit integer or signed pixels"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\nshowpage\n",
            "it is not a JPEG, PNG, WEBP, GIF, BMP or TIFF",
        ),
        (b"P6 1 1 255 abc", "it is not a JPEG"),
        (b"", "it is not a JPEG"),
    ],
    ids=["float", "integers", "EPS", "PPM", "empty"],
)
def test_what_has_no_sure_pixels_is_refused(content: bytes, reason: str) -> None:
    for use in (check_image, lambda content: decode(content, 2)):
        with pytest.raises(ValueError, match=reason):
            use(content)


def test_no_other_program_is_started_for_postscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: object, **options: object) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(subprocess, "check_call", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(ValueError, match="it is not a"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\nshowpage\n%%EOF\n", 2)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
def test_a_few_bytes_that_say_they_are_a_very_large_image_take_no_memory() -> None:
    large = encoded(Image.new("1", (5000, 5000), 1), "PNG")
    assert (decode(large, 8) == 255).all()
    small = encoded(Image.new("RGB", (2, 2)), "BMP")
    with pytest.raises(ValueError, match="it has 9000 x 9000 pixels in 70 bytes, as no photograph has"):
        check_image(small[:18] + struct.pack("<II", 9000, 9000) + small[26:])


def test_damaged_files_are_bad_images_and_nothing_else() -> None:
    """Random changes of files of every kind: whatever Pillow raises becomes BAD_IMAGE."""
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "x" * 20, zip=True)
    seeds = [encoded(picture, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
    seeds += [encoded(picture, kind) for kind in ("GIF", "BMP")]
    seeds += [encoded(picture, "PNG", pnginfo=text), encoded(picture.convert("RGBA"), "TIFF", compression="tiff_lzw")]
    for seed in seeds:
        for _ in range(60):
            content = bytearray(seed)
            for place in generator.integers(0, min(len(seed), 400), generator.integers(1, 6)):
                content[place] = generator.integers(0, 256)
            with contextlib.suppress(*BAD_IMAGE):
                assert decode(bytes(content), 4).shape == (4, 4, 3)


@pytest.mark.parametrize("size", [(500, 375), (120, 90), (1400, 900), (64, 64)])
@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_a_file_that_is_checked_and_decoded_at_once_has_the_same_pixels(size: tuple[int, int], suffix: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(colours).resize(size).save(content, suffix, quality=80)

    found = check_and_decode(content.getvalue(), (224, 32))

    for pixels, side in zip(found, (224, 32), strict=True):
        np.testing.assert_array_equal(pixels, decode(content.getvalue(), side))
