"""Contrastive pre-training: recognise the other view of the same image among views of other images.

- MoCo v2 (He et al. 2020, Chen et al. 2020b): the other views are a queue of keys from a slowly following network;
- SimCLR (Chen et al. 2020a): they are those of all other images in the batch, of all ranks.

A model maps two views (2, n, C, H, W) to (m, 4): the logit of the same image, the logarithm of the summed
exponentials of all others, the rank of the same image among all candidates, 1 for the most similar one, and their
number. The cross-entropy of the first two for target 0 is InfoNCE, -log(e^s+ / (e^s+ + sum e^s-)). Only ``network`` is
of use afterwards. Batch norm sees each rank's own part of the batch, keys are not shuffled over ranks.
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.pretraining import ContrastiveOptions, PretrainMocoOptions, PretrainSimclrOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.manifest import Manifest
from longtail.models.network import Network
from longtail.training.augmentation import Choices
from longtail.training.distributed import Rank
from longtail.training.images import image_batches
from longtail.training.method import TrainingMethod
from longtail.training.objective import Objective, Task
from longtail.training.run_directory import RunPaths
from longtail.training.step import Step
from longtail.training.training_data import TrainingData, self_supervised_data
from longtail.training.views import ViewChoices, draw_view, view

VIEW_NAMES = ["same image", "another image"]
_NUM_CHECKED = 128
"""Images of which the network's outputs are checked after an epoch."""


@dataclass(frozen=True)
class TwoViews(Choices):
    """Choices of an image's two views."""

    first: ViewChoices
    second: ViewChoices


@dataclass(frozen=True, kw_only=True)
class ContrastiveObjective(Objective):
    """Two strongly augmented views per image; target 0 for each anchor: the other view is of the same image.

    ranks: (3,) float64 sums over an epoch's anchors: ranks of the same image, numbers of candidates, anchors
    """

    anchors_per_image: int
    ranks: Tensor

    def draw(self, data: TrainingData, num_samples: int, generator: torch.Generator) -> Choices:
        _, height, width = data.train.image_shape
        draw_one = partial(
            draw_view, num_samples, height=height, width=width, flip=data.horizontal_flip, generator=generator
        )
        return TwoViews(draw_one(), draw_one())

    def training_inputs(
        self, data: TrainingData, images: Tensor, targets: Tensor, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        """Views (2, n, C, H, W) and targets (n * anchors_per_image,)."""
        assert isinstance(choices, TwoViews)
        images = images.float() / 255  # (n, C, H, W)
        views = [data.normalisation.apply_to_unit(view(images, drawn)) for drawn in (choices.first, choices.second)]
        num_anchors = self.anchors_per_image * len(images)
        return torch.stack(views), torch.zeros(num_anchors, dtype=torch.int64, device=images.device)

    def losses(self, outputs: object, step: Step) -> tuple[Tensor, Tensor]:
        assert isinstance(outputs, Tensor)
        logits, ranks = outputs[:, :2], outputs[:, 2:].detach().double()  # (m, 2) each
        self.ranks[:2] += ranks.sum(dim=0)
        self.ranks[2] += len(ranks)
        return super().losses(logits, step)

    def epoch_sums(self) -> list[Tensor]:
        return [*super().epoch_sums(), self.ranks]

    def epoch_scores(self) -> dict[str, float]:
        rank_sum, candidates, anchors = self.ranks.tolist()
        return {"positive_rank": rank_sum / anchors, "num_candidates": candidates / anchors}

    @torch.inference_mode()
    def check_learned(self, model: nn.Module, data: TrainingData, *, when: str, remedy: str) -> None:
        # The last step's weights may be numbers so large that the network's outputs are none.
        assert isinstance(model, MoCo | SimCLR)
        indices = torch.arange(min(len(data.train), _NUM_CHECKED))
        (images,) = image_batches(data.train.images, [indices], data.train.labels.device)
        if not model.network.eval()(data.normalisation.apply(images)).isfinite().all():
            raise UserError(f"the network's outputs became NaN or infinite {when}: {remedy}")


def contrastive_task(
    options: ContrastiveOptions, set_dir: Location, manifest: Manifest, device: torch.device, *, anchors_per_image: int
) -> Task:
    """Contrast the labelled part's images, without their labels. There is nothing to evaluate."""
    data = self_supervised_data(
        options,
        set_dir,
        manifest,
        device,
        class_names=VIEW_NAMES,
        class_counts=[manifest.num_images(TRAIN), 0],
        is_evaluated=False,
    )
    objective = ContrastiveObjective(
        head="projection",
        num_outputs=options.projection_dim,
        anchors_per_image=anchors_per_image,
        ranks=torch.zeros(3, dtype=torch.float64, device=device),
    )
    return Task(data, objective)


class MoCo(nn.Module):
    """One anchor per image: its first view, compared with the key of its second view and with the queue."""

    queue: Tensor
    next_position: Tensor

    def __init__(
        self,
        network: nn.Module,
        rank: Rank,
        *,
        dimension: int,
        queue_size: int,
        key_momentum: float,
        temperature: float,
    ) -> None:
        """network: images (n, C, H, W) to projections (n, dimension), randomly initialised alike on all ranks."""
        super().__init__()
        self.network = network
        self.key_network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(dimension, queue_size), dim=0).to(rank.device))
        self.register_buffer("next_position", torch.zeros((), dtype=torch.int64, device=rank.device))
        self._rank, self._key_momentum, self._temperature = rank, key_momentum, temperature

    def forward(self, views: Tensor) -> Tensor:
        """(2, n, C, H, W) to (n, 4); each call moves the key network and the queue on."""
        queries = F.normalize(self.network(views[0]), dim=1)  # (n, dimension)
        with torch.no_grad():
            self._follow()
            keys = F.normalize(self.key_network(views[1]), dim=1)  # (n, dimension)
        same = (queries * keys).sum(dim=1) / self._temperature  # (n,)
        others = queries @ self.queue.clone() / self._temperature  # (n, queue_size)
        self._enqueue(gathered(keys, self._rank)[0])
        return contrast(same, others, num_others=self.queue.shape[1])

    def _follow(self) -> None:
        for key, query in zip(self.key_network.parameters(), self.network.parameters(), strict=True):
            key.lerp_(query.detach(), 1 - self._key_momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        size = self.queue.shape[1]
        keys = keys[-size:]
        positions = (self.next_position + torch.arange(len(keys), device=keys.device)) % size
        self.queue[:, positions] = keys.T
        self.next_position.copy_((self.next_position + len(keys)) % size)


class SimCLR(nn.Module):
    """Two anchors per image: each of its views, compared with the other one and with all views of other images."""

    def __init__(self, network: nn.Module, rank: Rank, *, temperature: float) -> None:
        super().__init__()
        self.network = network
        self._rank, self._temperature = rank, temperature

    def forward(self, views: Tensor) -> Tensor:
        """(2, n, C, H, W) to (2 n, 4), the two anchors of an image one after the other."""
        num_images = views.shape[1]
        projections = F.normalize(self.network(views.flatten(0, 1)), dim=1)
        anchors = projections.unflatten(0, (2, num_images)).transpose(0, 1)  # (n, 2, dimension)
        candidates, first = gathered(anchors, self._rank)  # (N, 2, dimension)
        similarities = torch.einsum("avd,bwd->avbw", anchors, candidates) / self._temperature  # (n, 2, N, 2)
        own = torch.arange(num_images, device=views.device)
        with_itself = similarities[own, :, first + own]  # (n, 2, 2)
        same = torch.stack([with_itself[:, 0, 1], with_itself[:, 1, 0]], dim=1)  # (n, 2)
        is_own = torch.arange(len(candidates), device=views.device) == (first + own)[:, None]  # (n, N)
        others = similarities.masked_fill(is_own[:, None, :, None], -torch.inf).flatten(2)  # (n, 2, 2 N)
        num_others = 2 * (len(candidates) - 1)
        return contrast(same.flatten(), others.flatten(0, 1), num_others=num_others)


def contrast(same: Tensor, others: Tensor, *, num_others: int) -> Tensor:
    """(m, 4) outputs of a model (see above) for m anchors.

    same: (m,) logits of the same image; others: (m, K) those of other images, of which num_others are finite
    """
    with torch.no_grad():
        ranks = 1 + (others > same[:, None]).sum(dim=1)  # (m,)
        counts = torch.full_like(ranks, 1 + num_others)
    parts = [same, others.logsumexp(dim=1), ranks, counts]
    return torch.stack([part.float() if part.dtype != torch.float64 else part for part in parts], dim=1)


def gathered(values: Tensor, rank: Rank) -> tuple[Tensor, int]:
    """The rows of all ranks in their order, (N, ...), with gradients to this rank's rows; and where these begin."""
    if rank.world_size == 1:
        return values, 0
    sizes = torch.zeros(rank.world_size, dtype=torch.int64, device=values.device)
    sizes[rank.rank] = len(values)
    dist.all_reduce(sizes)
    first, total = int(sizes[: rank.rank].sum()), int(sizes.sum())
    return _Gathered.apply(values, first, total), first


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, first: int, total: int) -> Tensor:
        ctx.local = slice(first, first + len(values))
        everything = values.new_zeros(total, *values.shape[1:])
        everything[ctx.local] = values
        dist.all_reduce(everything)
        return everything

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        # Every rank's loss depends on these rows.
        (gradient,) = grad_outputs
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        return summed[ctx.local], None, None


class MocoMethod(TrainingMethod[PretrainMocoOptions]):
    """The method of the job pretrain_moco."""

    def task(self, options: PretrainMocoOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        return contrastive_task(options, paths.set_dir, manifest, rank.device, anchors_per_image=1)

    def trained_module(
        self, network: Network, options: PretrainMocoOptions, paths: RunPaths, task: Task, rank: Rank
    ) -> tuple[Task, nn.Module]:
        model = MoCo(
            network,
            rank,
            dimension=options.projection_dim,
            # With a queue as long as an epoch, half of the images would find their own older key in it; with a
            # quarter, one in 32.
            queue_size=min(options.queue_size, max(1, len(task.data.train) // 4)),
            key_momentum=options.key_momentum,
            temperature=options.temperature,
        )
        return task, model


class SimclrMethod(TrainingMethod[PretrainSimclrOptions]):
    """The method of the job pretrain_simclr."""

    def task(self, options: PretrainSimclrOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        return contrastive_task(options, paths.set_dir, manifest, rank.device, anchors_per_image=2)

    def trained_module(
        self, network: Network, options: PretrainSimclrOptions, paths: RunPaths, task: Task, rank: Rank
    ) -> tuple[Task, nn.Module]:
        return task, SimCLR(network, rank, temperature=options.temperature)
