"""Every rule against plain autograd, through small models of one layer each, over random geometries."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.errors import InputError
from mat.kernels.recording.gradient_rules import RULES
from mat.kernels.recording.recorder import Recorder
from mat.partition.partition import Module, Partition, Slice
from tests.zoo import by_parameter, kernel_of, mean_logit, modular_ntk, naive_rows, randomise

FAST, SLOW = "one pass", "sample loop"


class Model(nn.Module):
    """``layer`` behind a fixed nonlinearity of the input, and a readout that is no module of the partition."""

    def __init__(self, layer: nn.Module, call=None) -> None:
        super().__init__()
        self.layer, self.call = layer, call or (lambda layer, x: layer(x))

    def forward(self, x):
        y = self.call(self.layer, x)
        return torch.stack([y.flatten(1).sin().sum(1), (y.flatten(1) ** 2).sum(1)], 1)


def compared(
    model: nn.Module, x: torch.Tensor, estimator="sum_of_logits", cotangents=mean_logit, rtol=1e-9, atol=1e-9, **options
):
    """The kernels of every parameter, which are those of plain autograd."""
    randomise(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernels = modular_ntk(model, by_parameter(model), {"x": x}, estimator, **options)
    for name, found in naive_rows(model, {"x": x}, cotangents).items():
        torch.testing.assert_close(kernels[name], kernel_of(found), rtol=rtol, atol=atol)
    return kernels


def check(model: nn.Module, x: torch.Tensor, expected: str = FAST, **options) -> None:
    assert set(compared(model, x, **options).ways.values()) == {expected}


def images(n=3, channels=4, size=6, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed)).double()


def tokens(n=3, length=5, width=4, seed=0):
    return torch.randn(n, length, width, generator=torch.Generator().manual_seed(seed)).double()


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same", "valid"]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    mode=st.sampled_from(["zeros", "circular", "reflect"]),
    bias=st.booleans(),
    one=st.booleans(),
)
def test_convolutions_of_any_geometry(kernel, stride, padding, dilation, groups, mode, bias, one):
    if padding == "same":
        stride = 1
    kind, x = (nn.Conv1d, tokens(3, 4, 9)) if one else (nn.Conv2d, images())
    check(Model(kind(4, 8, kernel, stride, padding, dilation, groups, bias, mode)), x)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(4, 6), tokens()),
        (nn.Linear(4, 6, bias=False), tokens()[:, 0]),
        (nn.LayerNorm(4), tokens()),
        (nn.LayerNorm((5, 4)), tokens()),
        (nn.RMSNorm(4), tokens()),
        (nn.GroupNorm(2, 4), images()),
        (nn.GroupNorm(2, 4), tokens()[:, 0]),
        (nn.BatchNorm2d(4), images()),
        (nn.BatchNorm1d(4), tokens()[:, 0]),
        (nn.Bilinear(4, 4, 3), None),
        (nn.ConvTranspose2d(4, 3, 2), images()),
        (nn.PReLU(4), images()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_of_torch(layer, x):
    """Those without a rule take the slow way and are just as exact."""
    ruled = not isinstance(layer, nn.Bilinear | nn.ConvTranspose2d | nn.PReLU)
    if isinstance(layer, nn.Bilinear):
        check(Model(layer, lambda layer, x: layer(x, x.cos())), tokens()[:, 0], SLOW)
    else:
        check(Model(layer), x, FAST if ruled else SLOW)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kv", ["self", "cross", "three"])
def test_the_fused_projection_of_multihead_attention(batch_first, kv):
    layer = nn.MultiheadAttention(4, 2, batch_first=batch_first)

    def call(layer, x):
        q = x if batch_first else x.transpose(0, 1)
        k, v = {"self": (q, q), "cross": (q.cos(),) * 2, "three": (q.cos(), q.sin())}[kv]
        out = layer(q, k, v, need_weights=False)[0]
        return out if batch_first else out.transpose(0, 1)

    check(Model(layer, call), tokens())
    check(Model(layer, call), tokens(5, 5))  # as many positions as samples


def test_attention_with_separate_projections():
    layer = nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True, add_bias_kv=False)
    check(Model(layer, lambda layer, x: layer(x, x[..., :3], x[..., :2], need_weights=False)[0]), tokens())


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_whole_transformer_layer(norm_first):
    check(Model(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=norm_first)), tokens())


class Bare(nn.Module):
    """Parameters that are used as they are: a class token, positions, scales, a weight by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, 4)), nn.Parameter(torch.zeros(1, 6, 4))
        self.scale, self.shift = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(6, 1))
        self.weight, self.back = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(4, 3))

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return (self.scale * x + self.shift).tanh() @ self.weight @ self.back.T


def test_bare_parameters():
    check(Model(Bare()), tokens())


class Stacked(nn.Module):
    """Experts in one parameter, used by views of it, and rows chosen by data."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.zeros(3, 5, 4))
        self.shift = nn.Parameter(torch.zeros(3, 5))

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        chosen = (flat.sum(1) > 0).long() + (flat[:, 0] > 0.5)
        out = flat.new_zeros(len(flat), 5)
        for e in range(3):
            rows = torch.where(chosen == e)[0]
            out = out.index_add(0, rows, F.linear(flat[rows], self.experts[e], self.shift[e]))
        return out.reshape(*x.shape[:-1], 5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("estimator", ["sum_of_logits", "projected"])
def test_rows_in_any_order_find_their_samples(seed, estimator):
    model, x = Model(Stacked()), tokens(4, 7, seed=seed)
    if estimator == "sum_of_logits":
        return check(model, x)
    units = lambda out, i: [F.one_hot(torch.tensor(c), 2)[None].double() for c in range(2)]  # noqa: E731
    check(model, x, estimator="trace", cotangents=units)


class Latent(nn.Module):
    """Parameters as the input of a layer and on the left of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.latent = nn.Parameter(torch.zeros(6, 5)), nn.Parameter(torch.zeros(6, 4))
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return (self.left @ x).tanh() * self.layer(self.latent)


def also_on_the_left(layer, x):
    return layer(x) @ (layer.weight @ torch.arange(16.0, dtype=x.dtype).reshape(4, 4).cos())


@pytest.mark.parametrize("made", [lambda: Model(Latent()), lambda: Model(nn.Linear(4, 4, False), also_on_the_left)])
def test_a_parameter_in_an_unusual_place_takes_the_slow_way(made):
    check(made(), tokens(), SLOW, check=0)


def test_positions_first_is_seen_by_its_rows():
    check(Model(nn.Linear(4, 3), lambda layer, x: layer(x.transpose(0, 1)).transpose(0, 1)), tokens(3, 4))


def test_where_shapes_lie_rows_are_traced_or_the_check_tells():
    """As many positions as samples and positions first; or the samples in another order."""
    model = Model(nn.Linear(4, 3), lambda layer, x: layer(x.transpose(0, 1)).transpose(0, 1))
    check(model, tokens(5, 5), FAST)
    check(model, tokens(5, 5), FAST, verify=False)  # an ambiguous shape is traced in any case
    reversed_batch = Model(nn.Linear(4, 3), lambda layer, x: layer(x.flip(0)).flip(0))
    check(reversed_batch, tokens(), FAST)
    check(reversed_batch, tokens(), SLOW, verify=False)
    with pytest.raises(AssertionError):
        check(reversed_batch, tokens(), FAST, verify=False, check=0)


def sorted_by_value(layer, x):
    order = torch.argsort(x[:, 0, 0])
    return layer(x[order]).tanh()[torch.argsort(order)]


BALANCED = tokens(4, 2)
BALANCED[..., 0] = torch.tensor([[1, -1], [1, 1], [-1, -1], [1, -1]]) * BALANCED[..., 0].abs()


@torch.jit.script
def out_of_sight(x: torch.Tensor) -> torch.Tensor:
    return x.flip(0)


def experts(layers, x):
    """Two experts, which ``BALANCED`` sends as many tokens each as it has samples."""
    flat = x.reshape(-1, x.shape[-1])
    out, chosen = flat.new_zeros(len(flat), 3), (flat[:, 0] > 0).long()
    for e, layer in enumerate(layers):
        out = out.index_add(0, torch.where(chosen == e)[0], layer(flat[chosen == e]))
    return out.reshape(*x.shape[:-1], 3)


def windows(layer, x):
    rows = x.reshape(-1, 3, 4).transpose(0, 1)
    return layer(rows, rows, rows, need_weights=False)[0].transpose(0, 1).reshape(x.shape)


def one_by_one(layer, x):
    return torch.stack([layer(row, row, row, need_weights=False)[0] for row in x])


def repeated_positions(layer, x):
    return x * layer(torch.arange(5)[None]).repeat(len(x), 1, 1)


def without_gradient(layer, x):
    with torch.no_grad():
        fixed = layer(x)
    return layer(x.cos()) * fixed


def recomputed(layer, x):
    return torch.utils.checkpoint.checkpoint(lambda y: layer(y).tanh(), x, use_reentrant=False)


def cast(layer, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(x).double()


def standardised(layer, x):
    w = F.batch_norm(layer.weight.reshape(1, 3, -1), None, None, training=True).reshape_as(layer.weight)
    return F.linear(x, w, layer.bias)


def written_into(layer, x):
    h = (layer.scale * x).clone()
    h[x[..., 0] > 0] = layer.scale
    return h.tanh()


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.empty = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4, 0))


def by_keyword(layer, x):
    return torch.mm(x.reshape(-1, 4), mat2=layer.weight.T).reshape(*x.shape[:-1], 3)


UNUSUAL = {
    "sorted": (lambda: nn.Linear(4, 3), sorted_by_value, tokens(4), FAST),
    "flipped out of sight": (
        lambda: nn.Linear(4, 3),
        lambda layer, x: out_of_sight(layer(x.flip(0))).tanh(),
        tokens(),
        FAST,
    ),
    "balanced experts": (lambda: nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)]), experts, BALANCED, FAST),
    "windows": (lambda: nn.MultiheadAttention(4, 2), windows, tokens(2, 6), FAST),
    "one by one": (lambda: nn.MultiheadAttention(4, 2), one_by_one, tokens(3, 5), FAST),
    "repeated positions": (lambda: nn.Embedding(5, 4), repeated_positions, tokens(), SLOW),
    "without gradient": (lambda: nn.Linear(4, 3), without_gradient, tokens(), FAST),
    "by its data": (
        lambda: nn.Linear(4, 3),
        lambda layer, x: F.linear(x, layer.weight.data) * layer(x),
        tokens(),
        FAST,
    ),
    "sparse gradients": (
        lambda: nn.EmbeddingBag(7, 4, sparse=True, mode="sum"),
        lambda e, x: e((x[..., 0].abs() * 3).long().clamp(0, 6)),
        tokens(),
        SLOW,
    ),
    "standardised weights": (lambda: nn.Linear(4, 3), standardised, tokens(), SLOW),
    "written into": (Scale, written_into, tokens(), SLOW),
    "by keyword": (lambda: nn.Linear(4, 3, bias=False), by_keyword, tokens(), SLOW),
    "view of another width": (
        lambda: nn.Linear(6, 4, bias=False),
        lambda layer, x: x @ layer.weight.view(6, 4)[:4],
        tokens(),
        SLOW,
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_uses_are_exact_one_way_or_the_other(name):
    make, call, x, way = UNUSUAL[name]
    model = Model(make(), call)
    kernels = compared(model, x)
    for parameter, tensor in model.named_parameters():
        if tensor.numel():
            assert kernels.ways[parameter] == way or parameter.endswith("bias")


def test_a_model_that_squeezes_its_output_is_no_mistake_of_the_pass():
    model = Model(nn.Linear(4, 3))
    squeezing = Model(model.layer, lambda layer, x: layer(x))
    squeezing.forward = lambda x: model(x).squeeze()
    randomise(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels = modular_ntk(squeezing, by_parameter(squeezing), {"x": tokens()})
    plain = modular_ntk(model, by_parameter(model), {"x": tokens()})
    for name, gram in kernels.items():
        torch.testing.assert_close(gram, plain[name])


def test_frozen_layers_do_not_take_a_fused_way_that_is_another_function():
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x, mask):
            return self.encoder(x, src_key_padding_mask=mask).flatten(1).sin().sum(1, keepdim=True)

    model = randomise(Padded())
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    whole = by_parameter(model)
    partition = Partition.of(model, [m for m in whole.modules if "layers.1.linear" in m.name])
    before = torch.backends.mha.get_fastpath_enabled()
    kernels = modular_ntk(model, partition, {"x": tokens(), "mask": mask})
    assert torch.backends.mha.get_fastpath_enabled() == before
    torch.backends.mha.set_fastpath_enabled(False)
    rows = naive_rows(model, {"x": tokens(), "mask": mask}, lambda out, i: [torch.ones_like(out)])
    torch.backends.mha.set_fastpath_enabled(before)
    for name, gram in kernels.items():
        torch.testing.assert_close(gram, kernel_of(rows[name]))
        assert kernels.ways[name] == FAST


@pytest.mark.parametrize("call", [recomputed, cast])
def test_recomputing_and_casting_models_are_probed(call):
    compared(Model(nn.Linear(4, 3), call), tokens(), rtol=1e-2, atol=1e-6)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=2)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embedding.weight

    def forward(self, x):
        ids = (x[..., 0].abs() * 3).long().clamp(0, 6)
        return self.decoder(self.embedding(ids).tanh())


def test_a_tied_embedding_is_two_uses_of_one_parameter():
    check(Model(Tied()), tokens(4, 6))


def test_a_layer_called_twice_adds_up_before_it_is_multiplied():
    check(Model(nn.Linear(4, 4), lambda layer, x: layer(layer(x).tanh())), tokens())


def test_positions_without_samples_count_for_each():
    layer = nn.Embedding(5, 4)
    check(Model(layer, lambda layer, x: x * layer(torch.arange(5)[None])), tokens())


def test_batch_statistics_are_refused():
    model = Model(nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(InputError, match="batch's own statistics"):
        modular_ntk(randomise(model), by_parameter(model), {"x": tokens()[:, 0]})


def test_an_unused_parameter_has_a_zero_kernel_and_one_used_out_of_sight_has_its_own():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)
            self.scripted = torch.jit.script(nn.Linear(4, 4))

        def forward(self, x):
            return self.scripted(self.used(x))

    model, x = randomise(Model(Hidden())), tokens()
    with pytest.warns(UserWarning, match="scripted"):
        kernels = modular_ntk(model, by_parameter(model), {"x": x})
    for name, found in naive_rows(model, {"x": x}, mean_logit).items():
        torch.testing.assert_close(kernels[name], kernel_of(found))
    assert kernels.ways["layer.unused.weight"] == FAST and kernels["layer.unused.weight"].abs().max() == 0
    assert kernels.ways["layer.scripted.weight"] == SLOW


def test_shape_and_attributes_of_a_parameter_are_no_use_of_it():
    def call(layer, x):
        assert layer.weight.dtype == x.dtype and layer.weight.shape[1] == x.shape[-1]
        return layer(x) / layer.weight.size(0)

    check(Model(nn.Linear(4, 3), call), tokens())


def test_every_rule_is_named_by_a_function_that_a_mode_sees():
    seen = set()

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.add(func)
            return func(*args, **(kwargs or {}))

    x, w = torch.randn(3, 4), torch.randn(4, 4)
    image, kernel = torch.randn(2, 4, 5, 5), torch.randn(4, 4, 1, 1)
    with Spy():
        F.linear(x, w), F.embedding(torch.tensor([1]), w), F.layer_norm(x, (4,)), F.rms_norm(x, (4,))
        F.group_norm(image, 2), F.batch_norm(image, torch.zeros(4), torch.ones(4)), F.conv2d(image, kernel)
        F.conv1d(image[:, :, 0], kernel[..., 0]), torch.addmm(w[0], x, w), w[:1].expand(3, 4), 2 + x, 2 * x
        x @ w, torch.matmul(x, w), x.matmul(w), torch.mm(x, w), x.mm(w), w @ w
        x + x, x * x, torch.add(x, x), x.add(x), torch.mul(x, x), x.mul(x), x + 2, x * 2
    assert set(RULES) <= seen


def test_nothing_is_watched_outside_the_probe():
    assert torch.overrides._get_current_function_mode() is None
    model = randomise(Model(nn.Linear(4, 3)))
    with pytest.raises(ZeroDivisionError), Recorder(dict(model.named_parameters()), 3):
        model(tokens()) / (1 // 0)
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dim", [0, 1])
def test_channels_last_is_the_same_kernel_the_fast_way(groups, dim):
    """Weights and images in another order of memory, cut along filters and along their channels."""
    layer = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 2))
    model = randomise(Model(layer))
    names = ["layer.0.weight", "layer.2.weight"]
    cuts = [Module(f"{name}{a}", "filters", 0, (Slice(name, dim, a, a + 1),)) for name in names for a in (0, 1)]
    partition = Partition.of(model, cuts)
    plain = modular_ntk(model, partition, {"x": images()})
    model.to(memory_format=torch.channels_last)
    assert not layer[0].weight.is_contiguous()
    kernels = modular_ntk(model, partition, {"x": images().contiguous(memory_format=torch.channels_last)})
    assert set(kernels.ways.values()) == {FAST}
    for name, gram in kernels.items():
        torch.testing.assert_close(gram, plain[name], rtol=1e-12, atol=1e-12 * float(plain[name].abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [lambda: Stacked(), lambda: nn.Linear(4, 5)])
def test_low_precision_takes_the_fast_way_and_is_right_to_its_precision(make, dtype):
    """Rows are sent to experts and traced; more samples than the base of float16's digits."""
    model, x = randomise(Model(make())).to(dtype), tokens(11, 4).to(dtype)
    kernels = modular_ntk(model, by_parameter(model), {"x": x})
    assert set(kernels.ways.values()) == {FAST}
    rows = naive_rows(model.double(), {"x": x.double()}, mean_logit)
    for name, gram in kernels.items():
        exact = kernel_of(rows[name])
        scale = exact.diagonal().sqrt()
        # a few roundings on the way to each row, of which there are two in a product
        assert ((gram - exact).abs() <= 16 * torch.finfo(dtype).eps * scale[:, None] * scale).all(), name


POSITIONS = tokens(1, 5)


def test_the_warning_says_that_rows_could_not_be_traced():
    """One table for all samples, whose rows are of each of them."""
    model = randomise(Model(nn.Linear(4, 3), lambda layer, x: layer(POSITIONS).expand(len(x), -1, -1) * x[..., :1]))
    with pytest.warns(UserWarning, match="could not be traced to one sample each.*layer.weight"):
        modular_ntk(model, by_parameter(model), {"x": tokens()}, check=0)


def test_outputs_that_come_from_out_of_sight_are_traced():
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return out_of_sight(self.layer(x.flip(0)))

    check(Ends(), tokens(), FAST, check=0)


def test_rows_that_are_no_whole_number_a_sample_are_in_doubt():
    layer = nn.Linear(4, 2)
    recorder = Recorder(dict(layer.named_parameters()), 2)
    with recorder:
        out = layer(torch.ones(3, 4)).reshape(2, 3)
    assert [call.layout.rows for call in recorder.to_trace(out, verify=False)] == [3]
