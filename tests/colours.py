"""How different colours look, also to colour-blind readers."""

from itertools import combinations

import numpy as np

_VISIONS = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear RGB as each of them sees it (Machado et al. 2009, severity 1)."""
_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
_WHITE = (0.95047, 1.0, 1.08883)


def smallest_difference(colours: list[str]) -> float:
    """The smallest CIEDE2000 distance of two of the colours #rrggbb, over all kinds of vision."""
    return min(
        ciede2000(_lab(one, vision), _lab(other, vision))
        for one, other in combinations(colours, 2)
        for vision in _VISIONS
    )


def _lab(colour: str, vision: str) -> np.ndarray:
    channels = np.array([*bytes.fromhex(colour[1:])]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(_VISIONS[vision]) @ linear, 0, 1)
    x, y, z = (np.cbrt(v) if v > (6 / 29) ** 3 else v / (3 * (6 / 29) ** 2) + 4 / 29 for v in _XYZ @ seen / _WHITE)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two colours in CIELAB (Sharma et al. 2005)."""
    chroma = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    stretch = 1 + 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))
    (light1, a1, b1), (light2, a2, b2) = one * [1, stretch, 1], other * [1, stretch, 1]
    chroma1, chroma2 = np.hypot(a1, b1), np.hypot(a2, b2)
    hue1, hue2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = (hue2 - hue1 + 180) % 360 - 180
    change = 2 * np.sqrt(chroma1 * chroma2) * np.sin(np.radians(turn / 2))
    light, chroma, hue = (light1 + light2) / 2, (chroma1 + chroma2) / 2, (hue1 + turn / 2) % 360
    parts = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    weight = 1 + sum(factor * np.cos(np.radians(times * hue + shift)) for factor, times, shift in parts)
    by_light = (light2 - light1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    by_chroma, by_hue = (chroma2 - chroma1) / (1 + 0.045 * chroma), change / (1 + 0.015 * chroma * weight)
    twist = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    twist *= np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return float(np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + twist * by_chroma * by_hue))
