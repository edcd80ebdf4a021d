"""The sparse backward pass: modules outside the active set cost no weight gradient.

``exact``   only the weight gradients of inactive modules are skipped; every other gradient is the full one.
``detach``  inactive modules are constants: no weight gradient and no gradient through them. Where a residual
            path goes around them, it still carries its gradient. Cheaper, and biased.

The optimizer never sees a whole parameter that modules share: it sees one leaf tensor per slice
(``SparseBackward.parameters``), a view of the parameter's own storage. An inactive slice has no ``.grad``,
so no optimizer moves it, by momentum, decay or anything else, and its state is created when it first trains.
The model's classes, ``state_dict`` and forward results stay as they were; ``close`` undoes everything. Only for a
fused optimizer, and on a GPU, parameters that are cut along their columns are stored column by column while the
model is wrapped (``densify``); their shapes and values are the same.

How each layer runs is in ``mat.backward.layers``, attention in ``mat.backward.attention``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mat.backward.attention import Heads
from mat.backward.layers import Product, Whole, sparse_layer
from mat.backward.patching import Forward, InsideAttention, StandIn, ZeroGrad
from mat.errors import InputError
from mat.partition.partition import Partition, Slice
from mat.partition.projections import within

MODES = ("exact", "detach")
REFUSED = {
    torch.optim.LBFGS: "moves all parameters along directions of past steps, inactive ones too",
    torch.optim.SparseAdam: "takes sparse gradients only, and slices have dense ones",
}


class SparseBackward:
    """Gives ``model`` a backward pass that follows a set of active modules.

    >>> sparse = SparseBackward(model, partition, mode="detach")
    >>> optimizer = torch.optim.AdamW(sparse.parameters())
    >>> sparse.set_active({"layer0.head1", "layer1.ffn"})

    Raises InputError for an unknown mode, a layer that cannot be cut into slices (by name), a tied parameter
    inside a module, or a model that is wrapped already. Move the model to its device before wrapping it.
    """

    def __init__(self, model: nn.Module, partition: Partition, mode: str = "exact") -> None:
        if mode not in MODES:
            raise InputError(f"unknown backward mode {mode!r}; known: {', '.join(MODES)}")
        _refuse_wrapped(model)
        _refuse_tied(model, partition)
        self.model, self.partition, self.mode = model, partition, mode
        self._enabled, self._closed = True, False
        self._parameters = dict(model.named_parameters())
        self._layouts: dict[str, tuple[int, ...]] = {}
        self._pieces: dict[Slice, nn.Parameter] = {}
        self._owner: dict[Slice, str | None] = {}
        for owner, slices in [(m.name, m.slices) for m in partition.modules] + [(None, partition.remainder)]:
            for piece in slices:
                whole = self._parameters[piece.parameter]
                if not partition.is_whole(piece):
                    whole.grad = None  # its slices have gradients of their own from here on
                # detached and not .data: a step between a forward and its backward pass is then noticed, as ever
                leaf = whole if partition.is_whole(piece) else nn.Parameter(piece.of(whole.detach()))
                self._pieces[piece], self._owner[piece] = leaf, owner
        self._cut = {id(leaf) for piece, leaf in self._pieces.items() if not partition.is_whole(piece)}
        self._leaves = {id(leaf) for leaf in self._pieces.values()}
        self._shared = {
            name: self._parameters[name]
            for name in partition.shapes
            if id(self._parameters[name]) not in self._leaves
        }
        self._places = {
            name: (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
            for name in partition.shapes
        }
        self._dense_grads: dict[str, Tensor | None] = {}
        detach = mode == "detach"
        self._layers = {path: self._layer(path, detach) for path in _layer_paths(partition)}
        products = {id(p.weight): p for p in self._layers.values() if isinstance(p, Product)}
        self._cores = {attention.core: attention.heads for attention in partition.attentions}
        for path in self._layers:  # a user's own slices of it need no attention record
            if isinstance(model.get_submodule(path), nn.MultiheadAttention):
                self._cores.setdefault(path, ())
        self._inside = {
            core: [p for path, p in self._layers.items() if isinstance(p, Product) and within(path, core)]
            for core in self._cores
        }
        self._heads: dict[str, Heads | None] = dict.fromkeys(self._cores)
        if any(p.device.type != "cpu" for p in self._parameters.values()):
            self.densify()
        self.set_active(partition.names)
        self._stand_ins: list[StandIn] = [ZeroGrad(model, self.parameters)]
        for path, layer in self._layers.items():
            if path not in self._cores:
                self._override(path, layer)
        for path in self._cores:
            self._override(path, lambda own, *a, _path=path, **k: self._attend(_path, products, own, a, k))
        # the hook is global: it must not keep this object, or the model, alive
        check = weakref.WeakMethod(self._before_step)
        guard = register_optimizer_step_pre_hook(lambda *args: (found := check()) and found(*args))
        weakref.finalize(self, guard.remove)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trainable leaf once, modules first; a slice's name is ``parameter[start:stop]``."""
        for piece, leaf in self._pieces.items():
            whole = self.partition.is_whole(piece)
            yield piece.parameter if whole else f"{piece.parameter}[{piece.start}:{piece.stop}]", leaf

    def parameters(self) -> Iterator[nn.Parameter]:
        """The leaves that a ``torch.optim`` optimizer trains in place of ``model.parameters()``."""
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
        if self._closed:
            raise InputError(
                "this SparseBackward is closed; make a new one to train the model sparsely again"
            )
        self.active = frozenset(active)
        self._check_storage()
        for piece, leaf in self._pieces.items():
            if not self._is_active(piece):
                leaf.grad = None
        for layer in self._layers.values():
            layer.plan(self._is_active)
        if self.mode == "detach":
            for path, names in self._cores.items():
                found = [i for i, name in enumerate(names) if name in active]
                self._heads[path] = Heads(found, len(names)) if len(found) < len(names) else None

    def densify(self) -> None:
        """Store what is cut along its columns column by column, so that every leaf is dense in memory.

        A fused step reads memory in a row, and a leaf with gaps makes the others slow on a GPU. Products may then
        round in another order.
        """
        for piece, leaf in self._pieces.items():
            whole = self._parameters[piece.parameter]
            # empty_like keeps strides only where memory has no gaps
            if piece.parameter not in self._layouts and torch.empty_like(leaf).stride() != leaf.stride():
                self._layouts[piece.parameter] = whole.stride()
                whole.data = whole.data.movedim(piece.dim, 0).contiguous().movedim(0, piece.dim)
        for piece, leaf in self._pieces.items():
            if piece.parameter in self._layouts:
                leaf.data = piece.of(self._parameters[piece.parameter].data)
                if leaf.grad is not None:
                    leaf.grad = torch.empty_like(leaf).copy_(leaf.grad)

    @contextmanager
    def dense(self) -> Iterator[None]:
        """Within it the model runs its own, plain forward: for kernel probes and anything needing dense autograd."""
        before, self._enabled = self._enabled, False
        whole = [layer for layer in self._layers.values() if isinstance(layer, Whole)]
        for layer in whole:
            layer.plan(lambda piece: True)
        try:
            yield
        finally:
            self._enabled = before
            for layer in whole:
                layer.plan(self._is_active)
            self._dense_grads = {name: p.grad for name, p in self._parameters.items()}

    def close(self) -> None:
        """Give the model its plain forward, flags and memory layout back.

        Values stay. The leaves of cut parameters are the model's no longer: an optimizer that still holds them is
        refused at its next step.
        """
        self._closed = True
        for stand_in in self._stand_ins:
            stand_in.remove()
        for layer in self._layers.values():
            if isinstance(layer, Whole):
                layer.plan(lambda piece: True)
        for name, stride in self._layouts.items():
            whole = self._parameters[name]
            whole.data = torch.empty_strided(
                whole.shape, stride, dtype=whole.dtype, device=whole.device
            ).copy_(whole.data)

    def _layer(self, path: str, detach: bool):
        pieces: dict[str, list[tuple[Slice, nn.Parameter]]] = {}
        for piece in sorted(self._pieces, key=lambda p: (p.parameter, p.start)):
            owner_path, _, attribute = piece.parameter.rpartition(".")
            if owner_path == path:
                pieces.setdefault(attribute, []).append((piece, self._pieces[piece]))
        whole = all(self.partition.is_whole(piece) for found in pieces.values() for piece, _ in found)
        return sparse_layer(self.model.get_submodule(path), path, detach, pieces, whole)

    def _override(self, path: str, run: Callable) -> None:
        module = self.model.get_submodule(path)
        self._stand_ins.append(Forward(module, lambda: self._enabled and not self._closed, run))

    def _attend(self, path: str, products: dict[int, Product], own: Callable, args: tuple, kwargs: dict):
        heads = None if any(product.lent for product in self._inside[path]) else self._heads[path]
        with InsideAttention(products, heads):
            return own(*args, **kwargs)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        held = {id(leaf) for group in optimizer.param_groups for leaf in group["params"]}
        if self._closed:
            if held & self._cut:
                raise InputError(
                    "this optimizer holds slices of a model whose sparse backward pass was closed, so its steps would "
                    "move nothing; make a new optimizer of model.parameters()"
                )
            return
        for name, whole in self._shared.items():
            if self._enabled and id(whole) in held:
                raise InputError(
                    f"this optimizer holds {name!r} as a whole, but its slices have the gradients, so it would not "
                    "train; give it to controller.adopt, or build it of the sparse model's parameters()"
                )
        if held & self._leaves:
            refuse_optimizer(optimizer)
            self._check_storage()
            self._refuse_strays()
            if any(group.get("fused") for group in optimizer.param_groups):
                self.densify()

    def _refuse_strays(self) -> None:
        """Gradients where they should not be: on a whole parameter that is cut, or on something inactive."""
        for piece, leaf in self._pieces.items():
            whole = self._parameters[piece.parameter]
            past = whole.grad is not None and whole.grad is not self._dense_grads.get(piece.parameter)
            stray = leaf.grad is not None and not self._is_active(piece)
            if (leaf is not whole and past) or (stray and (leaf is not whole or past)):
                raise InputError(
                    f"{piece.parameter!r} got a gradient that is not as {self._owner[piece] or 'its part'!r} was "
                    "selected: its weight is used without calling its layer (then leave such modules to the remainder; "
                    "attention whose query, key and value are not one tensor: partition_model(model, heads=False)), or "
                    "what is active was changed between a forward pass and its backward pass"
                )

    def _is_active(self, piece: Slice) -> bool:
        owner = self._owner[piece]
        return owner is None or owner in self.active

    def _check_storage(self) -> None:
        for piece, leaf in self._pieces.items():
            module, attribute = self._places[piece.parameter]
            whole = module._parameters.get(attribute)
            if whole is not self._parameters[piece.parameter] or _memory(leaf) != _memory(whole):
                raise InputError(
                    f"{piece.parameter!r} was moved or replaced after wrapping, so the optimizer no longer trains "
                    "it; call model.to(...), or load a state with assign=True, first and wrap afterwards"
                )
            if leaf is not whole and not whole.requires_grad:
                raise InputError(
                    f"{piece.parameter!r} was frozen after wrapping; close the controller, and make the partition and "
                    "a new one of the model as it is now"
                )


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def refuse_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise InputError for an optimizer that cannot leave inactive slices alone."""
    for kind, why in REFUSED.items():
        if isinstance(optimizer, kind):
            raise InputError(
                f"{kind.__name__} {why}; use an optimizer that follows each parameter's gradient"
            )


def _refuse_wrapped(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module.__dict__.get("forward"), Forward):
            raise InputError(
                f"{type(model).__name__} is wrapped already ({path or 'the model'}); close the other Controller or "
                "SparseBackward first"
            )


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
