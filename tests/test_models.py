"""The networks: published sizes, any input size, shortcuts without parameters, names of the published checkpoints."""

import numpy as np
import pytest
import torch
import torchvision

from longtail.conf.networks import NETWORKS
from longtail.models.build import build_checked_model, build_model, num_features
from longtail.models.heads import HEADS, CosineHead
from longtail.models.network import Network
from longtail.models.resnet import BasicBlock
from longtail.models.wide_resnet import PreActivationBlock
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = [arch for arch, factory in NETWORKS.items() if factory.startswith("longtail.models.resnet:")]
LARGE = sorted(set(NETWORKS) - set(SMALL))


@pytest.mark.parametrize(
    ("arch", "num_parameters"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("wrn28_2", 1_467_610),
        ("resnet20_s2", 269_722 + 16 * 3 * (4 * 4 - 3 * 3)),
    ],
)
def test_networks_have_their_published_number_of_parameters(arch: str, num_parameters: int) -> None:
    model = build_model(arch, num_classes=10, in_channels=3)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


@pytest.mark.parametrize(
    ("arch", "num_parameters"),
    [
        ("resnet10", 5_418_792),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnext50_32x4d", 25_028_904),
    ],
)
def test_networks_for_large_images_have_their_published_number_of_parameters(arch: str, num_parameters: int) -> None:
    with torch.device("meta"):  # sizes without values
        model = build_model(arch, num_classes=1000, in_channels=3)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("arch", NETWORKS)
def test_every_network_is_made_with_every_head(arch: str, head: str) -> None:
    with torch.device("meta"):
        model = build_model(arch, num_classes=3, in_channels=1, head=head)
    assert isinstance(model, Network)
    assert type(model.fc) is type(HEADS[head](8, 3))


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("arch", LARGE)
def test_a_network_learns_from_images_of_8x8_in_any_number_of_channels(arch: str, head: str) -> None:
    torch.manual_seed(0)
    model = build_model(arch, num_classes=3, in_channels=2, head=head)
    images = torch.randn(4, 2, 8, 8)
    features = model.features(images)
    assert features.shape == (4, num_features(model))
    outputs = model.fc(features)
    assert outputs.shape == (4, 3)
    outputs.logsumexp(dim=1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    model.eval()
    assert torch.equal(model(images), model.fc(model.features(images)))


@pytest.mark.parametrize("arch", ["resnet10", "resnet18", "resnet50", "resnext50_32x4d"])
def test_networks_for_large_images_compute_what_torchvision_s_do(arch: str) -> None:
    reference = (
        torchvision.models.resnet.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=7)
        if arch == "resnet10"
        else torchvision.models.get_model(arch, num_classes=7)
    ).eval()
    model = build_model(arch, num_classes=7, in_channels=3).eval()
    model.load_state_dict(reference.state_dict())  # the names are the same, each of them
    images = torch.randn(2, 3, 64, 48)
    assert torch.allclose(model(images), reference(images), rtol=1e-4, atol=1e-5)


def test_the_names_of_a_wide_network_are_those_that_the_field_shares() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{field}" for field in norm)}
    for stage in (1, 2, 3):
        names.add(f"block{stage}.layer.0.convShortcut.weight")
        for block in range(4):
            prefix = f"block{stage}.layer.{block}"
            names |= {f"{prefix}.conv1.weight", f"{prefix}.conv2.weight"}
            names |= {f"{prefix}.{bn}.{field}" for bn in ("bn1", "bn2") for field in norm}
    state = build_model("wrn28_2", num_classes=10, in_channels=3).state_dict()
    assert set(state) == names
    assert state["block3.layer.3.conv2.weight"].shape == (128, 128, 3, 3)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28), (33, 47)])
def test_images_of_any_size_fit_a_wide_network(size: tuple[int, int]) -> None:
    model = build_model("wrn28_2", num_classes=5, in_channels=1).eval()
    assert model.features(torch.randn(2, 1, *size)).shape == (2, 128)


def test_a_wide_block_adds_its_convolutions_to_its_input_or_to_a_convolution_of_it() -> None:
    x = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
    same = PreActivationBlock(1, 1, stride=1, shortcut_of_activated=False).eval()
    of_input = PreActivationBlock(1, 2, stride=2, shortcut_of_activated=False).eval()
    of_activated = PreActivationBlock(1, 2, stride=2, shortcut_of_activated=True).eval()
    with torch.no_grad():
        for block in (same, of_input, of_activated):
            block.conv1.weight.zero_()
            block.conv1.weight[0, 0, 1, 1] = 3
            block.conv2.weight.zero_()
            block.conv2.weight[0, 0, 1, 1] = -2
        for block in (of_input, of_activated):
            block.convShortcut.weight[:, 0, 0, 0] = torch.tensor([10.0, 20.0])
    # Batch norm at rest divides by sqrt(1.001). Each activation leaves a tenth of what is below 0: 2, -0.1, 0.5, -0.3,
    # times 3, and of these 6, -0.03, 1.5, -0.09, times -2.
    assert same(x).flatten().tolist() == pytest.approx([2 - 12, -1 + 0.06, 0.5 - 3, -3 + 0.18], rel=2e-3)
    # Every second pixel, that is the first one: -2, or -0.2 activated; through the convolutions 0.12.
    assert of_input(-x).flatten().tolist() == pytest.approx([-20 + 0.12, -40], rel=2e-3)
    assert of_activated(-x).flatten().tolist() == pytest.approx([-2 + 0.12, -4], rel=2e-3)


def test_only_the_first_stage_of_a_wide_network_has_its_shortcut_after_the_activation() -> None:
    model = build_model("wrn28_2", num_classes=5, in_channels=3)
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, PreActivationBlock)}
    assert [name for name, block in blocks.items() if block._shortcut_of_activated] == ["block1.layer.0"]
    # 3x3 kernels to 128 channels, each normal of variance 2/(9 * 128).
    assert model.block3.layer[0].conv1.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)


def test_channels_and_classes_change_only_the_first_and_the_last_layer() -> None:
    three = build_model("resnet20", num_classes=10, in_channels=3)
    one = build_model("resnet20", num_classes=4, in_channels=1)
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (three, one)]
    # Two channels of 16 kernels 3x3, and six classes of 64 weights and a bias.
    assert sizes[0] - sizes[1] == 2 * 16 * 9 + 6 * 65


@pytest.mark.parametrize("arch", SMALL)
def test_the_depth_in_the_name_counts_the_layers_with_weights(arch: str) -> None:
    model = build_model(arch, num_classes=10, in_channels=3)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert arch.removesuffix("_s2") == f"resnet{len(layers)}"


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (8, 8), (9, 13), (28, 28), (32, 32), (33, 47)])
@pytest.mark.parametrize("arch", ["resnet20", "resnet20_s2"])
def test_images_of_any_size_fit(arch: str, size: tuple[int, int]) -> None:
    model = build_model(arch, num_classes=5, in_channels=1).eval()
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


def test_the_normalised_head_does_not_depend_on_the_norms_of_features_and_weights() -> None:
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


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 8), (1, 8, 3)])
def test_a_network_says_from_which_size_of_images_on_it_works(arch: str, shape: tuple[int, int, int]) -> None:
    with refused() as messages:
        build_checked_model(arch, num_outputs=2, image_shape=shape)
    assert messages[0] == (
        f"-a {arch} needs images from 4x4 pixels, these have {shape[1]}x{shape[2]}: prepare larger ones"
    )


def test_a_first_convolution_of_stride_2_halves_the_images_of_all_stages() -> None:
    seen = []
    model = build_model("resnet20_s2", num_classes=5, in_channels=3)
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda _module, _given, output: seen.append(tuple(output.shape[1:])))
    model(torch.randn(1, 3, 32, 32))
    assert seen == [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
