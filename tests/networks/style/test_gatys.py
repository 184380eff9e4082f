"""VGG files and layers, and the losses of Gatys et al. one image at a time. The numbers: `tests/reference`."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.model_files import weights
from pipeline.networks.style import vgg
from pipeline.networks.style.gatys import CONTENT_LAYER, STYLE_LAYERS, Objective, Targets
from pipeline.networks.style.vgg import load_vgg
from tests.fixtures.vgg_files import vgg_state, write_vgg

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = (*STYLE_LAYERS, CONTENT_LAYER)


def images(count: int, height: int = 20, width: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def objective(tmp_path_factory: pytest.TempPathFactory) -> Objective:
    return Objective(load_vgg(write_vgg(tmp_path_factory.mktemp("vgg") / "vgg.pth"), LAYERS), STYLE_LAYERS[:4])


def targets_of(objective: Objective, contents: Tensor, styles: Tensor) -> Targets:
    with torch.no_grad():
        return Targets(objective.content_target(contents), objective.style_targets(styles))


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["vgg16", "vgg19"])
def test_the_layout_is_torchvisions(family: str) -> None:
    import torchvision

    with torch.device("meta"):
        built = getattr(torchvision.models, family)()
    convolutions = [place for place, module in enumerate(built.features) if isinstance(module, torch.nn.Conv2d)]
    assert [place - 1 for _, place in vgg._places(family)] == convolutions
    state = {name for name in vgg_state(family) if name.startswith("features.")}
    assert state == {name for name in built.state_dict() if name.startswith("features.")}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["features.", ""])
def test_features_are_torchvisions_own(tmp_path: Path, suffix: str, prefix: str) -> None:
    import torchvision

    features = torchvision.models.vgg.make_layers(
        [4, 4, "M", 6, 6, "M", 8, 8, 8, 8, "M", 8, 8, 8, 8, "M", 8, 8, 8, 8, "M"]
    ).eval()
    state = {name.removeprefix("features."): value for name, value in vgg_state().items() if "features" in name}
    features.load_state_dict(state)
    path = tmp_path / f"vgg{suffix}"
    named = {f"{prefix}{name}": value for name, value in state.items()}
    torch.save(named, path) if suffix == ".pth" else weights.save_state(path, named)
    network = load_vgg(path, ["relu5_1", "relu2_1"])
    pictures = images(2, 33, 47)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        shallow, deep = network(pictures, ["relu5_1", "relu2_1"])
        torch.testing.assert_close(shallow, features[:7]((pictures - mean) / std), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(deep, features[:30]((pictures - mean) / std), atol=1e-5, rtol=1e-5)
    assert shallow.shape == (2, 6, 16, 23) and deep.shape == (2, 8, 2, 2) and deep.std() > 0.01


def test_no_deeper_than_needed_and_frozen(tmp_path: Path) -> None:
    state = {name: value for name, value in vgg_state().items() if int(name.split(".")[1]) <= 16}
    torch.save(state, tmp_path / "cut.pth")
    network = load_vgg(tmp_path / "cut.pth", ["relu3_1"])
    assert len(network.features) == 12 and not any(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.21.weight": None}, "not a vgg19 of torchvision's layout: features.21.weight is missing"),
        ({"features.5.weight": torch.zeros(6, 4, 5, 5)}, r"features.5.weight has shape \(6, 4, 5, 5\), not \(any, 4"),
        ({"features.5.weight": torch.zeros(6, 3, 3, 3)}, r"features.5.weight has shape \(6, 3, 3, 3\), not \(any, 4"),
        ({"features.2.weight": torch.zeros(4)}, r"features.2.weight has shape \(4,\)"),
        ({"features.7.bias": torch.zeros(5)}, r"features.7.bias is missing or not \(6,\)"),
        ({"features.7.bias": None}, r"features.7.bias is missing or not \(6,\)"),
    ],
)
def test_other_weights_are_one_clear_line(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    state = {name: value for name, value in (vgg_state() | change).items() if value is not None}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=message) as caught:
        load_vgg(tmp_path / "other.pth", LAYERS)
    assert "\n" not in str(caught.value) and "other.pth" in str(caught.value)


def test_another_family_and_layers_it_has_not_are_named(tmp_path: Path) -> None:
    path = write_vgg(tmp_path / "vgg16.pth", "vgg16")
    with pytest.raises(ModelError, match=r"vgg16\.pth: holds vgg16; needed: vgg19"):
        load_vgg(path, LAYERS)
    with pytest.raises(ModelError, match="vgg16 has no layer 'relu3_4'"):
        load_vgg(path, ["relu3_4"], ("vgg16", "vgg19"))
    assert len(load_vgg(path, ["relu4_3"], ("vgg16", "vgg19")).features) == 23


def test_code_in_a_pickle_and_missing_files_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": re.compile("x")}, tmp_path / "code.pth")
    for name in ("code.pth", "none.pth"):
        with pytest.raises(ModelError, match=name) as caught:
            load_vgg(tmp_path / name, LAYERS)
        assert "\n" not in str(caught.value)


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_the_loss_is_least_at_its_targets(objective: Objective) -> None:
    contents = images(2)
    targets = targets_of(objective, contents, contents)
    weight = torch.tensor([3.0, 5.0])
    assert objective.losses(contents, targets, weight).abs().max() == 0
    assert (objective.losses(images(2, seed=1), targets, weight) > 0.1).all()


def test_the_style_loss_does_not_know_where_things_are(objective: Objective) -> None:
    # A style tiled twice has the same Gram matrix a position, up to the seams.
    style = images(1, 64, 64).repeat(1, 1, 1, 2)
    once, twice = objective.style_targets(style[..., :64])[0], objective.style_targets(style)[0]
    torch.testing.assert_close(once, twice, rtol=0.02, atol=0.02)


def test_each_image_has_its_own_loss_weight_and_gradient(objective: Objective) -> None:
    contents, styles, points = images(3), images(3, seed=1), images(3, seed=2)
    targets, weight = targets_of(objective, contents, styles), torch.tensor([1.0, 10.0, 100.0])
    losses, gradients = objective.evaluation(targets, weight, (3, 20, 24), 3)(points.flatten(1))
    for row in range(3):
        rows = slice(row, row + 1)
        evaluate = objective.evaluation(targets.part(rows), weight[rows], (3, 20, 24), 1)
        loss, gradient = evaluate(points[rows].flatten(1))
        torch.testing.assert_close(losses[rows], loss)
        torch.testing.assert_close(gradients[rows], gradient, atol=1e-4, rtol=1e-4)


def test_one_image_a_call_is_the_same_to_the_last_bit_in_any_batch(objective: Objective) -> None:
    contents, styles, points = images(5), images(5, seed=1), images(5, seed=2)
    targets, weight = targets_of(objective, contents, styles), torch.logspace(0, 3, 5)
    losses, gradients = objective.evaluation(targets, weight, (3, 20, 24), 1)(points.flatten(1))
    rows = slice(3, 4)
    loss, gradient = objective.evaluation(targets.part(rows), weight[rows], (3, 20, 24), 1)(points[rows].flatten(1))
    assert torch.equal(loss, losses[rows]) and torch.equal(gradient, gradients[rows])


def test_gradients_are_the_slope_of_the_loss(objective: Objective) -> None:
    contents, styles, points = images(1), images(1, seed=1), images(1, seed=2)
    targets, weight = targets_of(objective, contents, styles), torch.tensor([20.0])
    evaluate = objective.evaluation(targets, weight, (3, 20, 24), 1)
    loss, gradient = evaluate(points.flatten(1))
    step = 1e-3 * gradient / gradient.norm()
    risen, fallen = evaluate(points.flatten(1) + step)[0], evaluate(points.flatten(1) - step)[0]
    assert ((risen - fallen) / (2 * step.norm())).item() == pytest.approx(gradient.norm().item(), rel=0.05)
    assert fallen < loss < risen
