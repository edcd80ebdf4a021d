"""The well-known sizes of well-known networks: parameters, and the closed form's forward pass against fvcore's."""

import pytest
import torch

from mat.experiments.models import bert, resnet, vgg, vit
from mat.experiments.models.closed_form import REMAINDER
from mat.experiments.task_signature import Signature
from mat.flops.nominal import nominal
from tests.cases import CASES


def images(size, outputs):
    return Signature("image_classification", {"x": torch.zeros(1, 3, size, size)}, outputs)


def text(objective, outputs, vocabulary=None, length=128):
    return Signature(objective, {"input_ids": torch.zeros(1, length, dtype=torch.long)}, outputs, vocabulary)


def parameters(family, settings, signature, part=lambda model: model):
    with torch.device("meta"):
        return sum(p.numel() for p in part(family.build(settings, signature)).parameters())


@pytest.mark.parametrize(
    ("family", "settings", "signature", "millions"),
    [
        (bert, {"size": "base", "positions": 512}, text("masked_lm", 30522), 109.51),
        (bert, {"size": "base", "positions": 512}, text("text_classification", 2, 30522), 109.48),
        (bert, {"size": "tiny", "positions": 512}, text("text_classification", 2, 30522), 4.39),  # as published
        (resnet, {}, images(224, 1000), 11.69),
        (resnet, {"blocks": (3, 4, 6, 3)}, images(224, 1000), 21.80),
        (vit, {"patch": 16, "layers": 12, "width": 768, "heads": 12}, images(224, 1000), 86.57),  # ViT-B/16
    ],
)
def test_parameters(family, settings, signature, millions):
    assert parameters(family, family.Settings(**settings), signature) / 1e6 == pytest.approx(millions, abs=0.005)


def test_parameters_of_vgg16s_features():
    settings = vgg.Settings(plan="vgg16", batch_norm=False)
    assert parameters(vgg, settings, images(32, 10), lambda model: model.features) == 14_714_688


@pytest.mark.parametrize(
    ("family", "settings", "signature", "macs"),
    [(resnet, {}, images(224, 1000), 1.81e9), (vgg, {"plan": "vgg16"}, images(32, 10), 313e6)],
)
def test_forward_macs_are_fvcores(family, settings, signature, macs):
    settings = family.Settings(**settings)
    work = family.work(settings, signature, 1)
    closed = sum(one.forward for one in work.values())
    assert closed == pytest.approx(macs, rel=0.005)
    model = family.build(settings, signature)
    counted = nominal(model, family.partition(settings, model), signature.example)
    assert counted.modules == {name: one.forward for name, one in work.items() if name != REMAINDER}
    assert closed <= counted.forward <= 1.01 * closed  # it counts norms and pooling too


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("switch")])
def test_forward_work_of_every_module_is_fvcores(name):
    case = CASES[name]()
    work = case.family.work(case.settings, case.signature, 1)
    counted = nominal(case.model, case.partition, case.example)
    assert counted.modules == {name: one.forward for name, one in work.items() if name != REMAINDER}
