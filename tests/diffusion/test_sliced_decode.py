"""Decoding in parts: few enough rows a call, and the same images."""

import torch

from pipeline.diffusion.sliced_decode import SlicedDecoder, slice_large_decodes
from tests.fixtures.tiny_models import vae


def test_parts_hold_fewer_than_two_to_the_31_elements() -> None:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        usual = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    parts = SlicedDecoder(usual)
    assert parts.rows(64, 64) == 16  # [32, 256, 512, 512] has 2^31
    assert parts.rows(128, 128) == 4 and parts.rows(32, 32) == 64 and parts.rows(1024, 1024) == 1


def test_parts_make_the_images_of_the_whole() -> None:
    torch.manual_seed(0)
    autoencoder = vae().eval().requires_grad_(False)
    latents = torch.randn(5, 4, 8, 8)
    whole, calls = autoencoder.decode(latents).sample, []
    autoencoder.decoder.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    SlicedDecoder(autoencoder, max_elements=2 * 8 * 16 * 16)
    torch.testing.assert_close(autoencoder.decode(latents).sample, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(autoencoder.decode(latents, return_dict=False)[0], whole, atol=1e-5, rtol=0)
    assert calls == [2, 2, 1, 2, 2, 1]


def test_a_cpu_decodes_as_before() -> None:
    autoencoder = vae()
    before = autoencoder.decode
    slice_large_decodes(autoencoder, "cpu")
    assert autoencoder.decode == before
    slice_large_decodes(autoencoder, "cuda")
    assert isinstance(autoencoder.decode, SlicedDecoder)
