"""WGAN-GP: the penalty where its value is known, the losses, the truncation, and the generator's file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.networks.generators import wgan
from pipeline.networks.generators.wgan import Critic, Generator, GeneratorShape

TINY = GeneratorShape(size_px=8, classes=3, latent=4, widths=(4, 4, 2))
LABELS = torch.tensor([0, 1, 2, 1])


pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> Generator:
    """A generator whose norms know some statistics."""
    torch.manual_seed(seed)
    net = Generator(TINY)
    for _ in range(20):
        net(torch.randn(16, 4), torch.randint(0, 3, (16,)))
    return net.eval().requires_grad_(False)


def test_the_penalty_of_a_plane_is_how_far_its_slope_is_from_one() -> None:
    slope = torch.tensor([3.0, 4.0, 0.0, 0.0]).view(1, 1, 2, 2)  # of length 5
    real, fake, share = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2), torch.rand(4)
    for scale, wanted in ((1.0, 16.0), (0.2, 0.0), (0.0, 1.0)):

        def plane(images: Tensor, labels: Tensor, scale: float = scale) -> Tensor:
            return (images * slope * scale).sum(dim=(1, 2, 3)) + labels

        penalty = wgan.gradient_penalty(plane, real, fake, LABELS, share)
        assert float(penalty.detach()) == pytest.approx(wanted, abs=1e-5)


def test_the_penalty_is_taken_between_real_and_fake() -> None:
    def bowl(images: Tensor, labels: Tensor) -> Tensor:
        return images.square().sum(dim=(1, 2, 3)) / 2  # its slope at a point is the point

    real, fake = torch.full((3, 1, 1, 1), 4.0), torch.full((3, 1, 1, 1), 0.0)
    share = torch.tensor([1.0, 0.5, 0.25])
    found = wgan.gradient_penalty(bowl, real, fake, LABELS[:3], share)
    assert float(found.detach()) == pytest.approx(((4 - 1) ** 2 + (2 - 1) ** 2 + (1 - 1) ** 2) / 3)


def test_the_penalty_teaches_the_critic() -> None:
    torch.manual_seed(0)
    critic = Critic(TINY, width=4, features=8)
    penalty = wgan.gradient_penalty(critic, torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), LABELS, torch.rand(4))
    penalty.backward()
    assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in critic.layers)


def test_the_losses_are_the_papers() -> None:
    real, fake = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 0.0])
    wanted = 0.5 - 3.0 + 10 * 0.25 + 1e-3 * 10.0
    assert float(wgan.critic_loss(real, fake, torch.tensor(0.25))) == pytest.approx(wanted)
    assert float(wgan.generator_loss(fake)) == pytest.approx(-0.5)


@pytest.mark.parametrize("size_px", [8, 28, 36])
def test_critic_and_generator_fit_each_other(size_px: int) -> None:
    shape = GeneratorShape(size_px=size_px, channels=3, classes=3, latent=4, widths=(4, 4, 2))
    images = Generator(shape)(torch.randn(4, 4), LABELS)
    assert images.shape == (4, 3, size_px, size_px) and images.abs().max() <= 1
    critic = Critic(shape, width=4, features=8)
    assert critic(images, LABELS).shape == (4,)
    assert not torch.allclose(critic(images, LABELS), critic(images, LABELS.roll(1)))
    assert not any("norm" in type(part).__name__.lower() for part in critic.modules())


def test_the_class_and_the_latent_make_the_image_and_the_batch_does_not() -> None:
    net = generator()
    latents = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    together = net(latents, LABELS)
    assert not torch.allclose(together, net(latents, LABELS.roll(1)))
    assert not torch.allclose(together[1], together[3])
    for row in range(4):
        torch.testing.assert_close(net(latents[[row]], LABELS[[row]])[0], together[row], atol=1e-5, rtol=1e-4)


def test_truncation_scales_each_latent_by_its_own() -> None:
    latents = torch.randn(3, 4)
    assert torch.equal(wgan.truncated(latents, torch.ones(3)), latents)
    scaled = wgan.truncated(latents, torch.tensor([1.0, 0.5, 0.25]))
    assert torch.equal(scaled, latents * torch.tensor([[1.0], [0.5], [0.25]]))


def test_a_file_loads_to_the_same_generator(tmp_path: Path) -> None:
    net = generator()
    wgan.save_generator(tmp_path / "net.safetensors", net, ("a", "b", "c"))
    loaded, classes = wgan.load_generator(tmp_path / "net.safetensors")
    assert classes == ("a", "b", "c") and loaded.shape == TINY and not loaded.training
    latents = torch.randn(4, 4)
    torch.testing.assert_close(loaded(latents, LABELS), net(latents, LABELS), atol=0.02, rtol=0.02)  # float16


def test_a_diffusion_model_is_no_generator(tmp_path: Path) -> None:
    from pipeline.networks.generators.flow_matching import load_flow, save_flow
    from pipeline.networks.generators.unet import UNet, UNetShape

    save_flow(tmp_path / "flow.safetensors", UNet(UNetShape(size_px=8, widths=(8,), embedding=8)))
    with pytest.raises(ModelError, match="holds flow-unet/1; needed: wgan-generator/1"):
        wgan.load_generator(tmp_path / "flow.safetensors")
    wgan.save_generator(tmp_path / "gan.safetensors", generator())
    with pytest.raises(ModelError, match="holds wgan-generator/1; needed: flow-unet/1"):
        load_flow(tmp_path / "gan.safetensors")


def test_sizes_that_do_not_halve_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="30 px is no multiple of 4"):
        GeneratorShape(size_px=30)
    with pytest.raises(ValueError, match="1 or more"):
        GeneratorShape(latent=0)
