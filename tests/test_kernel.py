"""mNTKs: the fast estimator against per-sample autograd, finite differences, and exact facts of every kernel."""

import copy
import math

import numpy as np
import pytest
import torch

from mat.errors import InputError
from mat.kernel import modular_ntk, normalise
from mat.partition import Module, Partition, Slice
from mat.spectrum import eigenvalues, spectrum
from tests.cases import CASES, bert_case, logits, vgg_case

TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def naive_rows(case, slices):
    """Row i: ∇ (1/√k) Σ_c f_c(x_i) over ``slices``, by one backward pass per sample."""
    case.model.eval()
    parameters = dict(case.model.named_parameters())
    rows = []
    for i in range(len(case.labels)):
        output = logits(case.model, {k: v[i : i + 1] for k, v in case.inputs.items()})
        gradients = torch.autograd.grad(
            output.sum() / math.sqrt(output.numel()), parameters.values(), allow_unused=True
        )
        of = {
            n: torch.zeros_like(p) if g is None else g
            for (n, p), g in zip(parameters.items(), gradients, strict=True)
        }
        rows.append(torch.cat([s.of(of[s.parameter]).flatten() for s in slices]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", CASES)
def test_sum_of_logits_is_the_per_sample_loop(name):
    case = CASES[name]()
    grams = modular_ntk(case.model, case.partition, case.inputs)
    for module in case.partition.modules:
        rows = naive_rows(case, module.slices)
        torch.testing.assert_close(grams[module.name], rows @ rows.T, **TIGHT)


@pytest.mark.parametrize("name", CASES)
def test_modules_and_remainder_add_up_to_the_full_kernel(name):
    case = CASES[name]()
    grams = modular_ntk(case.model, case.partition, case.inputs)
    rest = naive_rows(case, case.partition.remainder)
    whole = naive_rows(case, [Slice(n, 0, 0, p.shape[0]) for n, p in case.model.named_parameters()])
    torch.testing.assert_close(sum(grams.values()) + rest @ rest.T, whole @ whole.T, **TIGHT)


@pytest.mark.parametrize("name", CASES)
def test_sum_of_logits_follows_from_full(name):
    """(1/k) Σ_cc' of the full kernel's (i, c), (j, c') entries, exactly."""
    case = CASES[name]()
    full = modular_ntk(case.model, case.partition, case.inputs, "full")
    grams = modular_ntk(case.model, case.partition, case.inputs)
    n = len(case.labels)
    for module, theta in full.items():
        k = len(theta) // n
        torch.testing.assert_close(theta.reshape(n, k, n, k).sum((1, 3)) / k, grams[module], **TIGHT)


def test_full_matches_finite_differences_of_the_outputs():
    case = vgg_case(batch=2)
    case.model.eval()
    module = case.partition.modules[0]
    columns, step = [], 1e-6
    with torch.no_grad():
        for piece in module.slices:
            view = piece.of(case.model.get_parameter(piece.parameter))
            for index in np.ndindex(*view.shape):
                value = view[index].item()
                view[index] = value + step
                above = logits(case.model, case.inputs).flatten()
                view[index] = value - step
                below = logits(case.model, case.inputs).flatten()
                view[index] = value
                columns.append((above - below) / (2 * step))
    jacobian = torch.stack(columns, 1)
    full = modular_ntk(case.model, case.partition, case.inputs, "full")[module.name]
    torch.testing.assert_close(full, jacobian @ jacobian.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("estimator", ["sum_of_logits", "full"])
def test_kernels_are_symmetric_positive_and_bounded_by_their_trace(name, estimator):
    case = CASES[name]()
    for gram in modular_ntk(case.model, case.partition, case.inputs, estimator).values():
        torch.testing.assert_close(gram, gram.T, **TIGHT)
        values = np.linalg.eigvalsh(gram.numpy())
        assert values.min() >= -1e-9 * max(values.max(), 1)
        measured = spectrum(gram)
        assert 0 <= measured.lambda_max <= measured.trace * (1 + 1e-12)
        assert 1 - 1e-9 <= measured.effective_rank <= len(gram) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_permuting_samples_permutes_the_kernel(name):
    case = CASES[name]()
    order = torch.randperm(len(case.labels))
    grams = modular_ntk(case.model, case.partition, case.inputs)
    permuted = modular_ntk(case.model, case.partition, {k: v[order] for k, v in case.inputs.items()})
    for module, gram in grams.items():
        torch.testing.assert_close(permuted[module], gram[order][:, order], **TIGHT)


def test_a_module_the_output_ignores_has_a_zero_kernel():
    case = vgg_case()
    with torch.no_grad():
        case.model.features[-3].weight[:4] = 0  # batch norm scales of the last convolution's first group
        case.model.features[-3].bias[:4] = -1  # and the ReLU behind it shuts the channels for good
    gram = modular_ntk(case.model, case.partition, case.inputs)["conv2.filters0"]
    assert torch.count_nonzero(gram) == 0
    assert spectrum(gram).lambda_max == spectrum(gram).effective_rank == 0


@pytest.mark.parametrize("estimator", ["sum_of_logits", "full"])
@pytest.mark.parametrize("name", CASES)
def test_a_probe_leaves_the_model_as_it_was(name, estimator):
    case = CASES[name]()
    case.model.train()
    frozen = next(case.model.parameters())
    case.loss().backward()
    frozen.requires_grad_(False)
    before = copy.deepcopy(case.model.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in case.model.parameters()]
    stream = torch.get_rng_state()
    try:
        modular_ntk(case.model, case.partition, case.inputs, estimator)
    except RuntimeError:
        assert estimator == "full"  # differentiating a parameter that takes no gradient
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(m.training for m in case.model.modules())
    assert not frozen.requires_grad and sum(p.requires_grad for p in case.model.parameters()) > 1
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())
    for p, g in zip(case.model.parameters(), grads, strict=True):
        assert (p.grad is None) == (g is None) and (g is None or torch.equal(p.grad, g))
    assert not any(m._forward_hooks for m in case.model.modules())


def test_unsupported_layers_and_names_are_refused():
    case = bert_case()
    with pytest.raises(InputError, match="unknown estimator"):
        modular_ntk(case.model, case.partition, case.inputs, "exactly")
    name = "bert.embeddings.position_embeddings.weight"
    partition = Partition.of(case.model, [Module("positions", "layer", 0, (Slice(name, 0, 0, 6),))])
    with pytest.raises(InputError, match=r"no per-sample gradient rule.*Embedding"):
        modular_ntk(case.model, partition, case.inputs)


def test_normalisations_in_closed_form():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]).double()
    gram = rows @ rows.T
    assert torch.equal(normalise(gram, "raw", 2), gram)
    assert torch.equal(normalise(gram, "per_parameter", 2), gram / 2)
    cosine = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]]).double()
    torch.testing.assert_close(normalise(gram, "cosine", 2), cosine)
    with pytest.raises(InputError, match="unknown normalisation"):
        normalise(gram, "unit", 2)


def test_spectra_in_closed_form():
    identity = spectrum(np.eye(5))
    assert (identity.lambda_max, identity.trace) == (1, 5) and math.isclose(identity.effective_rank, 5)
    rank_one = spectrum(np.ones((4, 4)))
    assert math.isclose(rank_one.lambda_max, 4) and math.isclose(rank_one.effective_rank, 1, abs_tol=1e-9)
    two = spectrum(np.diag([3.0, 1.0]))
    assert math.isclose(two.effective_rank, math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert list(eigenvalues(np.diag([1.0, 3.0, 2.0]))) == [3, 2, 1]
    with pytest.raises(ValueError, match="square"):
        spectrum(np.ones((2, 3)))
    with pytest.raises(FloatingPointError, match="not finite"):
        spectrum(np.array([[np.nan]]))
