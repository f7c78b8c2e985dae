"""Networks of PyTorch Image Models (timm), by the name there: `-a timm:NAME`.

The network is made for the images of the prepared set; where timm builds it for one image size alone (vision
transformers), for theirs. Its inputs are normalised as timm's configuration of the name says, so that weights which
were trained elsewhere see what they know. Nothing is downloaded: weights come from a file (training/timm_weights.py).
"""

from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.models.heads import new_head
from longtail.models.network import Network

_RGB = 3


class TimmNetwork(Network):
    """A network of timm without its classifier (`backbone`), and a head of ours (`fc`)."""

    def __init__(self, backbone: nn.Module, *, num_classes: int, in_channels: int, head: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_channels = in_channels
        width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
        assert isinstance(width, int)
        self.fc = new_head(head, width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """As of every network; what timm calls features before the classifier."""
        return self.backbone(images)


def timm_network(arch: str, *, num_classes: int, image_shape: tuple[int, int, int], head: str) -> TimmNetwork:
    """A freshly initialised network.

    arch: timm:NAME; image_shape: (channels, height, width)

    Raises UserError if timm is not installed, has no such network, or cannot make it for such images.
    """
    library = import_timm(arch)
    channels, height, width = image_shape
    size: dict[str, Any] = {"img_size": (height, width)} if timm_settings(arch).fixed_input_size else {}
    try:
        backbone = library.create_model(_name(arch), pretrained=False, num_classes=0, in_chans=channels, **size)
    except Exception as error:  # each network has demands of its own
        shown = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"-a {arch}: timm cannot make it for images of {width}x{height}: {shown}") from error
    return TimmNetwork(backbone, num_classes=num_classes, in_channels=channels, head=head)


def timm_normalisation(arch: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for pixels in [0, 1], of the configuration of timm:NAME.

    For other than three channels, the average of the three.
    """
    settings = timm_settings(arch)
    mean, std = tuple(settings.mean), tuple(settings.std)
    if channels == _RGB:
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def timm_settings(arch: str) -> Any:
    """timm's configuration of the name: mean, std, input_size, classifier, ...

    Raises UserError if timm is not installed or has no such network.
    """
    library = import_timm(arch)
    name = _name(arch)
    if not library.is_model(name):
        near = get_close_matches(name, library.list_models(), n=1)
        hint = f"; did you mean timm:{near[0]}?" if near else ""
        raise UserError(f"-a {arch}: timm {library.__version__} has no such network{hint} (timm.list_models() has all)")
    try:
        settings = library.get_pretrained_cfg(name)
    except Exception as error:  # of a tag that is not there
        shown = " ".join(str(error).split())
        raise UserError(f"-a {arch}: {shown}") from error
    if settings is None:
        raise UserError(f"-a {arch}: timm has no configuration of that name, so that its normalisation is unknown")
    return settings


def timm_entry(arch: str) -> Callable[..., nn.Module]:
    """timm's function that makes the network."""
    import_timm(arch)
    from timm.models import model_entrypoint

    return model_entrypoint(_name(arch).partition(".")[0])


def import_timm(arch: str) -> ModuleType:
    """The library. Raises UserError if it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise UserError(f"-a {arch} needs timm: pip install 'longtail[timm]'") from error
    return timm


def _name(arch: str) -> str:
    return arch.partition(":")[2]
