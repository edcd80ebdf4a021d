"""The sparse backward pass: modules outside the active set cost no weight gradient.

``exact``   only the weight gradients of inactive modules are skipped; every other gradient is the full one.
``detach``  inactive modules are constants: no weight gradient and no gradient through them. Where a residual
            path goes around them, it still carries its gradient. Cheaper, and biased.
``detach_residual``  they are constants only where a parallel path leads around their layer, and nothing that lies below
            it in that residual branch is active (``mat.backward.branches``); anywhere else as in ``exact``, so that
            every active module is reached. Until ``look`` was called nothing is known, and all is exact.

The optimizer never sees a whole parameter that modules share: it sees one leaf tensor per slice
(``SparseBackward.parameters``), a view of the parameter's own storage. An inactive slice has no ``.grad``,
so no optimizer moves it, by momentum, decay or anything else, and its state is created when it first trains.
The model's classes, ``state_dict`` and forward results stay as they were; ``close`` undoes everything. Only for a
fused optimizer, and on a GPU, parameters that are cut along their columns are stored column by column while the
model is wrapped (``Leaves.densify``); their shapes and values are the same.

How each layer runs is in ``mat.backward.operators.layers``, attention in ``mat.backward.operators.attention``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from mat.backward.branches import Below, residual_branches
from mat.backward.leaves import Leaves
from mat.backward.operators.attention import Heads
from mat.backward.operators.layers import Product, SparseLayer, Whole, sparse_layer
from mat.backward.operators.patching import Forward, InsideAttention, Reduce, StandIn, ZeroGrad
from mat.backward.parallel import active_wrapper, refuse_alone, refuse_parallel, refuse_wrapper
from mat.backward.promises import Promises
from mat.backward.reducer import Reducer
from mat.backward.touched import Touched
from mat.errors import InputError
from mat.forward import measuring
from mat.modes import MODES
from mat.partition.partition import Partition, Slice
from mat.partition.projections import parent, shared_parameters, within

REFUSED = {
    torch.optim.LBFGS: "moves all parameters along directions of past steps, inactive ones too",
    torch.optim.SparseAdam: "takes sparse gradients only, and slices have dense ones",
}

# hooks of what is gone, which do nothing: garbage may be collected while an optimizer goes through its hooks, so they
# are taken out when the next ones come
_IDLE: list[Any] = []


class SparseBackward:
    """Gives ``model`` a backward pass that follows a set of active modules.

    >>> sparse = SparseBackward(model, partition, mode="detach")
    >>> optimizer = torch.optim.AdamW(sparse.parameters())
    >>> sparse.set_active({"layer0.head1", "layer1.ffn"})

    Raises InputError for an unknown mode, a layer that cannot be cut into slices (by name), a tied parameter
    inside a module, a model that is wrapped already, or one that is in parts or trained on several devices by one
    process. Move the model to its device before wrapping it.

    ``reached``: the modules of which a parameter had a gradient, one of zeros included, in a step of an optimizer; who
    counts steps clears it.

    Several processes train it through DistributedDataParallel, built before or afterwards; ``reducer``, once it has
    been called, averages the gradients of what is active (``mat.backward.reducer``).
    """

    def __init__(self, model: nn.Module, partition: Partition, mode: str = "exact") -> None:
        if mode not in MODES:
            raise InputError(f"unknown backward mode {mode!r}; known: {', '.join(MODES)}")
        refuse_parallel(model)
        _refuse_wrapped(model)
        _refuse_tied(model, partition)
        self.model, self.partition, self.mode = model, partition, mode
        self.leaves = Leaves(model, partition)
        self._enabled, self._closed, self.promises = True, False, Promises()
        self.reached: set[str] = set()
        self.touched = Touched(self.leaves.values())
        self.reducer: Reducer | None = None
        self._dense_grads: dict[str, Tensor | None] = {}
        paths = dict.fromkeys(parent(piece.parameter) for module in partition.modules for piece in module.slices)
        self._layers = {path: self._layer(path) for path in paths}
        self.branches: Below | None = None
        self._cores = _attentions(model, partition, self._layers)
        self._heads: dict[str, Heads | None] = dict.fromkeys(self._cores)
        if any(parameter.device.type != "cpu" for parameter in self.leaves.wholes.values()):
            self.leaves.densify()
        self.set_active(partition.names)
        self._stand_ins: list[StandIn] = [ZeroGrad(model, self.parameters), *self._forwards()]
        self._stand_ins += [Reduce(module) for module in {stand_in.module: None for stand_in in self._stand_ins}]
        while _IDLE:
            _IDLE.pop().remove()
        # the hooks are global: they must not keep this object, or the model, alive
        for register, method in (
            (register_optimizer_step_pre_hook, self._before_step),
            (register_optimizer_step_post_hook, self._after_step),
            (register_module_module_registration_hook, self._registered),
        ):
            check = weakref.WeakMethod(method)
            guard = register(lambda *args, check=check: (found := check()) and found(*args))
            weakref.finalize(self, _IDLE.append, guard)

    def _layer(self, path: str) -> SparseLayer:
        pieces = self.leaves.of_layer(path)
        whole = all(self.partition.is_whole(piece) for found in pieces.values() for piece, _ in found)
        attends = any(within(path, attention.core) for attention in self.partition.attentions)
        kinds = {module.name: module.kind for module in self.partition.modules}
        owners = {self.leaves.owner[piece] for found in pieces.values() for piece, _ in found} - {None}
        experts = all(kinds[owner] == "expert" for owner in owners if owner is not None)
        return sparse_layer(self.model.get_submodule(path), path, pieces, whole, attends, experts)

    def _forwards(self) -> Iterator[Forward]:
        """What stands in for the forward passes of layers, and of attentions and the products inside them."""
        products = {path: layer for path, layer in self._layers.items() if isinstance(layer, Product)}
        by_weight = {id(product.weight): product for product in products.values()}

        def attend(core: str) -> Callable[..., Any]:
            inside = [product for path, product in products.items() if within(path, core)]
            mine = self._layers.get(core)
            whole = mine if isinstance(mine, Whole) else None  # it has parameters of its own, such as position biases

            def run(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                heads = None if any(product.lent for product in inside) else self._heads[core]
                with InsideAttention(by_weight, heads, (*args, *kwargs.values())):
                    return own(*args, **kwargs) if whole is None else whole(own, *args, **kwargs)

            return run

        layers = {path: layer for path, layer in self._layers.items() if path not in self._cores}
        for path, run in {**layers, **{core: attend(core) for core in self._cores}}.items():
            inside = [layer for own, layer in self._layers.items() if own == path or within(own, path)]
            yield Forward(self.model.get_submodule(path), self._wanted, _trains(inside), run)
        if self.mode != "exact":
            yield from self._apart()

    def _apart(self) -> Iterator[Forward]:
        """Layers of the remainder, which leave a compiled graph: within it one whose output only constants read, such
        as the norm ahead of what is inactive, would get a gradient of zeros where it has none. Of what holds other
        modules only its own code leaves."""
        for path in dict.fromkeys(parent(piece.parameter) for piece in self.partition.remainder):
            layer = self.model.get_submodule(path)
            if path not in self._layers and path not in self._cores:
                inner = any(True for _ in layer.children())
                run = _own_code(layer.forward) if inner else _plainly
                yield Forward(layer, self._wanted, lambda: False, run, whole=not inner)

    def _wanted(self) -> bool:
        if self._closed or not self._enabled or measuring():
            return False
        self._meet_wrapper()
        return True

    def _meet_wrapper(self) -> None:
        """Within a pass: let the DistributedDataParallel that it is in, if it is, reduce what is active.

        Raises InputError in training where there are several processes and no such thing; a backward pass runs layers
        again outside of it, where activations are checkpointed.
        """
        ddp = active_wrapper()
        if ddp is None:
            if self._enabled and torch.is_grad_enabled() and torch._C._current_graph_task_id() == -1:
                refuse_alone()
        elif self.reducer is None or self.reducer.ddp is not ddp:
            if self.reducer is not None:
                self.reducer.remove()
            self.reducer = Reducer(ddp, self.leaves, self._is_active, lambda: self.active, self.mode)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trainable leaf once, modules first; a slice's name is ``parameter[start:stop]``."""
        return self.leaves.named()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The leaves that a ``torch.optim`` optimizer trains in place of ``model.parameters()``."""
        return iter(self.leaves.values())

    def module_parameters(self, module: str) -> list[nn.Parameter]:
        """The leaves of one module."""
        return self.leaves.of_module(module)

    def set_active(self, modules: Collection[str], channels: float = 1.0) -> None:
        """Train these modules and the remainder from the next forward pass on; the others lose their ``.grad``.

        ``channels``: share of its output channels, those with the largest gradients, whose gradient every convolution
        with modules passes on; all modules are active then (``mat.backward.operators.channels``).

        Raises InputError for a name that is not in the partition, for fewer channels with fewer modules, and when a
        parameter has left the storage that the optimizer's leaves share (``model.to(...)`` after wrapping).
        """
        active = set(modules)
        unknown = active - set(self.partition.names)
        if unknown:
            raise InputError(f"not modules of this partition: {sorted(unknown)}")
        if self._closed:
            raise InputError("this SparseBackward is closed; make a new one to train the model sparsely again")
        if not 0 < channels <= 1 or (channels < 1 and len(active) < len(self.partition.names)):
            raise InputError(
                f"channels must be in (0, 1], and 1 unless all {len(self.partition.names)} modules are active, got "
                f"{channels:g} with {len(active)}"
            )
        self.active, self.channels = frozenset(active), channels
        self.leaves.check_storage()
        for piece, leaf in self.leaves.items():
            if not self._is_active(piece):
                leaf.grad = None
        self._plan()

    @property
    def blind(self) -> bool:
        """Whether it waits for ``look``."""
        return self.mode == "detach_residual" and self.branches is None

    def look(self, inputs: Mapping[str, Tensor]) -> None:
        """Find the residual branches of ``detach_residual`` on the first samples of ``inputs``, the first time."""
        if self.blind:
            with self.dense():
                self.branches = residual_branches(self.model, self.partition, inputs)
            self._plan()

    def _plan(self) -> None:
        for path, layer in self._layers.items():
            layer.plan(self._is_active, self._detaches(path))
            if isinstance(layer, Product):
                layer.channels = self.channels
        for path, names in self._cores.items():
            found = [i for i, name in enumerate(names) if name in self.active]
            cut = self._detaches(path) and len(found) < len(names)
            self._heads[path] = Heads(found, len(names)) if cut else None

    def _detaches(self, path: str) -> bool:
        """Whether what is inactive of a layer or an attention is a constant."""
        if self.mode != "detach_residual":
            return self.mode == "detach"
        below = (self.branches or {}).get(path)
        return below is not None and self.active.isdisjoint(below)

    @contextmanager
    def dense(self) -> Iterator[None]:
        """Within it the model runs its own, plain forward: for kernel probes and anything needing dense autograd."""
        before, self._enabled = self._enabled, False
        self._meet_wrapper()
        try:
            yield
        finally:
            self._enabled = before
            self._dense_grads = {name: p.grad for name, p in self.leaves.wholes.items()}

    def close(self) -> None:
        """Give the model its plain forward and memory layout back.

        Values stay. The leaves of cut parameters are the model's no longer: an optimizer that still holds them is
        refused at its next step. Raises InputError, when all that is done, where the last steps broke a promise.
        """
        self._closed = True
        for stand_in in self._stand_ins:
            stand_in.remove()
        if self.reducer is not None:
            self.reducer.remove()
        self.touched.stop()
        self.leaves.undo_densify()
        self.promises.settle()

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        held = {id(leaf) for group in optimizer.param_groups for leaf in group["params"]}
        if self._closed:
            if held & self.leaves.cut:
                raise InputError(
                    "this optimizer holds slices of a model whose sparse backward pass was closed, so its steps would "
                    "move nothing; make a new optimizer of model.parameters()"
                )
            return
        for name, whole in self.leaves.shared.items():
            if self._enabled and id(whole) in held:
                raise InputError(
                    f"this optimizer holds {name!r} as a whole, but its slices have the gradients, so it would not "
                    "train; give it to controller.adopt, or build it of the sparse model's parameters()"
                )
        if held & self.leaves.ids:
            refuse_optimizer(optimizer)
            self.leaves.check_storage()
            refuse_parallel(self.model)
            if self.reducer is None:
                refuse_alone()
            elif self.reducer.waiting:  # no output of the forward pass had a part in the loss
                self.reducer.reduce()
            self.leaves.refuse_strays(self._is_active, self._dense_grads)
            active, asleep = self._owners(held)
            if not _has_closure(args, kwargs):
                self._trained(active)
                self._touched(held)
            self.promises.before_step(optimizer, asleep)
            if any(group.get("fused") for group in optimizer.param_groups):
                self.leaves.densify()

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        held = {id(leaf) for group in optimizer.param_groups for leaf in group["params"]}
        if self._closed or not held & self.leaves.ids:
            return
        active, asleep = self._owners(held)
        if _has_closure(args, kwargs):  # it has made the gradients
            self.leaves.refuse_strays(self._is_active, self._dense_grads)
            self._trained(active)
        self.promises.spend(list(active))
        self.promises.after_step(optimizer, asleep)

    def _trained(self, active: Mapping[nn.Parameter, str]) -> None:
        """Look whether the gradients of a step have come; those of an expert wait for samples that choose it."""
        reached = {name for leaf, name in active.items() if leaf.grad is not None}
        self.reached |= reached
        lost = self._lost()
        chosen = {module.name for module in self.partition.modules if module.kind == "expert" and not lost}
        self.promises.missed({*active.values()} - reached - chosen, lost)

    def _touched(self, held: Collection[int]) -> None:
        """Look whether gradients of the model's parameters were changed, and those of slices were not."""
        if self.touched.left and self.reducer is None:  # which averages them in place
            own = [leaf for leaf in self.leaves.values() if id(leaf) in held]
            cut = [leaf for leaf in own if id(leaf) in self.leaves.cut]
            whole = [leaf for leaf in own if id(leaf) not in self.leaves.cut]
            if self.touched.more(whole, cut):
                self.promises.passed_by()

    def _lost(self) -> bool:
        """Whether a layer has lost its gradient since this was last asked."""
        forwards = [one for one in self._stand_ins if isinstance(one, Forward)]
        found = any(forward.lost for forward in forwards)
        for forward in forwards:
            forward.lost = False
        return found

    def _owners(self, held: Collection[int]) -> tuple[dict[nn.Parameter, str], dict[nn.Parameter, str]]:
        """Leaves of modules that are active, and of those that are not, by whose they are, with ids ``held``."""
        active: dict[nn.Parameter, str] = {}
        asleep: dict[nn.Parameter, str] = {}
        for piece, leaf in self.leaves.items():
            name = self.leaves.owner[piece]
            if name is not None and id(leaf) in held:
                (active if name in self.active else asleep)[leaf] = name
        return active, asleep

    def _registered(self, module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        """A module has been given to another: to one that would train it in parallel, perhaps."""
        if submodule is self.model and not self._closed:
            refuse_wrapper(type(module))

    def end_turns(self, modules: Collection[str]) -> None:
        """Say so once where the modules that would not be active, with these ``modules``, lose gradients unused."""
        active, _ = self._owners(self.leaves.ids)
        falling = {leaf: name for leaf, name in active.items() if name not in modules}
        self.promises.dropped(falling)

    def _is_active(self, piece: Slice) -> bool:
        owner = self.leaves.owner[piece]
        return owner is None or owner in self.active


def _plainly(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return own(*args, **kwargs)


def _own_code(own: Callable[..., Any]) -> Callable[..., Any]:
    """Runs ``own``, of which what it calls may be compiled. Disabled once, as that takes milliseconds."""
    disabled = torch.compiler.disable(own, recursive=False)
    return lambda _, *args, **kwargs: disabled(*args, **kwargs)


def _trains(layers: Sequence[SparseLayer]) -> Callable[[], bool]:
    return lambda: any(layer.trains for layer in layers)


def _has_closure(args: tuple, kwargs: dict) -> bool:
    return any(callable(value) for value in (*args[1:], *kwargs.values()))


def refuse_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise InputError for an optimizer that cannot leave inactive slices alone."""
    for kind, why in REFUSED.items():
        if isinstance(optimizer, kind):
            raise InputError(f"{kind.__name__} {why}; use an optimizer that follows each parameter's gradient")


def _refuse_wrapped(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module.__dict__.get("forward"), Forward):
            raise InputError(
                f"{type(model).__name__} is wrapped already ({path or 'the model'}); close the other Controller or "
                "SparseBackward first"
            )


def _refuse_tied(model: nn.Module, partition: Partition) -> None:
    shared = shared_parameters(model)
    for module in partition.modules:
        for piece in module.slices:
            if piece.parameter in shared:
                raise InputError(f"{piece.parameter!r} is tied; leave it to the remainder, not to {module.name!r}")


def _attentions(model: nn.Module, partition: Partition, layers: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Submodules that compute attention: the head modules of each, in order; none where its slices are a user's own."""
    cores = {attention.core: attention.heads for attention in partition.attentions}
    for path in layers:
        if isinstance(model.get_submodule(path), nn.MultiheadAttention):
            cores.setdefault(path, ())
    return cores
