"""ViT: torchvision's network for images of any size and number of channels, its head not at zero."""

import pytest
import torch
from torchvision.models import VisionTransformer

from mat.errors import InputError
from mat.experiments.models import vit
from mat.experiments.task_signature import Signature
from tests.zoo import modular_ntk

SETTINGS = vit.Settings(patch=4, layers=2, width=12, heads=3)


def signature(*shape):
    return Signature("image_classification", {"x": torch.zeros(1, *shape)}, 5)


def test_it_is_torchvisions_network():
    ours = vit.build(vit.Settings(), signature(3, 64, 64)).eval()
    theirs = VisionTransformer(64, 8, 6, 3, 192, 768, num_classes=5).eval()
    assert type(ours) is VisionTransformer
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_every_module_has_a_kernel_before_the_first_step():
    """torchvision's head starts at zero, where nothing below it has any influence."""
    x = torch.randn(3, 1, 8, 8).double()
    model = vit.build(SETTINGS, signature(1, 8, 8)).double()
    kernels = modular_ntk(model, vit.partition(SETTINGS, model), {"x": x}, "trace")
    assert all(kernel.trace() > 0 for kernel in kernels.values())
    model.heads.head.weight.data.zero_()  # control
    kernels = modular_ntk(model, vit.partition(SETTINGS, model), {"x": x}, "trace")
    assert not any(kernel.any() for kernel in kernels.values())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels_is_projected_alike(channels):
    model = vit.build(vit.Settings(), signature(channels, 64, 64))
    assert model.conv_proj.weight.shape == (192, channels, 8, 8)
    assert model.conv_proj.weight.std().item() == pytest.approx((channels * 64) ** -0.5, rel=0.05)
    assert not model.conv_proj.bias.any()
    assert model(torch.zeros(1, channels, 64, 64)).shape == (1, 5)


def test_work_by_hand():
    """Four patches of 4 x 4 x 2 and the class token; 3 images; 7 neurons."""
    settings = vit.Settings(patch=4, layers=1, width=12, heads=3, mlp=7)
    work = vit.work(settings, signature(2, 8, 8), 3)
    tokens, projection, head = 3 * 5, 3 * 4 * 32 * 12, 3 * 12 * 5
    assert work["layer0.head1"].forward == tokens * (4 * 12 * 12 + 2 * 5 * 12) // 3
    assert work["layer0.ffn"] == (tokens * 2 * 12 * 7,) * 3
    assert work["remainder"] == (projection + head, projection + head, head)


@pytest.mark.parametrize("shape", [(3, 32, 64), (3, 36, 36)])
def test_images_that_do_not_fall_into_patches_are_refused(shape):
    for call in (vit.build, lambda *given: vit.work(*given, 1)):
        with pytest.raises(InputError, match="square images whose side patch=8 divides are expected, got"):
            call(vit.Settings(), signature(*shape))
