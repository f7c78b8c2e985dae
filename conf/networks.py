"""The built-in networks: the factory of each by the name that -a takes.

A factory is `factory(*, num_classes, in_channels, head="linear") -> network` (models/network.py). To add a network,
write its module in models/ and name its factory here.
"""

NETWORKS = {
    "resnet20": "longtail.models.resnet:resnet20",
    "resnet32": "longtail.models.resnet:resnet32",
    "resnet44": "longtail.models.resnet:resnet44",
    "resnet56": "longtail.models.resnet:resnet56",
    "resnet110": "longtail.models.resnet:resnet110",
    "wrn28_2": "longtail.models.wide_resnet:wrn28_2",
    "resnet10": "longtail.models.large_resnet:resnet10",
    "resnet18": "longtail.models.large_resnet:resnet18",
    "resnet34": "longtail.models.large_resnet:resnet34",
    "resnet50": "longtail.models.large_resnet:resnet50",
    "resnet101": "longtail.models.large_resnet:resnet101",
    "resnext50_32x4d": "longtail.models.large_resnet:resnext50_32x4d",
}
