"""Gradient norms against plain automatic differentiation, against the kernel of the losses, and left as it was."""

import pytest
import torch
import torch.nn.functional as F

from mat.errors import InputError
from mat.kernels.ntk import modular_ntk
from mat.kernels.probes.gradient_norms import gradient_norms
from tests.cases import bert_case, logits, per_sample, switch_case, vgg_case, vit_case
from tests.rounding import ROUNDING


@pytest.mark.parametrize("make", [vgg_case, bert_case, vit_case, switch_case])
def test_norms_are_those_of_the_slices_of_the_mean_losss_gradient(make):
    case = make()
    case.model.eval()
    norms = gradient_norms(case.model, case.partition, case.inputs, case.labels, per_sample)
    per_sample(logits(case.model, case.inputs), case.labels).mean().backward()
    for module in case.partition.modules:
        found = [case.model.get_parameter(piece.parameter).grad for piece in module.slices]
        exact = sum(
            piece.of(grad).square().sum() for piece, grad in zip(module.slices, found, strict=True) if grad is not None
        )
        rounding = ROUNDING * max(norms.values())
        assert norms[module.name] == pytest.approx(float(exact) ** 0.5, rel=ROUNDING, abs=rounding)
    assert any(norms.values())


def test_the_norm_is_the_mean_of_the_loss_kernel():
    """‖g_l‖² = 1ᵀ Θ_l 1 / n², with Θ_l the kernel of the samples' losses."""
    case = bert_case()
    norms = gradient_norms(case.model, case.partition, case.inputs, case.labels, per_sample)
    kernels = modular_ntk(case.model, case.partition, case.inputs, "loss", labels=case.labels, loss=per_sample)
    for name, kernel in kernels.items():
        assert norms[name] ** 2 == pytest.approx(float(kernel.sum()) / len(case.labels) ** 2, rel=1e-9)


def test_the_model_is_left_as_it_was():
    case = vgg_case()
    case.model.train()
    case.model.features[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    torch.manual_seed(0)
    gradient_norms(case.model, case.partition, case.inputs, case.labels, per_sample)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))
    assert case.model.training and not case.model.features[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in case.model.parameters())
    after = case.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_loss_of_the_batch_is_refused_and_so_is_overflow():
    case = vgg_case()
    with pytest.raises(InputError, match=r"one value per sample, shape \(5,\), got \(\)"):
        gradient_norms(case.model, case.partition, case.inputs, case.labels, F.cross_entropy)
    with torch.no_grad():
        next(case.model.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        gradient_norms(case.model, case.partition, case.inputs, case.labels, per_sample)
