"""The networks: published sizes, any input size, shortcuts without parameters, names of the published checkpoints."""

import numpy as np
import pytest
import torch

from models.resnet import BLOCKS_PER_STAGE, BasicBlock, CosineHead, build_model


@pytest.mark.parametrize(
    ("arch", "num_parameters"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
    ],
)
def test_networks_have_their_published_number_of_parameters(arch: str, num_parameters: int) -> None:
    model = build_model(arch, num_classes=10, in_channels=3)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_channels_and_classes_change_only_the_first_and_the_last_layer() -> None:
    three = build_model("resnet20", num_classes=10, in_channels=3)
    one = build_model("resnet20", num_classes=4, in_channels=1)
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (three, one)]
    # Two channels of 16 kernels 3x3, and six classes of 64 weights and a bias.
    assert sizes[0] - sizes[1] == 2 * 16 * 9 + 6 * 65


@pytest.mark.parametrize("arch", sorted(BLOCKS_PER_STAGE))
def test_the_depth_in_the_name_counts_the_layers_with_weights(arch: str) -> None:
    model = build_model(arch, num_classes=10, in_channels=3)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert arch == f"resnet{len(layers)}"


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (8, 8), (9, 13), (28, 28), (32, 32), (33, 47)])
def test_images_of_any_size_fit(size: tuple[int, int]) -> None:
    model = build_model("resnet20", num_classes=5, in_channels=1).eval()
    images = torch.randn(2, 1, *size)
    assert model.features(images).shape == (2, 64)
    assert model(images).shape == (2, 5)
    assert torch.isfinite(model(images)).all()


def silenced(block: BasicBlock) -> BasicBlock:
    """The block with its convolutions at zero: what is left of it is the shortcut."""
    torch.nn.init.zeros_(block.conv1.weight)
    torch.nn.init.zeros_(block.conv2.weight)
    return block.eval()


@pytest.mark.parametrize("height", [6, 7])
def test_a_shortcut_takes_every_second_pixel_and_pads_the_channels_with_zeros_on_both_sides(height: int) -> None:
    images = torch.rand(2, 16, height, height)
    expected = np.zeros((2, 32, (height + 1) // 2, (height + 1) // 2), np.float32)
    for row in range(0, height, 2):
        for column in range(0, height, 2):
            expected[:, 8:24, row // 2, column // 2] = images[:, :, row, column]
    assert np.array_equal(silenced(BasicBlock(16, 32, stride=2))(images).detach(), expected)


def test_a_shortcut_within_a_stage_is_the_identity() -> None:
    images = torch.rand(2, 16, 5, 5)
    assert torch.equal(silenced(BasicBlock(16, 16, stride=1))(images), images)


def test_a_block_adds_its_two_convolutions_to_the_shortcut() -> None:
    block = silenced(BasicBlock(1, 1, stride=1))
    with torch.no_grad():
        block.conv1.weight[0, 0, 1, 1] = 2  # the centre of the kernel: every pixel times two,
        block.conv2.weight[0, 0, 1, 1] = -3  # what is positive of it times minus three
    images = torch.tensor([[[[1.0, -1.0], [0.5, 0.0]]]])
    # 1 - 6 is cut off at 0; -1 + 0 as well, since relu(-2) = 0; batch norm at rest divides by sqrt(1 + 1e-5).
    assert block(images).flatten().tolist() == [0, 0, 0, 0]
    with torch.no_grad():
        block.conv2.weight[0, 0, 1, 1] = 3
    assert block(images).flatten().tolist() == pytest.approx([7, 0, 3.5, 0], rel=1e-4)


def test_the_features_are_what_the_head_sees() -> None:
    model = build_model("resnet20", num_classes=5, in_channels=3).eval()
    images = torch.randn(2, 3, 8, 8)
    features = model.features(images)
    assert torch.equal(model(images), model.fc(features))
    assert (features >= 0).all(), "a mean of rectified values"


def test_the_names_of_the_parameters_are_those_of_the_published_checkpoints() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{field}" for field in norm)}
    for stage in (1, 2, 3):
        for block in range(5):
            prefix = f"layer{stage}.{block}"
            names |= {f"{prefix}.conv1.weight", f"{prefix}.conv2.weight"}
            names |= {f"{prefix}.{bn}.{field}" for bn in ("bn1", "bn2") for field in norm}
    state = build_model("resnet32", num_classes=10, in_channels=3).state_dict()
    assert set(state) == names
    assert state["fc.weight"].shape == (10, 64)


def test_the_normalised_head_has_a_weight_of_features_by_classes_and_no_bias() -> None:
    state = build_model("resnet32", num_classes=10, in_channels=3, head="cosine").state_dict()
    assert state["fc.weight"].shape == (64, 10)
    assert "fc.bias" not in state


def test_the_normalised_head_gives_the_cosines_of_angles() -> None:
    head = CosineHead(6, 3).double()
    features = torch.randn(5, 6, dtype=torch.float64)
    f, w = features.numpy(), head.weight.detach().numpy()
    cosines = [[f[n] @ w[:, c] / np.sqrt((f[n] @ f[n]) * (w[:, c] @ w[:, c])) for c in range(3)] for n in range(5)]
    assert np.allclose(head(features).detach(), cosines, rtol=0, atol=1e-12)


def test_the_normalised_head_does_not_feel_the_length_of_features_and_weights() -> None:
    head = CosineHead(6, 3).double()
    features = torch.randn(50, 6, dtype=torch.float64)
    before = head(features)
    with torch.no_grad():
        head.weight *= torch.tensor([0.01, 1.0, 100.0])
    assert torch.allclose(head(1000 * features), before, rtol=0, atol=1e-12)


def test_the_normalised_head_stays_within_one() -> None:
    head = CosineHead(64, 10)
    features = torch.cat([torch.randn(200, 64), head.weight.detach().T, -head.weight.detach().T, torch.zeros(1, 64)])
    output = head(features)
    assert output.abs().max() <= 1 + 1e-6
    assert output.max() > 1 - 1e-6 and output.min() < -1 + 1e-6  # features along and against a class direction
    assert torch.equal(output[-1], torch.zeros(10))


def test_the_seed_decides_the_initial_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = build_model("resnet20", num_classes=3, in_channels=1)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
