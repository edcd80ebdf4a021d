"""VGG: torchvision's plans by name, and narrow ones."""

import pytest
import torch
from torchvision.models.vgg import cfgs, make_layers

from mat.errors import InputError
from mat.experiments.models import vgg
from mat.experiments.task_signature import Signature

SIGNATURE = Signature("image_classification", {"x": torch.zeros(1, 3, 32, 32)}, 10)


@pytest.mark.parametrize(("name", "letter"), [("vgg11", "A"), ("vgg13", "B"), ("vgg16", "D"), ("vgg19", "E")])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_name_is_torchvisions_plan(name, letter, batch_norm):
    settings = vgg.Settings(plan=name, batch_norm=batch_norm)
    assert vgg.work(settings, SIGNATURE, 2) == vgg.work(vgg.Settings(plan=tuple(cfgs[letter])), SIGNATURE, 2)
    if name in ("vgg11", "vgg16"):
        with torch.device("meta"):
            ours, theirs = vgg.build(settings, SIGNATURE).features, make_layers(cfgs[letter], batch_norm)
        assert [(type(a), repr(a)) for a in ours] == [(type(b), repr(b)) for b in theirs]
        assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}


def test_a_factor_narrows_every_width():
    narrow = vgg.Settings(plan="vgg11", width=0.125)
    assert vgg.layers(narrow) == (8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M")
    assert vgg.layers(vgg.Settings(plan=(4, "M", 12), width=2)) == (8, "M", 24)
    model = vgg.build(narrow, SIGNATURE)
    assert [m.out_channels for m in model.features if isinstance(m, torch.nn.Conv2d)] == [8, 16, 32, 32] + [64] * 4
    assert model.classifier.in_features == 64
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match="plan has 5 poolings, too many for images of 16 pixels"):
        vgg.work(vgg.Settings(plan="vgg11"), Signature("image_classification", {"x": torch.zeros(1, 3, 16, 16)}, 10), 1)
