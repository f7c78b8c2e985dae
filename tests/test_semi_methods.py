"""The methods on top of FixMatch: each formula against one written anew in float64, and what state they keep."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import NO_CLASS
from longtail.training.augmentation import Choices
from longtail.training.metrics import ClassTotals, Confusion
from longtail.training.semi.abc_head import balanced_losses
from longtail.training.semi.alignment import aligned, alignment_power
from longtail.training.semi.crest import rebalanced_selection, sampling_rates
from longtail.training.semi.darp import multipliers, refined, smallest_kept, without_noise
from longtail.training.semi.daso import blended, enqueue, similarities
from longtail.training.semi.fixmatch_base import FixMatch, TrainingContext, ViewOutputs, load_method
from longtail.training.semi.semi_module import SemiModule, WeightAverage
from longtail.training.semi.truth import count_pseudo_labels
from longtail.training.step import Rows, Step
from tests.refusals import refused
from tests.tiny_set import ALONE, tiny_options

CPU = torch.device("cpu")
COUNTS = [24, 12, 4]
"""Labelled images of the three classes."""


class Network(nn.Module):
    """Features are the inputs themselves, (N, 4) or (N, 4, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


def method(
    name: str,
    *,
    num_unlabeled: int = 6,
    generation: int = 0,
    held_out_confusion: Callable[[], Confusion] | None = None,
    **options: Any,
) -> FixMatch:
    given = tiny_options(
        TrainSemiOptions, imb_factor_unlabel=1.0, semi_method="fixmatch", balancing=name, **options
    )  # fmt: skip
    context = TrainingContext(
        options=given,
        rank=ALONE,
        labelled_counts=COUNTS,
        num_labelled=40,
        num_unlabeled=num_unlabeled,
        num_features=4,
        head="linear",
        thresholds=torch.full((3,), 0.5),
        average=Network(),
        generation=generation,
        held_out_confusion=held_out_confusion,
    )
    return load_method(name)(context)


def step(
    number: int, *, targets: list[int], places: list[int], num_steps: int = 100, inputs: Tensor | None = None
) -> Step:
    """A step of these samples; places: of the unlabeled ones among all unlabeled."""
    is_labelled = np.array(targets) != NO_CLASS
    return Step(
        number=number,
        num_steps=num_steps,
        inputs=torch.zeros(2 * len(targets), 4) if inputs is None else inputs,
        targets=torch.tensor(targets),
        class_weights=torch.ones(len(targets)),
        choices=Choices(),
        labelled=Rows(torch.arange(int(is_labelled.sum())), torch.from_numpy(np.flatnonzero(is_labelled)), 0),
        unlabeled=Rows(40 + torch.tensor(places), torch.from_numpy(np.flatnonzero(~is_labelled)), 0),
    )


def answers(logits: Tensor, features: Tensor | None = None) -> ViewOutputs:
    return ViewOutputs(torch.zeros(len(logits), 4) if features is None else features, logits, logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def random_probabilities(rows: int, classes: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(dim=1)


# Pseudo-labels of adjusted logits


def test_pseudo_labels_of_adjusted_logits_are_those_of_the_probabilities_over_the_labelled_shares() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    plain = softmax(logits.double().numpy())
    shares = np.array(COUNTS) / 40
    for tau in (0.0, 1.0, 0.5):
        of_method = method("none", pseudo_label_tau=tau)
        found = of_method.probabilities(answers(logits), step(0, targets=[NO_CLASS] * 5, places=[0, 1, 2, 3, 4]))
        expected = plain / shares**tau
        assert np.allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)


# Distribution alignment


def test_aligned_predictions_are_scaled_by_target_over_mean_and_normalised() -> None:
    found = aligned(torch.tensor([[0.5, 0.5]]), mean=torch.tensor([0.8, 0.2]), target=torch.tensor([0.5, 0.5]))
    # 0.5 * 5/8 and 0.5 * 5/2, over their sum 25/16.
    assert found.tolist() == [pytest.approx([0.2, 0.8])]


def test_a_class_that_is_never_predicted_stays_so() -> None:
    found = aligned(torch.tensor([[1.0, 0.0]]), mean=torch.tensor([1.0, 0.0]), target=torch.tensor([0.5, 0.5]))
    assert found.tolist() == [[1, 0]]


def test_the_running_mean_is_that_of_the_unlabeled_images_of_the_last_steps() -> None:
    da = method("DA", da_window=3)
    generator = torch.Generator().manual_seed(0)
    target, means = np.array(COUNTS) / 40, []
    for number in range(5):
        logits = 2 * torch.randn(4, 3, generator=generator)
        now = step(number, targets=[1, NO_CLASS, NO_CLASS, 0], places=[0, 1])
        found = da.probabilities(answers(logits), now)
        predicted = softmax(logits.double().numpy())
        means.append(predicted[1:3].mean(axis=0))
        expected = predicted * target / np.mean(means[-3:], axis=0)
        assert np.allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5), number


# CReST+


def test_a_generation_s_power_goes_from_one_to_the_smallest() -> None:
    powers = [alignment_power(generation, num_generations=6, t_min=0.5) for generation in range(6)]
    assert powers == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert alignment_power(0, num_generations=1, t_min=0.5) == 1


def test_crest_aligns_to_the_labelled_shares_to_that_power() -> None:
    crest = method("CReST+", generation=1, rounds=2, crest_t_min=0.5)
    roots = np.sqrt(COUNTS)
    assert np.allclose(crest.target, roots / roots.sum())
    assert np.allclose(method("CReST+", rounds=2).target, np.array(COUNTS) / 40)


def test_the_smallest_class_gives_all_of_its_pseudo_labels_and_the_largest_the_fewest() -> None:
    # Largest first 1000, 100, 10: the rates are (10/1000)^a, (100/1000)^a, 1. The classes stand in another order.
    assert sampling_rates([100, 10, 1000], alpha=0.5) == pytest.approx([0.1**0.5, 1, 0.1])
    assert sampling_rates([100, 10, 1000], alpha=0) == pytest.approx([1, 1, 1])


def test_the_most_confident_of_each_class_are_selected() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    confidence = np.array([0.9, 0.5, 0.9, 0.99, 0.2, 0.1, 0.3])
    # Rates (25/100)^(1/2) = 1/2 of four, and all of three.
    assert rebalanced_selection(labels, confidence, [100, 25], alpha=0.5).tolist() == [0, 3, 4, 5, 6]
    # 1/4 of four is one.
    assert rebalanced_selection(labels, confidence, [100, 25], alpha=1.0).tolist() == [3, 4, 5, 6]


# ABC


def test_the_balanced_head_s_losses_are_those_of_the_masked_images() -> None:
    generator = torch.Generator().manual_seed(0)
    weak, *strong = (3 * torch.randn(40, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    uniform = torch.rand(40, generator=generator)
    targets = torch.tensor([0, 1, 2, NO_CLASS] * 10)
    keep = torch.tensor([4 / 24, 4 / 12, 1.0])
    thresholds = torch.tensor([0.5, 0.9, 0.6])
    found = balanced_losses(weak, strong, targets, keep=keep, uniform=uniform, thresholds=thresholds, progress=0.25)
    q, asked = softmax(weak.numpy()), sum(np.log(softmax(logits.numpy())) for logits in strong)
    kinds = set()
    for i, target in enumerate(targets.tolist()):
        if target != NO_CLASS:
            counts = uniform[i] < keep[target]
            expected = -math.log(q[i, target]) if counts else 0.0
        else:
            k = int(q[i].argmax())
            # A quarter of the way from 1 to the class's rate.
            counts = q[i, k] >= thresholds[k] and uniform[i] < 0.75 + 0.25 * keep[k]
            expected = -(q[i] * asked[i]).sum() if counts else 0.0
        kinds.add((target == NO_CLASS, bool(counts)))
        assert found[i].item() == pytest.approx(expected, rel=1e-6)
    assert len(kinds) == 4


def test_the_balanced_head_learns_nothing_from_the_weak_view_of_an_unlabeled_image() -> None:
    weak, *strong = (torch.randn(4, 3, dtype=torch.float64).requires_grad_() for _ in range(3))
    targets = torch.tensor([0, NO_CLASS, NO_CLASS, NO_CLASS])
    balanced_losses(
        weak, strong, targets, keep=torch.ones(3), uniform=torch.zeros(4), thresholds=torch.zeros(3), progress=1.0
    ).sum().backward()
    assert (weak.grad.abs().sum(dim=1) > 0).tolist() == [True, False, False, False]
    for of_view in strong:
        assert (of_view.grad.abs().sum(dim=1) > 0).tolist() == [False, True, True, True]


def test_the_balanced_head_is_kept_and_fixmatch_learns_the_other() -> None:
    abc = method("ABC")
    assert torch.allclose(abc.keep, torch.tensor([4 / 24, 4 / 12, 1.0]))
    features, logits = torch.randn(2, 4), torch.randn(2, 3)
    assert torch.equal(abc.backbone_logits(features, logits), abc.backbone_head(features))
    assert {name for name, _ in abc.named_parameters()} == {"backbone_head.weight", "backbone_head.bias"}


# DARP


def least_divergence(predicted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The solution of DARP's problem by a general solver."""
    rows, classes = predicted.shape
    weights = 1 / -(predicted * np.log(predicted)).sum(axis=1)

    def divergence(x: np.ndarray) -> float:
        x = x.reshape(rows, classes)
        return float((weights[:, None] * x * np.log(x / predicted)).sum())

    def gradient(x: np.ndarray) -> np.ndarray:
        x = x.reshape(rows, classes)
        return (weights[:, None] * (np.log(x / predicted) + 1)).ravel()

    constraints = [
        {"type": "eq", "fun": lambda x: x.reshape(rows, classes).sum(axis=1) - 1},
        # The last class's size follows from the others'.
        {"type": "eq", "fun": lambda x: (x.reshape(rows, classes).sum(axis=0) - sizes)[:-1]},
    ]
    found = minimize(
        divergence, np.full(rows * classes, 1 / classes), jac=gradient, method="SLSQP", constraints=constraints,
        bounds=[(1e-9, 1)] * (rows * classes), options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    assert found.success, found.message
    return found.x.reshape(rows, classes)


def test_refined_pseudo_labels_solve_the_convex_problem() -> None:
    predicted, sizes = random_probabilities(8, 3, spread=1.0), torch.tensor([4.0, 2.5, 1.5], dtype=torch.float64)
    found = refined(predicted, multipliers(predicted, sizes, num_rounds=100))
    assert torch.allclose(found.sum(dim=0), sizes, atol=1e-6)
    assert np.allclose(found, least_divergence(predicted.numpy(), sizes.numpy()), atol=1e-4)


def test_ten_rounds_bring_many_predictions_close_to_the_sizes() -> None:
    predicted = random_probabilities(500, 10)
    sizes = 500 * torch.tensor([2.0**-k for k in range(10)], dtype=torch.float64) / (2 - 2**-9)
    found = refined(predicted, multipliers(predicted, sizes, num_rounds=10))
    assert (found.sum(dim=0) - sizes).abs().max() < 0.02 * 500 / 10
    assert (predicted.sum(dim=0) - sizes).abs().max() > 125


def test_a_certain_prediction_is_not_moved() -> None:
    predicted = torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.7, 0.3]], dtype=torch.float64)
    found = refined(predicted, multipliers(predicted, torch.tensor([1.5, 1.5]).double(), num_rounds=50))
    assert found[0].tolist() == [1, 0]
    assert found.sum(dim=0).tolist() == pytest.approx([1.5, 1.5])


def test_sizes_that_nothing_can_reach_leave_numbers() -> None:
    certain = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = refined(certain, multipliers(certain, torch.tensor([1.0, 1.0]).double(), num_rounds=10))
    assert torch.equal(found, certain)


def test_only_the_largest_entries_of_a_class_are_kept() -> None:
    predicted = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
    # ceil(2 * 0.9) = 2 of the first class, ceil(2 * 0.5) = 1 of the second.
    smallest = smallest_kept(predicted, torch.tensor([0.9, 0.5]), delta=2.0)
    assert smallest.tolist() == [0.7, 0.8]
    kept = without_noise(predicted, smallest)
    # Of the second image nothing is left: it stays as it was.
    assert kept.tolist() == [[1, 0], [0.6, 0.4], [1, 0], [0, 1]]


def test_darp_remembers_all_images_and_refines_after_its_warm_up() -> None:
    darp = method("DARP", num_unlabeled=4, darp_warmup=0.1, darp_every=2, unlabeled_shares="1,1,2", darp_delta=9)
    assert darp.sizes.tolist() == [1, 1, 2]
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    plain = torch.from_numpy(softmax(logits.double().numpy()))
    # Before a tenth of 100 steps nothing is refined. Image 2 is there twice, image 0 not: it is taken for any class.
    found = darp.probabilities(answers(logits), step(9, targets=[NO_CLASS] * 4, places=[1, 2, 2, 3]))
    assert torch.allclose(found.double(), plain, atol=1e-6)
    seen = torch.stack([torch.full((3,), 1 / 3).double(), plain[0], plain[1:3].mean(dim=0), plain[3]])
    assert torch.allclose(darp.predictions.double(), seen, atol=1e-6)
    found = darp.probabilities(answers(logits), step(10, targets=[NO_CLASS] * 4, places=[1, 2, 0, 3]))
    seen[2] = plain[1]
    seen[0] = plain[2]
    expected = refined(plain, multipliers(seen, darp.sizes, num_rounds=10))
    assert torch.allclose(found.double(), expected, atol=1e-5)
    # Between two solutions the multipliers are those of the last.
    again = darp.probabilities(answers(logits.flip(0)), step(11, targets=[NO_CLASS] * 4, places=[0, 1, 2, 3]))
    assert torch.allclose(again.double(), expected.flip(0), atol=1e-5)


def test_darp_estimates_the_sizes_once_when_refining_begins_by_undoing_the_mistakes() -> None:
    # Half of the held-out images of class 1 are taken for class 0, all others for what they are.
    cells = {"target": [0, 1, 1, 2], "predicted": [0, 0, 1, 2], "count": [10, 5, 5, 2]}
    darp = method(
        "DARP", num_unlabeled=9, darp_warmup=0.1, darp_every=4, darp_delta=9, unlabeled_shares="estimated",
        val_fraction=0.1, held_out_confusion=lambda: cells,
    )  # fmt: skip
    # Of eight images four are taken for class 0, two for class 1 and two for class 2; the ninth has not been seen.
    taken_for = 4.0 * torch.eye(3)[[0, 0, 0, 0, 1, 1, 2, 2]]
    shares_before = darp.sizes.tolist()
    for number, places in ((10, range(8)), (12, range(8)), (16, [0] * 8)):
        logits = taken_for if number < 16 else taken_for.flip(0)
        darp.probabilities(answers(logits), step(number, targets=[NO_CLASS] * 8, places=list(places)))
        if number == 10:
            assert darp.sizes.tolist() == shares_before  # step 12 is the first after a tenth of 100 that solves
        else:
            # As many of class 1 as are taken for it are taken for class 0: 2, 4 and 2 of 8.
            assert darp.sizes.tolist() == pytest.approx([9 * 2 / 8, 9 * 4 / 8, 9 * 2 / 8], rel=1e-3)
    assert "sizes" in darp.state_dict() and "sizes" not in method("DARP").state_dict()


def test_darp_wants_held_out_images_for_its_estimate() -> None:
    with refused() as messages:
        method("DARP", unlabeled_shares="estimated", val_fraction=0.1)
    assert "no image of the set is held out" in messages[0]


def test_darp_wants_a_share_of_each_class() -> None:
    with refused() as messages:
        method("DARP", unlabeled_shares="1,2")
    assert "--unlabeled_shares has 2 shares, the set has 3 classes" in messages[0]


# DASO


def test_queues_keep_the_last_features_of_each_class() -> None:
    queue, num_queued = torch.zeros(3, 4, 2), torch.zeros(3, dtype=torch.int64)
    expected = [deque(maxlen=4) for _ in range(3)]
    generator = torch.Generator().manual_seed(0)
    for size in (3, 1, 12, 5):  # of twelve one class surely has more than four
        features = torch.randn(size, 2, generator=generator)
        classes = torch.randint(2, (size,), generator=generator)
        enqueue(queue, num_queued, features, classes)
        for feature, class_id in zip(features.tolist(), classes.tolist(), strict=True):
            expected[class_id].append(feature)
        for class_id, wanted in enumerate(expected):
            found = queue[class_id].tolist()
            assert sorted(row for row in found if any(row)) == sorted(wanted)
    assert num_queued[2] == 0 and num_queued.sum() == 21


def test_similarities_are_cosines_over_the_temperature_and_least_to_a_class_unseen() -> None:
    features = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    prototypes = torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    root = 0.5**0.5
    found = similarities(features, prototypes, temperature=0.05)
    assert found.tolist() == [pytest.approx([20, 0, -20]), pytest.approx([20 * root, 20 * root, -20])]


def test_the_blend_has_more_of_the_semantic_label_the_more_images_are_taken_for_the_class() -> None:
    linear = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    semantic = torch.tensor([[0.4, 0.6], [0.9, 0.1]])
    # v = 1 for the commonest class; for the other (0.1/0.9)^(1/2) = 1/3.
    found = blended(linear, semantic, torch.tensor([0.9, 0.1]), temperature=2.0)
    assert found.tolist() == [
        pytest.approx([0.4, 0.6]), pytest.approx([0.3 * 2 / 3 + 0.9 / 3, 0.7 * 2 / 3 + 0.1 / 3])
    ]  # fmt: skip


def test_daso_blends_after_its_warm_up_by_shares_of_the_period_before() -> None:
    daso = method("DASO", daso_warmup=0.02, daso_period=100, daso_t_dist=1.0, daso_queue=2, daso_t_proto=0.5)
    generator = torch.Generator().manual_seed(0)
    targets = [0, 1, 2, NO_CLASS, NO_CLASS]
    counted, taken = np.zeros(3), []
    for number in range(4):
        inputs = torch.randn(10, 4, generator=generator)
        logits = torch.randn(10, 3, generator=generator)
        now = step(number, targets=targets, places=[0, 1], inputs=inputs)
        of_step = answers(logits.view(2, 5, 3), inputs.view(2, 5, 4))
        taken.append(inputs[:3].double().numpy())
        found = daso.probabilities(of_step.weak(), now)
        further = daso.further_losses(of_step, now)
        linear = softmax(logits[:5].double().numpy())
        expected = linear
        if number < 2:
            assert further is None
        else:
            if number % 2 == 0:  # the period is as long as the warm-up of two steps
                shares, counted = counted / counted.sum(), np.zeros(3)
            prototypes = np.mean(taken[-2:], axis=0)

            def alike(views: Tensor, prototypes: np.ndarray = prototypes) -> np.ndarray:
                z = views.double().numpy()
                cosines = z @ prototypes.T
                cosines /= np.linalg.norm(z, axis=1)[:, None] * np.linalg.norm(prototypes, axis=1)
                return softmax(cosines / 0.5)

            v = (shares / shares.max())[linear.argmax(axis=1)][:, None]
            expected = (1 - v) * linear + v * alike(inputs[:5])
            losses = -(alike(inputs[:5]) * np.log(alike(inputs[5:]))).sum(axis=1)
            assert np.allclose(further, np.where(np.array(targets) == NO_CLASS, losses, 0), atol=1e-5)
        assert np.allclose(found, expected, atol=1e-5), number
        for class_id in expected[3:].argmax(axis=1):
            counted[class_id] += 1


# The trained module


def semi_module(**options: Any) -> SemiModule:
    found = SemiModule(Network(), **{"ema_decay": 0.5, **options})
    found.method = method("none")
    return found


ALL_UNLABELED = (torch.tensor([], dtype=torch.int64), torch.tensor([0, 1]))


def test_the_average_follows_the_weights_slower_and_slower_up_to_its_decay() -> None:
    average, trained = nn.Linear(2, 1), nn.Linear(2, 1)
    follow = WeightAverage(average, trained, 0.3).update
    expected = average.weight.detach().double().numpy()
    for number in range(6):
        with torch.no_grad():
            trained.weight.add_(torch.randn(1, 2, generator=torch.Generator().manual_seed(number)))
        follow(step(number, targets=[0], places=[]))
        # 2/11, 3/12, 4/13 = 0.31: from the third step on 0.3.
        decay = [2 / 11, 3 / 12, 0.3, 0.3, 0.3, 0.3][number]
        expected = decay * expected + (1 - decay) * trained.weight.detach().double().numpy()
        assert np.allclose(average.weight.detach(), expected, atol=1e-6)


def test_while_training_the_trained_network_answers_and_else_the_averaged_one() -> None:
    of_both = semi_module()
    with torch.no_grad():
        of_both.trained.fc.weight.add_(1)
    images = torch.randn(4, 4, 1, 1)
    assert torch.equal(of_both.train()(images, *ALL_UNLABELED).logits.flatten(0, 1), of_both.trained(images))
    assert torch.equal(of_both.eval()(images), of_both.network(images))
    assert [name for name, parameter in of_both.named_parameters() if parameter.requires_grad] == [
        "trained.fc.weight", "trained.fc.bias"
    ]  # fmt: skip


@pytest.mark.parametrize("num_strong", [1, 2])
def test_all_views_are_answered_but_those_that_nothing_is_learned_from(num_strong: int) -> None:
    given = semi_module().train()  # without batch norm it makes no difference who is with whom
    images = torch.randn(5 + 5 * num_strong, 4, 1, 1)
    labelled, unlabeled = torch.tensor([0, 3]), torch.tensor([1, 2, 4])
    answers, expected = given(images, labelled, unlabeled), given.trained(images)
    assert answers.logits.shape == (1 + num_strong, 5, 3)
    found = ViewOutputs(*(part.flatten(0, 1) for part in answers))
    unseen = [5 * view + row for view in range(1, 1 + num_strong) for row in (0, 3)]
    strong = [5 * view + row for view in range(1, 1 + num_strong) for row in (1, 2, 4)]
    there = [*range(5), *strong]
    assert torch.allclose(found.logits[there], expected[there], atol=1e-6)
    assert torch.equal(found.features[there], images[there].flatten(1))
    assert not any(part[unseen].any() for part in found)
    # Those that are answered have gradients, the weak views of unlabeled images too.
    for rows in ([0, 3, *strong], [1, 2, 4]):
        logits = given(images, labelled, unlabeled).logits.flatten(0, 1)[rows].sum()
        assert torch.autograd.grad(logits, given.trained.fc.weight)[0].any()


def test_without_an_average_there_is_one_network() -> None:
    alone = semi_module(ema_decay=0.0)
    images = torch.randn(4, 4, 1, 1)
    assert torch.equal(alone.train()(images, *ALL_UNLABELED).logits.flatten(0, 1), alone.eval()(images))
    assert all(parameter.requires_grad for parameter in alone.parameters())
    alone.update_average(step(0, targets=[0], places=[]))


def test_both_networks_have_the_same_batch_norm_statistics() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4))
    network.fc = nn.Identity()
    network.features = nn.Sequential.forward.__get__(network)
    both = SemiModule(network, ema_decay=0.9)
    both.train()
    both.trained[0](torch.randn(8, 4) + 3)
    assert torch.equal(both.network[0].running_mean, both.trained[0].running_mean)
    assert both.network[0].running_mean.abs().sum() > 0 and not both.network.training


# Counting


def test_pseudo_labels_are_counted_by_hand() -> None:
    totals = ClassTotals.zeros(3, CPU)
    count_pseudo_labels(
        totals,
        truth=torch.tensor([0, 0, 1, 2, NO_CLASS]),
        pseudo_labels=torch.tensor([0, 1, 1, 2, 0]),
        is_confident=torch.tensor([True, True, True, False, True]),
        confidence=torch.tensor([0.5, 0.75, 1.0, 0.25, 0.5]),
        losses=torch.tensor([1.0, 2.0, 4.0, 0.0, 8.0]),
    )
    found = totals.as_lists()
    assert (found["support"], found["correct"], found["predicted"]) == ([2, 1, 1], [1, 1, 0], [2, 2, 0])
    assert (found["loss_sum"], found["confidence_sum"]) == ([3, 4, 0], [1.25, 1, 0.25])
