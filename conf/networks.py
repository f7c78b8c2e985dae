"""The names that -a takes: of built-in networks, each with its factory, and of timm's.

A factory is `factory(*, num_classes, in_channels, head="linear") -> network` (models/network.py). To add a network,
write its module in models/ and name its factory in one of the two groups here; the help of -a lists them.
"""

import re

FOR_SMALL_IMAGES = {
    "resnet20": "longtail.models.resnet:resnet20",
    "resnet20_s2": "longtail.models.resnet:resnet20_s2",
    "resnet32": "longtail.models.resnet:resnet32",
    "resnet44": "longtail.models.resnet:resnet44",
    "resnet56": "longtail.models.resnet:resnet56",
    "resnet110": "longtail.models.resnet:resnet110",
    "wrn28_2": "longtail.models.wide_resnet:wrn28_2",
}
"""Networks whose first layers keep the size of images of 32 pixels, or halve it once."""
FOR_LARGE_IMAGES = {
    "resnet10": "longtail.models.large_resnet:resnet10",
    "resnet18": "longtail.models.large_resnet:resnet18",
    "resnet34": "longtail.models.large_resnet:resnet34",
    "resnet50": "longtail.models.large_resnet:resnet50",
    "resnet101": "longtail.models.large_resnet:resnet101",
    "resnext50_32x4d": "longtail.models.large_resnet:resnext50_32x4d",
}
"""Networks whose first layers reduce images of 224 pixels to 56."""
NETWORKS = {**FOR_SMALL_IMAGES, **FOR_LARGE_IMAGES}

TIMM_NAME = re.compile(r"timm:\w+(\.\w+)?")
"""timm:NAME, a network of PyTorch Image Models by the name there, as timm:vit_tiny_patch16_224.

A tag after a point names the pre-trained weights whose normalisation and image size are meant.
"""


def is_timm_name(name: str) -> bool:
    """Whether the name is that of a network of timm (models/timm_network.py)."""
    return TIMM_NAME.fullmatch(name) is not None


def is_known_network(name: str) -> bool:
    """Whether the name alone says which network is meant, also where a checkpoint records it."""
    return name in NETWORKS or is_timm_name(name)
