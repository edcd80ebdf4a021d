"""Which operators a ledger of compute may leave out, and a bound on the work of one that it does not know.

Ledgers count products: matrix products and convolutions. An operator that is neither counted nor *free*, as
defined here, is unknown, and a ledger refuses it by name instead of reading it as zero.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mat.errors import InputError

NEGLIGIBLE = 1e-3  # share of the counted work below which an unknown operator is let through

# Beside views and pointwise operators, which PyTorch marks itself. In-place and _foreach_ variants are meant too.
_GROUPS = {
    "memory: allocation, copies, changes of place or type": """
        empty empty_like empty_strided empty_permuted new_empty new_empty_strided zeros zeros_like new_zeros zero ones
        ones_like new_ones full full_like new_full fill scalar_tensor arange linspace eye clone copy _to_copy to
        type_as contiguous resize set lift lift_fresh lift_fresh_copy reshape _reshape_alias
        as_strided cat stack hstack vstack concat pad constant_pad_nd reflection_pad1d reflection_pad2d
        replication_pad1d replication_pad2d repeat repeat_interleave tile roll flip tril triu tril_indices triu_indices
        pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im unfold_backward slice_backward select_backward
        slice_scatter select_scatter diagonal_scatter diag_embed meshgrid size item _local_scalar_dense is_nonzero
        equal allclose _assert_async _assert_scalar _functional_sym_constrain_range _chunk_cat _pack_padded_sequence
        _pad_packed_sequence record_stream _has_compatible_shallow_copy_type
        _fused_sdp_choice is_same_size _efficientzerotensor
    """,
    "indexing, sorting, counting": """
        index index_select index_put _index_put_impl index_add index_copy index_fill
        gather scatter scatter_add scatter_reduce masked_select masked_scatter take put nonzero nonzero_static argwhere
        one_hot bincount histc unique _unique2 unique_dim unique_consecutive sort argsort topk kthvalue searchsorted
        bucketize embedding embedding_dense_backward embedding_backward embedding_renorm _embedding_bag
        _embedding_bag_forward_only _embedding_bag_dense_backward diff floor_divide
    """,
    "reductions and scans": """
        sum nansum mean prod max min amax amin aminmax argmax argmin all any count_nonzero var var_mean std std_mean
        norm linalg_vector_norm native_norm logsumexp median nanmedian mode cumsum cumprod cummax cummin logcumsumexp
    """,
    "softmax, normalisation, dropout": """
        softmax _softmax _safe_softmax _softmax_backward_data log_softmax _log_softmax _log_softmax_backward_data
        _masked_softmax _masked_softmax_backward batch_norm native_batch_norm _native_batch_norm_legit
        _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update batch_norm_backward
        native_batch_norm_backward cudnn_batch_norm cudnn_batch_norm_backward miopen_batch_norm
        miopen_batch_norm_backward batch_norm_stats batch_norm_elemt batch_norm_backward_reduce
        batch_norm_backward_elemt batch_norm_gather_stats_with_counts batch_norm_update_stats layer_norm
        native_layer_norm native_layer_norm_backward group_norm native_group_norm native_group_norm_backward
        instance_norm rms_norm _fused_rms_norm _fused_rms_norm_backward _weight_norm _weight_norm_interface
        _weight_norm_interface_backward dropout feature_dropout native_dropout native_dropout_backward _fused_dropout
        _masked_scale
    """,
    "pooling, resampling, losses, activations that PyTorch does not mark as pointwise": """
        max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool2d_with_indices_backward
        max_pool3d_with_indices max_pool3d_with_indices_backward max_unpool2d avg_pool1d avg_pool2d avg_pool3d
        avg_pool2d_backward avg_pool3d_backward adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        _adaptive_avg_pool2d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d _adaptive_avg_pool3d_backward
        adaptive_max_pool2d adaptive_max_pool2d_backward upsample_nearest1d upsample_nearest2d
        upsample_nearest2d_backward upsample_bilinear2d upsample_bilinear2d_backward upsample_bicubic2d
        upsample_bicubic2d_backward _upsample_bicubic2d_aa _upsample_bicubic2d_aa_backward _upsample_bilinear2d_aa
        _upsample_bilinear2d_aa_backward nll_loss nll_loss_forward nll_loss_backward nll_loss2d_forward
        nll_loss2d_backward cross_entropy_loss mse_loss mse_loss_backward smooth_l1_loss smooth_l1_loss_backward
        huber_loss huber_loss_backward binary_cross_entropy binary_cross_entropy_backward
        binary_cross_entropy_with_logits kl_div _prelu_kernel _prelu_kernel_backward glu glu_backward glu_jvp
        rrelu_with_noise log_sigmoid log_sigmoid_forward log_sigmoid_backward
    """,
    "random numbers": """
        bernoulli uniform normal rand rand_like randn randn_like randint randint_like randperm random exponential
        multinomial geometric log_normal cauchy
    """,
    "optimizers' steps, elementwise, which mat.flops.executed.elementwise_macs counts on a line of its own": """
        _fused_adam _fused_adamw _fused_sgd _fused_adagrad _amp_foreach_non_finite_check_and_unscale _amp_update_scale
    """,
}
_COPIES = frozenset(_GROUPS["memory: allocation, copies, changes of place or type"].split())
FREE = frozenset(name for names in _GROUPS.values() for name in names.split())


@cache
def is_free(name: str) -> bool:
    """Whether an operator ('aten::add_') does no products: a view, a pointwise operator, communication between
    processes, or one of ``FREE``."""
    namespace, _, operator = name.partition("::")
    if namespace == "prim":  # a trace's own nodes; calls of Python or scripted functions may do anything
        return not operator.startswith(("PythonOp", "CallFunction"))
    known = namespace in ("aten", "prims") and any(map(_does_no_products, _variants(operator)))
    return known or namespace == "c10d"


@cache
def is_pointwise(name: str) -> bool:
    """Whether an operator ('aten::_foreach_mul_') computes every entry of its output from one of each input.

    Copies do not compute, though PyTorch marks some of them as pointwise.
    """
    namespace, _, operator = name.partition("::")
    variants = list(_variants(operator))
    return (
        namespace in ("aten", "prims")
        and not _COPIES.intersection(variants)
        and any(torch.Tag.pointwise in o.tags for variant in variants for o in overloads(variant))
    )


def _variants(operator: str) -> Iterable[str]:
    """The operator, and what it is a variant of: add_ → add, _foreach_add_ → add, unsafe_split → split."""
    yield operator
    if operator.endswith("_") and not operator.endswith("__"):
        operator = operator[:-1]
        yield operator
    if operator.startswith("_foreach_"):
        yield operator.removeprefix("_foreach_")
    for prefix in ("unsafe_", "_unsafe_"):  # of a view: its output is checked for less
        if operator.startswith(prefix):
            yield operator.removeprefix(prefix)
    if operator.endswith("_copy"):  # of a view: its output is memory of its own
        yield operator.removesuffix("_copy")


@cache
def _does_no_products(operator: str) -> bool:
    return operator in FREE or any(
        overload.is_view or torch.Tag.pointwise in overload.tags for overload in overloads(operator)
    )


def overloads(operator: str) -> list[Any]:
    """Of the ATen operator of that name; none where there is no such."""
    packet = getattr(torch.ops.aten, operator, None)
    return [] if packet is None else [getattr(packet, overload) for overload in packet.overloads()]


def bound_macs(inputs: Sequence[int], outputs: Sequence[int]) -> float:
    """A bound on the MACs of an unknown operator from the sizes (numbers of entries) of its tensors.

    √(|A|·|B|·|out|) with the two largest inputs: exact for a matrix product, too high for a batch of them.
    With one input, its size. An operator that only writes in place counts as putting out its largest input.
    """
    largest = sorted(inputs, reverse=True)[:2]
    if len(largest) < 2:
        return float(max([*inputs, *outputs], default=0))
    return math.sqrt(largest[0] * largest[1] * max(outputs, default=largest[0]))


def sizes(tree: Any) -> list[int]:
    """The number of entries of every tensor in nested arguments."""
    return [leaf.numel() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextmanager
def math_attention() -> Iterator[None]:
    """Attention as the products it is made of, which every ledger can see.

    A fused kernel recomputes the scores in its backward pass, and whether PyTorch's counter knows it depends on
    the release; nn.MultiheadAttention's fast path, taken without gradients, is one operator that none knows.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Products(TorchDispatchMode):
    """Counts ``flops``, of the operators that ran within and have a formula, and collects ``unknown``: by name a bound
    on the MACs of those that have none and are not free.

    ``formulas``: by operator, of its arguments and ``out_val``, as a FlopCounterMode holds them. That counts the same,
    and by submodule, which takes longer than many a small operator.
    """

    supports_higher_order_operators = True

    def __init__(self, formulas: Mapping[Any, Callable[..., int]]) -> None:
        super().__init__()
        self.formulas, self.flops = formulas, 0
        self.unknown: defaultdict[str, float] = defaultdict(float)
        self._known: dict[Any, tuple[Callable[..., int] | None, str]] = {}  # formula and name; free: neither

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self._known:
            formula = self.formulas.get(getattr(func, "_overloadpacket", func))
            if formula is None and isinstance(func, OpOverload):
                with self:
                    out = func.decompose(*args, **kwargs)
                if out is not NotImplemented:
                    return out
            name = func._schema.name if hasattr(func, "_schema") else str(func)
            self._known[func] = formula, "" if is_free(name) else name
        formula, name = self._known[func]
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        elif name:
            self.unknown[name] += bound_macs(sizes((args, kwargs)), sizes(out))
        return out


def refuse_unknown(unknown: dict[str, float], counted: float, ledger: str) -> None:
    """InputError that names the first operator of which the ledger may lack more than ``NEGLIGIBLE``."""
    for name, macs in sorted(unknown.items(), key=lambda item: -item[1]):
        if macs > NEGLIGIBLE * counted:
            raise InputError(
                f"the {ledger} ledger does not know the operator {name!r}: expected matrix products, convolutions "
                f"and operators without products, got up to {macs:.3g} MACs of it beside {counted:.3g} that are "
                "counted; register its formula with torch.utils.flop_counter.register_flop_formula, replace the "
                "operator, or, if it does no products, add its name to mat.flops.operators.FREE"
            )
