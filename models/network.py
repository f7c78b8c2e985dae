"""What longtail needs of a network.

A factory, given by name with -a (conf/networks.py, or `package.module:factory` of your own), makes it:

    def factory(*, num_classes: int, in_channels: int) -> nn.Module

The module has

- `features(images)`: normalised images (N, in_channels, H, W) to features (N, D);
- `fc`: the classifier, an `nn.Linear(D, num_classes)`;
- called with images, it returns `fc(features(images))`, (N, num_classes).

longtail replaces `fc` where a loss or method needs another head (models/heads.py). A factory that also takes
`head: str` makes that head itself, as the built-in ones do.
"""

from torch import Tensor, nn


class Network(nn.Module):
    """A backbone and its head. Networks of other packages need not derive from it, only behave alike."""

    fc: nn.Module

    def features(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised images to (N, D) features."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised images to (N, num_classes) outputs of the head."""
        return self.fc(self.features(x))
