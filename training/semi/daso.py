"""DASO: pseudo-labels blended from the classifier's predictions and similarity to prototypes (Oh et al. 2022).

- Prototypes (section 3.2): the mean features of the latest labelled images of each class, by the averaged network;
  q^ = softmax(cosine(z, prototypes)/T_proto) is the semantic prediction.
- Blending (eq. 3): p' = (1 - v_k) p^ + v_k q^, with k the most probable class of the classifier's p^, and
  v_k = m_k^(1/T_dist) / max_j m_j^(1/T_dist); m are the shares of the latest pseudo-labels (eq. 4): the prototypes
  count more for classes that are predicted too often.
- Semantic alignment (eq. 5): cross-entropy of q^ of the strong view to that of the weak one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.training.losses import cross_entropy
from longtail.training.semi.fixmatch_base import FixMatch, TrainingContext, ViewOutputs
from longtail.training.step import Step


class SemanticPseudoLabels(FixMatch):
    """FixMatch's pseudo-labels during --daso_warmup, while prototypes and shares are collected; then blended ones."""

    queue: Tensor
    num_queued: Tensor
    shares: Tensor
    counted: Tensor

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        classes, device = context.num_classes, context.rank.device
        queue = torch.zeros(classes, context.options.daso_queue, context.num_features, device=device)
        self.register_buffer("queue", queue)
        self.register_buffer("num_queued", torch.zeros(classes, dtype=torch.int64, device=device))
        self.register_buffer("shares", torch.full((classes,), 1 / classes, device=device))
        self.register_buffer("counted", torch.zeros(classes, device=device))

    def probabilities(self, weak: ViewOutputs, step: Step) -> Tensor:
        options, rank = self.context.options, self.context.rank
        self._enqueue(step)
        # There are shares when the warm-up ends, however short it is.
        if step.number and step.number % min(options.daso_period, self._warm_up_steps(step)) == 0:
            self.shares.copy_(self.counted / self.counted.sum())
            self.counted.zero_()
        blend = super().probabilities(weak, step)  # (n, C)
        if not self._is_warm_up(step):
            semantic = similarities(weak.features, self.prototypes(), temperature=options.daso_t_proto).softmax(dim=1)
            blend = blended(blend, semantic, self.shares, temperature=options.daso_t_dist)
        # Every pseudo-label counts for its class, whatever its confidence.
        predicted = step.unlabeled.gather(blend.argmax(dim=1), rank)  # (k,)
        self.counted.index_add_(0, predicted, torch.ones_like(predicted, dtype=torch.float32))
        return blend

    def further_losses(self, views: ViewOutputs, step: Step) -> Tensor | None:
        if self._is_warm_up(step):
            return None
        options, prototypes = self.context.options, self.prototypes()
        weak = similarities(views.weak().features, prototypes, temperature=options.daso_t_proto).softmax(dim=1)
        strong = similarities(views.features[1], prototypes, temperature=options.daso_t_proto)
        losses = options.daso_alignment * cross_entropy(strong, weak)  # (n,)
        return losses.index_fill(0, step.labelled.local, 0)

    def prototypes(self) -> Tensor:
        """(C, D) mean of each class's queue; zeros while it is empty."""
        queued = self.num_queued.clamp(min=1, max=self.queue.shape[1])  # (C,)
        return self.queue.sum(dim=1) / queued[:, None]

    def _enqueue(self, step: Step) -> None:
        """Replace the oldest features of each class by those of the step's labelled images, of all ranks."""
        rank = self.context.rank
        images = step.inputs[step.labelled.local]  # the first n inputs are the weak views
        average, was_training = self.context.average, self.context.average.training
        average.eval()
        local = average.features(images).float()  # (m, D)
        average.train(was_training)
        features = step.inputs.new_zeros(len(step.targets), local.shape[1]).index_copy(0, step.labelled.local, local)
        features = step.labelled.gather(features, rank)  # (k, D)
        classes = step.labelled.gather(step.targets, rank)  # (k,)
        enqueue(self.queue, self.num_queued, features, classes)

    def _warm_up_steps(self, step: Step) -> int:
        return max(1, round(self.context.options.daso_warmup * step.num_steps))

    def _is_warm_up(self, step: Step) -> bool:
        return step.number < self._warm_up_steps(step)


def enqueue(queue: Tensor, num_queued: Tensor, features: Tensor, classes: Tensor) -> None:
    """Append features (k, D) of classes (k,) to the queues (C, L, D), in order, replacing the oldest.

    num_queued: (C,) number of features ever appended to each queue; the last L per class are kept
    """
    num_classes, length, _ = queue.shape
    one_hot = (classes[:, None] == torch.arange(num_classes, device=classes.device)).long()  # (k, C)
    before = (one_hot.cumsum(dim=0) - one_hot).gather(1, classes[:, None])[:, 0]  # (k,) earlier ones of its class
    num_new = one_hot.sum(dim=0)  # (C,)
    slots = (num_queued[classes] + before) % length  # (k,)
    is_kept = before >= num_new[classes] - length  # (k,)
    # Features that are not kept are written to an extra row, which is discarded; the others have distinct slots.
    flat = torch.cat([queue.view(num_classes * length, -1), queue.new_zeros(1, queue.shape[2])])
    flat[torch.where(is_kept, classes * length + slots, num_classes * length)] = features
    queue.copy_(flat[:-1].view_as(queue))
    num_queued.add_(num_new)


def similarities(features: Tensor, prototypes: Tensor, *, temperature: float) -> Tensor:
    """(N, C) cosines of features (N, D) and prototypes (C, D) over the temperature: logits of q^.

    A class without a prototype (zeros) has cosine -1.
    """
    cosines = F.normalize(features, dim=1) @ F.normalize(prototypes, dim=1).T  # (N, C)
    has_prototype = prototypes.abs().sum(dim=1) > 0  # (C,)
    return torch.where(has_prototype, cosines, -1) / temperature


def blended(linear: Tensor, semantic: Tensor, shares: Tensor, *, temperature: float) -> Tensor:
    """Blend (N, C) predictions p^ (linear) and q^ (semantic), given class shares m (C,) of the pseudo-labels."""
    powers = shares ** (1 / temperature)  # (C,)
    v = (powers / powers.max())[linear.argmax(dim=1)][:, None]  # (N, 1)
    return (1 - v) * linear + v * semantic
