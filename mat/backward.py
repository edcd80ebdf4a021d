"""The sparse backward pass: modules outside the active set cost no weight gradient.

``exact``   only the weight gradients of inactive modules are skipped; every other gradient is the full one.
``detach``  inactive modules are constants: no weight gradient and no gradient through them. Where a residual
            path goes around them, it still carries its gradient. Cheaper, and biased.

The optimizer never sees a whole parameter that modules share: it sees one leaf tensor per slice
(``SparseBackward.parameters``), a view of the parameter's own storage. An inactive slice has no ``.grad``,
so no optimizer moves it, by momentum, decay or anything else, and its state is created when it first trains.
The model's classes, ``state_dict`` and forward results stay as they were; ``close`` undoes everything.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from mat.errors import InputError
from mat.partition import Partition, Slice
from mat.sparse_ops import Plan, Rows, SparseConv2d, SparseLinear

MODES = ("exact", "detach")


class SparseBackward:
    """Gives ``model`` a backward pass that follows a set of active modules.

    >>> sparse = SparseBackward(model, partition, mode="detach")
    >>> optimizer = torch.optim.AdamW(sparse.parameters())
    >>> sparse.set_active({"layer0.head1", "layer1.ffn"})

    Raises InputError for an unknown mode, a layer type it cannot run sparsely (by name), or a tied parameter
    inside a module. Move the model to its device before wrapping it.
    """

    def __init__(self, model: nn.Module, partition: Partition, mode: str = "exact") -> None:
        if mode not in MODES:
            raise InputError(f"unknown backward mode {mode!r}; known: {', '.join(MODES)}")
        self.model, self.partition, self.mode = model, partition, mode
        self._enabled = True
        parameters = self._parameters = dict(model.named_parameters())
        for piece in (s for m in partition.modules for s in m.slices if not partition.is_whole(s)):
            parameters[piece.parameter].grad = None  # its slices have gradients of their own from here on
        _refuse_tied(model, partition)
        self._pieces: dict[Slice, nn.Parameter] = {}
        self._owner: dict[Slice, str | None] = {}
        for owner, slices in [(m.name, m.slices) for m in partition.modules] + [(None, partition.remainder)]:
            for piece in slices:
                whole = parameters[piece.parameter]
                leaf = whole if partition.is_whole(piece) else nn.Parameter(piece.of(whole.data))
                self._pieces[piece], self._owner[piece] = leaf, owner
        self._layers = {
            path: _layer(model.get_submodule(path), path, mode == "detach", self._of_layer(path))
            for path in _layer_paths(partition)
        }
        self._cores = {
            attention.core: (model.get_submodule(attention.core), attention.heads)
            for attention in partition.attentions
            if mode == "detach"
        }
        self._leaves = {id(leaf) for leaf in self._pieces.values()}
        self._dense_grads: dict[str, Tensor | None] = {}
        self._strided = {id(leaf) for leaf in self._pieces.values() if not leaf.is_contiguous()}
        self._head_plans: dict[str, Rows] = {}
        self.set_active(partition.names)
        for path, layer in self._layers.items():
            self._override(model.get_submodule(path), layer)
        for path, (core, _) in self._cores.items():
            self._override(core, lambda original, *a, _path=path, **k: self._attend(_path, original, a, k))
        # the hook is global: it must not keep this object, or the model, alive
        check = weakref.WeakMethod(self._before_step)
        self._guard = register_optimizer_step_pre_hook(lambda *args: (found := check()) and found(*args))
        weakref.finalize(self, self._guard.remove)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trainable leaf once, modules first; a slice's name is ``parameter[start:stop]``."""
        for piece, leaf in self._pieces.items():
            whole = self.partition.is_whole(piece)
            yield piece.parameter if whole else f"{piece.parameter}[{piece.start}:{piece.stop}]", leaf

    def parameters(self) -> Iterator[nn.Parameter]:
        """The leaves to hand to a ``torch.optim`` optimizer in place of ``model.parameters()``."""
        return (leaf for _, leaf in self.named_parameters())

    def module_parameters(self, module: str) -> list[nn.Parameter]:
        """The leaves of one module."""
        return [self._pieces[piece] for piece, owner in self._owner.items() if owner == module]

    def set_active(self, modules: Collection[str]) -> None:
        """Train these modules and the remainder from the next forward pass on; the others lose their ``.grad``.

        Raises InputError for a name that is not in the partition, and when a parameter has left the storage
        that the optimizer's leaves share (``model.to(...)`` after wrapping).
        """
        active = set(modules)
        unknown = active - set(self.partition.names)
        if unknown:
            raise InputError(f"not modules of this partition: {sorted(unknown)}")
        self.active = frozenset(active)
        self._check_storage()
        for piece, leaf in self._pieces.items():
            if not self._is_active(piece):
                leaf.grad = None
        for layer in self._layers.values():
            layer.plan(self._is_active)
        for path, (_, heads) in self._cores.items():
            runs = [(i, i + 1) for i, name in enumerate(heads) if name in active]
            device = next(self.model.parameters()).device
            self._head_plans[path] = Rows.of(runs, len(heads), device)

    @contextmanager
    def dense(self) -> Iterator[None]:
        """Within it the model runs its own, plain forward: for kernel probes and anything needing dense autograd."""
        before, self._enabled = self._enabled, False
        try:
            yield
        finally:
            self._enabled = before
            self._dense_grads = {name: p.grad for name, p in self._parameters.items()}

    def close(self) -> None:
        """Give the model its plain forward back; the leaves keep sharing its parameters' storage."""
        for path in [*self._layers, *self._cores]:
            self.model.get_submodule(path).__dict__.pop("forward", None)
        self._guard.remove()

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if any(id(leaf) in self._leaves for group in optimizer.param_groups for leaf in group["params"]):
            self._refuse_fused(optimizer)
            self._refuse_bypassed()

    def _refuse_bypassed(self) -> None:
        """A weight that its model uses without calling its layer gets its gradient past the leaves."""
        for piece, leaf in self._pieces.items():
            whole = self._parameters[piece.parameter]
            past = whole.grad is not None and whole.grad is not self._dense_grads.get(piece.parameter)
            if past and (leaf is not whole or not self._is_active(piece)):
                raise InputError(
                    f"{piece.parameter!r} is used without calling its layer, so {self._owner[piece] or 'its part'!r} "
                    "would not be trained as it is selected; leave such modules to the remainder (for attention in "
                    "torchvision's Swin: partition_model(model, heads=False))"
                )

    def _refuse_fused(self, optimizer: torch.optim.Optimizer) -> None:
        """Fused CPU steps read a leaf as if it were contiguous and would write into other modules' columns."""
        for group in optimizer.param_groups:
            if group.get("fused") and any(id(leaf) in self._strided for leaf in group["params"]):
                raise InputError(
                    "fused=True does not work with slices of a parameter, which are not contiguous; "
                    "use foreach=True"
                )

    def _is_active(self, piece: Slice) -> bool:
        owner = self._owner[piece]
        return owner is None or owner in self.active

    def _of_layer(self, path: str) -> dict[str, list[tuple[Slice, nn.Parameter]]]:
        """Pieces of one layer by attribute ('weight', 'bias'), in order of their place."""
        found: dict[str, list[tuple[Slice, nn.Parameter]]] = {}
        for piece in sorted(self._pieces, key=lambda p: (p.parameter, p.start)):
            owner_path, _, attribute = piece.parameter.rpartition(".")
            if owner_path == path:
                found.setdefault(attribute, []).append((piece, self._pieces[piece]))
        return found

    def _check_storage(self) -> None:
        parameters = dict(self.model.named_parameters())
        for piece, leaf in self._pieces.items():
            whole = parameters[piece.parameter]
            if leaf.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
                raise InputError(
                    f"{piece.parameter!r} was moved or replaced after wrapping, so the optimizer no longer trains "
                    "it; call model.to(...) first and wrap afterwards"
                )

    def _override(self, module: nn.Module, run: Callable) -> None:
        module.forward = _Forward(module, self, run)

    def _attend(self, path: str, original: Callable, args: tuple, kwargs: dict):
        plan = self._head_plans[path]
        if plan.index is None or plan.empty:  # all or none: nothing to split, the projections decide alone
            return original(*args, **kwargs)
        with _SplitHeads(plan):
            return original(*args, **kwargs)


class _Forward:
    """What a wrapped layer's ``forward`` is: the sparse one where gradients are wanted, else its own.

    A copy or a pickle of the model is a plain model: this becomes the class's own forward, bound to the copy.
    """

    def __init__(self, module: nn.Module, sparse: SparseBackward, run: Callable) -> None:
        self.module, self.sparse, self.run, self.original = module, sparse, run, module.forward

    def __call__(self, *args, **kwargs):
        if not (self.sparse._enabled and torch.is_grad_enabled()):
            return self.original(*args, **kwargs)
        if torch.is_autocast_enabled(next(self.sparse.model.parameters()).device.type):
            raise InputError("the sparse backward pass does not run under autocast yet; disable autocast")
        return self.run(self.original, *args, **kwargs)

    def __deepcopy__(self, memo: dict) -> MethodType:
        return _own_forward(memo[id(self.module)])

    def __reduce__(self):
        return _own_forward, (self.module,)


def _own_forward(module: nn.Module) -> MethodType:
    """The forward of the module's class, bound to it."""
    return MethodType(type(module).forward, module)


class _SplitHeads(TorchFunctionMode):
    """Runs scaled_dot_product_attention twice, with and without gradient, so inactive heads have no backward.

    With dropout on the attention weights the call is left whole, because splitting it would change the
    random stream: inactive heads then receive a zero gradient and the work is spent; the ledger counts it.
    """

    def __init__(self, plan: Rows) -> None:
        self.plan = plan

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        named = dict(
            zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)
        )
        named.update(kwargs)
        q, k, v, mask = (named.pop(name, None) for name in ("query", "key", "value", "attn_mask"))
        same_heads = q.dim() == 4 and q.shape[1] == k.shape[1] == v.shape[1]
        if named.get("dropout_p", 0.0) or not same_heads or (mask is not None and mask.requires_grad):
            return func(*args, **kwargs)
        heads = q.shape[1]
        on = torch.zeros(heads, dtype=torch.bool, device=q.device)
        on[self.plan.index] = True
        active, inactive = on.nonzero().flatten(), (~on).nonzero().flatten()

        def attend(index: Tensor) -> Tensor:
            part = mask.index_select(1, index) if _per_head(mask, heads) else mask
            return func(*(t.index_select(1, index) for t in (q, k, v)), attn_mask=part, **named)

        trained = attend(active)
        with torch.no_grad():
            constant = attend(inactive)
        return torch.cat([trained, constant], 1).index_select(1, torch.cat([active, inactive]).argsort())


def _per_head(mask: Tensor | None, heads: int) -> bool:
    return mask is not None and mask.dim() == 4 and mask.shape[1] == heads and heads > 1


def _refuse_tied(model: nn.Module, partition: Partition) -> None:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    tied = {name for group in names.values() if len(group) > 1 for name in group}
    for module in partition.modules:
        for piece in module.slices:
            if piece.parameter in tied:
                raise InputError(
                    f"{piece.parameter!r} is tied; leave it to the remainder, not to {module.name!r}"
                )


def _layer_paths(partition: Partition) -> list[str]:
    pieces = [piece for module in partition.modules for piece in module.slices]
    return list(dict.fromkeys(piece.parameter.rpartition(".")[0] for piece in pieces))


Pieces = dict[str, list[tuple[Slice, nn.Parameter]]]


def _layer(layer: nn.Module, path: str, detach: bool, pieces: Pieces):
    if isinstance(layer, nn.Linear):
        return _Product(layer, detach, pieces, _run_linear)
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise InputError(
                f"{path!r}: only convolutions with one group and numeric zero padding can be sparse"
            )
        if any(piece.dim for piece, _ in pieces["weight"]):
            raise InputError(f"{path!r}: a convolution is cut along its output channels (dimension 0) only")
        return _Product(layer, detach, pieces, _run_conv2d)
    if isinstance(layer, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
        return _Assembled(layer, pieces)
    raise InputError(
        f"{path!r} is a {type(layer).__name__}, which has no sparse backward pass; leave it to the remainder. "
        "Known: Linear, Conv2d, BatchNorm2d, LayerNorm, GroupNorm"
    )


class _Product:
    """A Linear or Conv2d: its plan for the current active set, and the call that follows it."""

    def __init__(self, layer: nn.Module, detach: bool, pieces: Pieces, run: Callable) -> None:
        self.layer, self.detach, self.run = layer, detach, run
        self.weight, self.bias = pieces["weight"], pieces.get("bias", [])
        self.dim = next((piece.dim for piece, _ in self.weight if piece.stop - piece.start), 0)

    def plan(self, is_active: Callable[[Slice], bool]) -> None:
        weight = [(piece, leaf) for piece, leaf in self.weight if is_active(piece)]
        bias = [(piece, leaf) for piece, leaf in self.bias if is_active(piece)]
        device = self.layer.weight.device
        self.current = Plan(
            self.dim,
            Rows.of([(p.start, p.stop) for p, _ in weight], self.layer.weight.shape[self.dim], device),
            Rows.of([(p.start, p.stop) for p, _ in bias], len(self.layer.bias) if bias else 0, device),
            self.detach,
        )
        self.leaves = [leaf for _, leaf in weight + bias]

    def __call__(self, original: Callable, x: Tensor) -> Tensor:
        if self.detach and self.current.weight.empty:
            x = x.detach()
        return self.run(self.layer, x, self.current, self.leaves)


def _run_linear(layer: nn.Linear, x: Tensor, plan: Plan, leaves: list[Tensor]) -> Tensor:
    bias = None if layer.bias is None else layer.bias.detach()
    return SparseLinear.apply(x, layer.weight.detach(), bias, plan, *leaves)


def _run_conv2d(layer: nn.Conv2d, x: Tensor, plan: Plan, leaves: list[Tensor]) -> Tensor:
    bias = None if layer.bias is None else layer.bias.detach()
    geometry = (layer.stride, layer.padding, layer.dilation)
    return SparseConv2d.apply(x, layer.weight.detach(), bias, plan, geometry, *leaves)


class _Assembled:
    """A layer with short parameters: they are put together from the leaves, inactive ones as constants."""

    def __init__(self, layer: nn.Module, pieces: Pieces) -> None:
        self.layer, self.pieces = layer, pieces

    def plan(self, is_active: Callable[[Slice], bool]) -> None:
        self.active = {piece for found in self.pieces.values() for piece, _ in found if is_active(piece)}

    def __call__(self, original: Callable, x: Tensor) -> Tensor:
        table = self.layer._parameters
        saved = dict(table)
        for attribute, found in self.pieces.items():
            parts = [leaf if piece in self.active else leaf.detach() for piece, leaf in found]
            table[attribute] = parts[0] if len(parts) == 1 else torch.cat(parts)
        try:
            return original(x)
        finally:
            table.update(saved)
