"""The module that FixMatch trains: a network, the average of its weights, and the method that makes pseudo-labels.

The averaged weights (Tarvainen & Valpola 2017) are evaluated, saved and used for labelling; the trained weights and the
method's state are kept in the checkpoint besides.
"""

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from longtail.models.network import Network
from longtail.training.semi.fixmatch_base import FixMatch, ViewOutputs
from longtail.training.step import Step


class WeightAverage:
    """Moving average of the weights: w' <- d w' + (1 - d) w, d = min(decay, (1 + t)/(10 + t)) in step t from 1.

    With a constant d a short training would never forget its random initial weights.
    """

    def __init__(self, average: nn.Module, trained: nn.Module, decay: float) -> None:
        self._average: list[Tensor] = list(average.parameters())
        self._trained = list(trained.parameters())
        self._decay = decay

    @torch.no_grad()
    def update(self, step: Step) -> None:
        """Move the average towards the weights after a step."""
        number = step.number + 1
        decay = min(self._decay, (1 + number) / (10 + number))
        get_ema_multi_avg_fn(decay)(self._average, [parameter.detach() for parameter in self._trained], None)


class SemiModule(nn.Module):
    """In training mode, images (V n, C, H, W) to ViewOutputs of the trained network; else to logits of the average.

    network: the averaged network; trained: the other one, or None if --ema_decay 0 averages nothing
    method: the method of --balancing, set after construction, as it may use the averaged network
    """

    method: FixMatch

    def __init__(self, network: Network, *, ema_decay: float) -> None:
        super().__init__()
        self.network = network
        self.trained = None
        self._average = None
        if ema_decay:
            self.trained = copy.deepcopy(network)
            network.requires_grad_(False)
            _share_buffers(network, self.trained)
            self._average = WeightAverage(network, self.trained, ema_decay)

    def train(self, mode: bool = True) -> "SemiModule":
        super().train(mode)
        if self.trained is not None:
            self.network.eval()
        return self

    def forward(
        self, images: Tensor, labelled: Tensor | None = None, unlabeled: Tensor | None = None
    ) -> ViewOutputs | Tensor:
        """images: all weak views, then all strong ones, once or more; labelled, unlabeled: their rows among the n

        Strong views of labelled images are not learned from: they skip the network, and their outputs are 0.
        """
        if not self.training:
            return self.network(images)
        assert labelled is not None and unlabeled is not None
        num_images = len(labelled) + len(unlabeled)
        strong = [start + unlabeled for start in range(num_images, len(images), num_images)]
        rows = torch.cat([torch.arange(num_images, device=images.device), *strong])

        def by_view(values: Tensor) -> Tensor:
            """(V, n, K) values (k, K) at their rows of all views, and 0 elsewhere."""
            everywhere = values.new_zeros(len(images), values.shape[1]).index_copy(0, rows, values)
            return everywhere.view(-1, num_images, values.shape[1])

        return ViewOutputs(*(by_view(part) for part in self._outputs(images[rows])))

    def _outputs(self, images: Tensor) -> ViewOutputs:
        """Outputs (N, ...) of the trained network, not yet by view."""
        trained = self.network if self.trained is None else self.trained
        features = trained.features(images.contiguous(memory_format=torch.channels_last))  # (N, D)
        logits = trained.fc(features)  # (N, C)
        return ViewOutputs(features, logits, self.method.backbone_logits(features, logits))

    def update_average(self, step: Step) -> None:
        """Move the averaged weights, if there are any, towards the weights after a step."""
        if self._average:
            self._average.update(step)


def _share_buffers(network: nn.Module, trained: nn.Module) -> None:
    """Let the averaged network use the trained one's batch-norm statistics themselves: they are averages already."""
    for ours, theirs in zip(network.modules(), trained.modules(), strict=True):
        for name, buffer in theirs.named_buffers(recurse=False):
            setattr(ours, name, buffer)
