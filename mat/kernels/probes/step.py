"""The kernels of a training step: read from the forward and backward pass that training makes anyway.

The row of sample i is g_i = B × the part of the step's gradient that runs through the sample's own rows (tokens,
pixels) of each layer, B being the batch's size; the mean of all B rows is the step's gradient. Where no layer mixes the
samples of a batch and the loss is a mean over them, g_i is the gradient of the sample's own loss, and the kernels are
those of the estimator ``loss``. Where the loss is a mean over the batch's tokens, a sample counts by its share of them.
With batch norm in training mode, g_i is the sample's part of a gradient that has no other reading sample by sample.

The step is as it was: its mode, dropout, precision (autocast) and random streams. Its modules' weights enter as
constants; what arrives at their outputs makes the Gram matrices and the weight gradients of what trains, which are
those of plain automatic differentiation up to the order of their sums (``mat.kernels.probes.step_products``) and are
added to ``.grad`` directly: hooks on parameters see nothing of them. The samples are the first n of the batch that
the model is called with first. Products are in the activations' precision, Gram matrices in float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mat.errors import InputError, listed
from mat.forward import logits_of
from mat.kernels.batched import dense_cotangent
from mat.kernels.estimators import STEP, Estimator
from mat.kernels.ntk import MEMORY, Kernels
from mat.kernels.probes.step_products import Contribution, multiply
from mat.kernels.recording.factors import Factors
from mat.kernels.recording.gradient_rules import RULES, batch_norm
from mat.kernels.recording.operands import Call
from mat.kernels.recording.recorder import Recorder, Use, graph_ends
from mat.kernels.recording.tracing import Tracer, tag_base, tags
from mat.kernels.request import owned_parameters, pieces_of
from mat.partition.partition import Partition, Slice

Targets = Mapping[Slice, nn.Parameter]  # a slice of the model's parameters -> what has its gradient


class StepRecorder(Recorder):
    """Records the uses of parameters in a training step, under batch statistics and autocast as well.

    ``mixes``: whether a batch norm has used the batch's own statistics. ``edges``: where each call's output is in the
    graph, by the call's id.
    """

    rules: Mapping[Any, Any] = {**RULES, F.batch_norm: partial(batch_norm, mixed=True)}

    def __init__(self, parameters: Mapping[str, nn.Parameter], n: int) -> None:
        super().__init__(parameters, n)
        self.mixes = False
        self.edges: dict[int, Any] = {}

    def _batch_norm(self, *args: Any, training: bool = False, **kwargs: Any) -> None:
        self.mixes |= training or args[5:6] == (True,)

    def _exact(self, device: str) -> bool:
        return True

    def _listen(self, call: Call, output: Tensor) -> None:
        super()._listen(call, output)
        self.edges[id(call)] = torch.autograd.graph.get_gradient_edge(output)


class StepKernels:
    """Kernels of the next forward pass of ``model`` with gradients, and of its backward pass; made by ``record``.

    ``n``: samples, the first of the batch; None: all of it. ``targets``: what has the gradients of the slices that
    train; by default the parameters themselves. ``loss_scale``: what the loss is multiplied with before its backward
    pass, which is divided out: a GradScaler's scale, 1/k where the gradients of k batches are accumulated. ``verify``:
    trace every row to its sample, as a first probe does, by backward passes to the activations (not under batch
    statistics, which mix the samples); without it that happens where shapes do not show the samples. ``around``:
    entered for the forward pass. ``look``: called with the arguments of the pass, ahead of it. ``memory``: bytes of
    working space.

    Attributes:
        kernels: None until the backward pass has ended.
        macs: multiply-adds of the weight gradients, had they been products of their own.
        watch: runs what is computed beside the pass; for counting and timing it.
    """

    def __init__(
        self,
        model: nn.Module,
        partition: Partition,
        n: int | None = None,
        *,
        targets: Targets | None = None,
        loss_scale: float = 1.0,
        verify: bool = True,
        around: Callable[[], AbstractContextManager] = nullcontext,
        look: Callable[[tuple, dict], None] | None = None,
        memory: int = MEMORY,
    ) -> None:
        if n is not None and n < 1:
            raise InputError(f"n must be a number of samples ≥ 1, got {n!r}")
        if not 0 < loss_scale < float("inf"):
            raise InputError(f"loss_scale must be a positive number, got {loss_scale!r}")
        self.model, self.partition, self.n, self.loss_scale = model, partition, n, loss_scale
        self.verify, self.around, self.look, self.memory = verify, around, look, memory
        self.pieces = pieces_of(partition)
        self.parameters = owned_parameters(model, partition, self.pieces)
        whole = {_all_of(name, p, self.pieces[name][0][1].dim): p for name, p in self.parameters.items()}
        self.wanted: dict[str, dict[Slice, nn.Parameter]] = {name: {} for name in self.parameters}
        for piece, leaf in (whole if targets is None else targets).items():
            if piece.parameter in self.wanted:
                self.wanted[piece.parameter][piece] = leaf
        self.kernels: Kernels | None = None
        self.macs = 0
        self.watch: Callable[[Callable[[], None]], None] = lambda run: run()
        self._context = ExitStack()
        self._hooks: list[Any] = []
        # calls that the logits do not depend on, so that nobody knows whose rows are whose
        self._lost: set[int] = set()

    def record(self) -> None:
        """Wait for the model's next forward pass with gradients."""
        if any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules()):
            raise InputError(
                "with activation checkpointing a step's layers run twice, so its kernels cannot be read from it; use "
                "another estimator, or model.gradient_checkpointing_disable()"
            )
        # functions, which a copy of the model shares: they are for this model alone
        before = lambda model, args, kwargs: self._before(args, kwargs) if model is self.model else None  # noqa: E731
        after = lambda model, args, output: self._after(output) if model is self.model else None  # noqa: E731
        self._hooks = [
            self.model.register_forward_pre_hook(before, with_kwargs=True),
            self.model.register_forward_hook(after, always_call=True),
        ]

    def stop(self) -> None:
        """Wait no longer; the model is plain."""
        self._context.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _before(self, args: Any, kwargs: Any) -> None:
        if not torch.is_grad_enabled():
            return
        if (look := self.look) is not None:
            self.stop()  # passes that it makes are no step
            self.look = None
            self.watch(lambda: look(args, kwargs))
            self.record()
        sizes = [len(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor) and value.dim()]
        self.batch = max(sizes, default=0)
        if self.batch < (self.n or 1):
            raise InputError(
                f"the kernels of {self.n or 1} samples of a step need a batch of as many; the model was called with "
                f"{self.batch}: lower n (probe, for Trainer), or give larger batches"
            )
        self.n = self.n or self.batch
        self.recorder = StepRecorder(self.parameters, self.batch)
        self._context.enter_context(self.around())
        self._context.enter_context(self.recorder)

    def _after(self, output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        self.stop()
        if output is None:  # the forward pass has raised an error
            return
        logits = logits_of(output, self.model)
        if logits.dim() < 1 or len(logits) != self.batch or not logits.requires_grad:
            raise InputError(
                f"the model's outputs must be (B, …) for a batch of B = {self.batch} and take gradients, got shape "
                f"{tuple(logits.shape)}"
            )
        unfollowed = self.recorder.unfollowed(leaf for leaf, _ in graph_ends(logits))
        if unfollowed:
            raise InputError(
                f"{next(iter(unfollowed.values()))}, so their part of the step's kernels is not known: "
                f"{listed(sorted(unfollowed))}; use another estimator, which takes such parameters sample by sample"
            )
        calls = self.recorder.to_trace(logits, self.verify and not self.recorder.mixes)
        if calls:
            self.watch(lambda: self._trace(logits, calls))
        self._begin(logits.device)

    def _trace(self, logits: Tensor, calls: list[Call]) -> None:
        """Give the rows of ``calls`` their samples, by backward passes from the logits.

        Raises InputError where a row belongs to more than one sample.
        """
        edges = [self.recorder.edges[id(call)] for call in calls]
        found = torch.autograd.grad(logits, edges, cotangent := dense_cotangent(logits), True, allow_unused=True)
        gradients = [gradient for gradient in found if gradient is not None]
        self._lost = {id(call) for call, gradient in zip(calls, found, strict=True) if gradient is None}
        base = tag_base({logits.dtype, *(gradient.dtype for gradient in gradients)})
        traced = [call for call in calls if id(call) not in self._lost]
        tracers = [Tracer(call, gradient, base) for call, gradient in zip(traced, gradients, strict=True)]
        edges = [self.recorder.edges[id(call)] for call in traced]
        for digits in tags(self.batch, base).to(logits.device) if tracers else ():
            tag = (2.0**digits).to(logits.dtype).reshape(-1, *(1,) * (logits.dim() - 1))
            tagged = torch.autograd.grad(logits, edges, cotangent * tag, retain_graph=True)
            for tracer, gradient in zip(tracers, tagged, strict=True):
                tracer.read(gradient)
        for tracer in tracers:
            if not tracer.assign():
                names = sorted({use.parameter for use in self.recorder.uses if use.call is tracer.call})
                raise InputError(
                    f"the rows that {', '.join(names)} are used on could not be traced to single samples; use another "
                    "estimator, whose passes are in evaluation mode"
                )

    def _begin(self, device: torch.device) -> None:
        """Wait for the gradients."""
        self.expected = Counter(use.parameter for use in self.recorder.uses)
        self.of_call: dict[int, list[Use]] = {}
        for use in self.recorder.uses:
            self.of_call.setdefault(id(use.call), []).append(use)
        self.arrived: dict[str, list[Contribution]] = {}
        self.grams = {
            module: torch.zeros(self.n or 0, self.n or 0, dtype=torch.float64, device=device)
            for module in self.partition.names
        }
        self._running = False
        self.recorder.listener = self._take
        # a gradient that autograd brings to a parameter came by a way that was not seen
        self._hooks = [
            parameter.register_hook(lambda gradient, name=name: _refuse_unseen(name))
            for name, parameter in self.parameters.items()
            if parameter.requires_grad
        ]

    def _take(self, call: Call, gradient: Tensor) -> None:
        """The gradient at the output of ``call`` has come."""
        if self.kernels is not None:
            raise InputError(
                "the step whose kernels are read went backward twice; add up its losses and go backward once"
            )
        if id(call) in self._lost:
            names = ", ".join(sorted(use.parameter for use in self.of_call.get(id(call), [])))
            raise InputError(f"{names} got a gradient that does not come through the logits; use another estimator")
        if not self._running:
            self._running = True
            torch.autograd.Variable._execution_engine.queue_callback(self._finish)
        for use in self.of_call.get(id(call), []):
            with _plain(gradient.device.type):
                made = use.make(gradient.detach())
            if isinstance(made, Factors):  # under autocast an input may be as it was before it was cast
                made = made.of(slice(None), gradient.dtype)
            arrived = self.arrived.setdefault(use.parameter, [])
            arrived.append(made)
            if len(arrived) == self.expected[use.parameter]:
                self._multiply(use.parameter)

    def _multiply(self, name: str) -> None:
        uses = self.arrived.pop(name)
        self.watch(lambda: self._products(name, uses))

    def _products(self, name: str, uses: list[Contribution]) -> None:
        parameter, wanted = self.parameters[name], self.wanted[name]
        with _plain(parameter.device.type):
            found = multiply(uses, parameter.detach(), self.pieces[name], wanted, self.n or 0, self.memory)
            if found is None:
                raise InputError(f"the uses of {name} do not go together; use another estimator")
            self.macs += found.macs
            for module, gram in found.grams.items():
                self.grams[module] += gram
            for piece, leaf in wanted.items():
                gradient = piece.of(found.gradient)
                if leaf.grad is None:
                    leaf.grad = torch.empty_like(leaf)
                    leaf.grad.copy_(gradient)
                else:
                    leaf.grad += gradient

    def _finish(self) -> None:
        """The end of the backward pass: uses that have had no gradient contribute nothing, calls without rows zero."""
        for name in list(self.arrived):
            self._multiply(name)
        for name in self.recorder.empty:
            for leaf in self.wanted[name].values():
                leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        self.stop()
        factor = (self.batch / self.loss_scale) ** 2
        grams = {module: gram * factor for module, gram in self.grams.items()}
        way = "training step, batch statistics" if self.recorder.mixes else "training step"
        ways = dict.fromkeys(self.partition.names, way)
        self.kernels = Kernels(grams, self.partition, Estimator(STEP), self.n or 0, ways)
        self.recorder.uses, self.of_call, self.recorder.edges = [], {}, {}


@contextmanager
def step_kernels(
    model: nn.Module,
    partition: Partition,
    n: int | None = None,
    *,
    loss_scale: float = 1.0,
    verify: bool = True,
    remainder: bool = False,
) -> Iterator[StepKernels]:
    """The kernels of one forward and backward pass of ``model``, on the first ``n`` samples of the batch (None: all).

    >>> with step_kernels(model, partition, n=16) as step:
    ...     F.cross_entropy(model(x), y).backward()
    >>> step.kernels.table()

    The pass is as it would be without, and leaves the gradients in ``.grad``. ``loss_scale`` and ``verify`` as of
    ``StepKernels``; ``remainder``: one more kernel, of the remainder. Raises InputError for a smaller batch, parameters
    whose use no rule follows, rows that belong to several samples, activation checkpointing, a second backward pass,
    and where no pass was made.
    """
    step = StepKernels(
        model, partition.with_remainder() if remainder else partition, n, loss_scale=loss_scale, verify=verify
    )
    step.record()
    try:
        yield step
    finally:
        step.stop()
    if step.kernels is None:
        raise InputError(NO_PASS)


NO_PASS = "a step's kernels were to be read, but the model made no forward and backward pass with gradients"


@contextmanager
def _plain(device: str) -> Iterator[None]:
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield


def _all_of(name: str, parameter: nn.Parameter, dim: int) -> Slice:
    return Slice(name, dim, 0, (parameter.shape or (1,))[dim])


def _refuse_unseen(name: str) -> None:
    raise InputError(
        f"{name} got a gradient by a way that was not seen, so its part of the step's kernels is not known (a compiled "
        "or scripted layer, a parametrisation, a penalty on the weights); use another estimator"
    )
