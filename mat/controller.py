"""The controller: probes a model's modular kernels at every interval and trains the modules a method selects.

It sits in an ordinary training loop, with an ordinary optimizer:

>>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
>>> controller = Controller(model, partition_model(model), MAT(alpha=0.1), probe_inputs, every=200)
>>> controller.adopt(optimizer)
>>> for batch in batches:
...     controller.begin_step()
...     loss_of(model, batch).backward()
...     optimizer.step()
...     optimizer.zero_grad()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from mat.backward.optimizers import Adoption, adopt
from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.kernels.budget import Extent, choose
from mat.kernels.estimators import Estimator, SampleLoss
from mat.kernels.gradient_norms import gradient_norms
from mat.kernels.growth import Growth
from mat.kernels.ntk import check_normalisation, modular_ntk
from mat.kernels.spectrum import Spectrum, eigenvalues
from mat.methods.base import GRADIENTS, SPECTRA, Context, Method, Observation, Selection
from mat.partition.partition import Partition, Slice
from mat.prices import counted_prices
from mat.seeds import stream_seed


class Controller:
    """Runs ``method`` on ``model``.

    ``probe_inputs``: keyword inputs of n training samples, needed by methods that read spectra or gradients.
    ``every``: steps between probes. ``directions``: of the estimator ``projected``, drawn once by the seed.
    ``probe_labels`` and ``loss`` (logits, labels -> (n,)): of the estimator ``loss``, and of methods that read
    gradients. ``counts``: active modules of the run that the method follows, by the step at which each of its intervals
    began; this run's begin there too. ``length``: steps of the whole training, needed by methods that go by a schedule.

    ``budget``: share of the training's compute that its probes may take; samples, directions and ``every`` are then the
    most that is wanted, and ``extent`` is what is measured within it (``mat.kernels.budget``). It takes ``batch``, the
    samples of a training step. ``growth``: how intervals grow while the ranking by λ_max (by gradient norm where only
    that is measured) stands still; those of a run that follows another are the other's.

    Raises InputError when the method needs what was not given.
    """

    def __init__(
        self,
        model: nn.Module,
        partition: Partition,
        method: Method,
        probe_inputs: Mapping[str, Tensor] | None = None,
        *,
        every: int,
        estimator: str = "projected",
        normalisation: str = "raw",
        directions: int = 8,
        probe_labels: Tensor | None = None,
        loss: SampleLoss | None = None,
        seed: int = 0,
        counts: Mapping[int, int] | None = None,
        length: int | None = None,
        budget: float | None = None,
        batch: int | None = None,
        growth: Growth | None = None,
    ) -> None:
        labelled = probe_labels is not None and loss is not None
        self.measured = method.measured(labelled)
        check_normalisation(normalisation)
        self.model, self.partition, self.method, self.probe_inputs = model, partition, method, probe_inputs
        self.estimator = Estimator(estimator, directions, stream_seed(seed, "projection"), loss)
        self.every, self.normalisation, self.probe_labels = every, normalisation, probe_labels
        self.seed, self.counts, self.length = seed, dict(sorted((counts or {}).items())), length
        self.growth = None if self.counts else growth
        self._check(labelled)
        if budget is not None and self.measured:
            self._keep_to(budget, batch)
        self.depth = {module.name: module.layer for module in partition.modules}
        self._kind = {module.name: module.kind for module in partition.modules}
        self._size = {module.name: partition.size(module.slices) for module in partition.modules}
        self.periods = method.periods(partition.names, self.depth)
        self.sparse = None if method.dense else SparseBackward(model, partition, method.mode)
        self.adoptions: list[Adoption] = []
        self.closed = False
        self.step = self.interval = self.next = 0
        self.stretch = 1
        self.history: list[Observation] = []
        self.selection = Selection(frozenset(partition.names))
        self.active = frozenset(partition.names)
        self.records: list[dict[str, Any]] = []

    def _check(self, labelled: bool) -> None:
        """Raise InputError where the method is not given what it needs."""
        name = type(self.method).__name__
        if self.measured and not self.probe_inputs:
            reads = " and ".join(sorted(self.measured))
            raise InputError(f"{name} reads {reads}: give it probe_inputs, a batch of samples")
        if GRADIENTS in self.measured and not labelled:
            raise InputError(
                f"{name} reads gradients: give it probe_labels, and loss, a function (logits, labels) -> (n,)"
            )
        if self.every < 1:
            raise InputError(f"every must be ≥ 1 step, got {self.every}")
        if self.method.needs_length and self.length is None:
            raise InputError(f"{name} goes by a schedule: give it length, the steps of the whole training")
        if getattr(self.method, "match", None) is not None and not self.counts:
            raise InputError(f"{name} follows another run: give it counts, or set a share")
        if self.counts and next(iter(self.counts)) != 0:
            raise InputError(f"counts are by the step at which an interval began, from 0 on, got {self.counts}")

    def _keep_to(self, budget: float, batch: int | None) -> None:
        """Probe no more than the budget allows."""
        if batch is None:
            raise InputError("a budget is a share of the training's compute: give batch, the samples of one step")
        assert self.probe_inputs is not None  # as was checked
        inputs, estimator = self.probe_inputs, self.estimator
        prices = counted_prices(self.model, self.partition, _first(inputs, 1), batch, self.method.remainder)
        wanted = Extent(_samples(inputs), estimator.directions, self.every)
        found = choose(prices, budget, wanted, estimator.name, self.length)
        self.probe_inputs, self.every = _first(inputs, found.n), found.every
        self.probe_labels = None if self.probe_labels is None else self.probe_labels[: found.n]
        self.estimator = replace(estimator, directions=found.directions)

    @property
    def probes(self) -> bool:
        """Whether it measures anything."""
        return bool(self.measured)

    @property
    def due(self) -> bool:
        """Whether the coming step begins a new interval."""
        return self.step == self.next

    @property
    def extent(self) -> Extent:
        """Samples (0 where nothing is measured), directions and steps of a plain interval."""
        return Extent(_samples(self.probe_inputs or {}), self.estimator.directions, self.every)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.model.named_parameters() if self.sparse is None else self.sparse.named_parameters()

    def parameters(self) -> Iterator[nn.Parameter]:
        """What has the gradients, in place of ``model.parameters()``: clip these."""
        return (leaf for _, leaf in self.named_parameters())

    def adopt(self, *optimizers: torch.optim.Optimizer) -> None:
        """Let the optimizers of ``model``'s parameters train what is selected; all of them in one call.

        Groups keep their options and existing state is sliced (``mat.backward.optimizers``). Modules that train every
        k-th step get k times their group's learning rate. Raises InputError where a module could not train as
        selected.
        """
        self._refuse_closed()
        if self.adoptions:
            raise InputError("this controller has adopted its optimizers; give them all in one call of adopt")
        leaves: Mapping[Slice, nn.Parameter] = {}
        periods: dict[nn.Parameter, int] = {}
        if self.sparse is not None:
            if any(group.get("fused") for one in optimizers for group in getattr(one, "param_groups", ())):
                self.sparse.leaves.densify()
            leaves = self.sparse.leaves
            for name, k in self.periods.items():
                periods.update(dict.fromkeys(self.sparse.module_parameters(name), k))
        self.adoptions = adopt(optimizers, self.model, self.partition, leaves, periods)

    def close(self) -> None:
        """Model and optimizers are plain again; ``records`` and ``history`` stay.

        The optimizer's state of a shared parameter is put together from its slices', or dropped where they
        have not trained equally often.
        """
        if self.closed:
            return
        self.closed = True
        for adoption in self.adoptions:
            adoption.close()
        self.adoptions = []
        if self.sparse is not None:
            self.sparse.close()
            for leaf in self.parameters():
                leaf.grad = None

    def _refuse_closed(self) -> None:
        if self.closed:
            raise InputError("this controller is closed; make a new one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def begin_step(self) -> None:
        """Call before every training step: probes and selects when an interval begins, sets what trains.

        Raises InputError without an adopted optimizer: one that holds whole parameters would train no slice.
        """
        self._refuse_closed()
        if self.sparse is not None and not self.adoptions:
            raise InputError(
                "no optimizer trains the slices yet; call controller.adopt(optimizer) before the first step"
            )
        if self.due:
            self._select()
        active = frozenset(name for name in self.selection.active if (self.step + 1) % self.periods.get(name, 1) == 0)
        if active != self.active:
            assert self.sparse is not None  # a dense method selects every module
            self.sparse.set_active(active)
            self.active = active
        self.step += 1

    def _select(self) -> None:
        interval = self.interval
        rows, seen = self.measure(first=not self.history)
        if self.measured:
            self.history.append(seen)
        context = Context(
            interval=interval,
            modules=self.partition.names,
            depth=self.depth,
            kind=self._kind,
            size=self._size,
            history=tuple(self.history) if self.method.reads else (),
            counts=tuple(self.counts.values()),
            rng=np.random.default_rng(stream_seed(self.seed, "method", interval)),
            fixed=np.random.default_rng(stream_seed(self.seed, "method")),
            progress=None if self.length is None else self.step / self.length,
        )
        self.selection = self.method.select(context)
        tau = np.nan if self.selection.threshold is None else self.selection.threshold
        for row in rows:
            chosen = {kind: row["module"] in getattr(self.selection, kind) for kind in ("active", "frozen")}
            self.records.append({"interval": interval, "step": self.step, **row, "tau": tau, **chosen})
        self.interval += 1
        self.next = self._next()

    def _next(self) -> int:
        """The step at which the interval that begins now is over."""
        if self.growth is not None and len(self.history) > 1:
            values = [seen.lambda_max or seen.gradient_norm for seen in self.history[-2:]]
            self.stretch = self.growth.next(self.stretch, *values)
        later = [start for start in self.counts if start > self.step]
        return later[0] if later else self.step + self.stretch * self.every

    def measure(self, first: bool) -> tuple[list[dict[str, Any]], Observation]:
        """What the method's probe measures of the model as it is, and nothing changed: one row per module, with the
        choices behind it (NaN for what is not measured), and the observation.

        ``first``: find the sample of every row, as a first probe does; later ones see the same shapes.
        """
        unseen = vars(Spectrum(np.nan, np.nan, np.nan))
        rows, integral, norms = [{**row, **unseen} for row in self.partition.table()], np.empty(0), {}
        with self.sparse.dense() if self.sparse else nullcontext():
            if SPECTRA in self.measured:
                rows, integral = self._spectra(first)
            if GRADIENTS in self.measured:
                inputs, labels, loss = self.probe_inputs, self.probe_labels, self.estimator.loss
                assert inputs is not None and labels is not None and loss is not None  # as was checked
                norms = gradient_norms(self.model, self.partition, inputs, labels, loss)
        rows = [{**row, "gradient_norm": norms.get(row["module"], np.nan)} for row in rows]
        largest = {row["module"]: row["lambda_max"] for row in rows} if SPECTRA in self.measured else {}
        return rows, Observation(largest, integral, norms)

    def _spectra(self, first: bool) -> tuple[list[dict[str, Any]], np.ndarray]:
        """One row per module, and the integral NTK's eigenvalues, largest first."""
        assert self.probe_inputs is not None  # as was checked
        kernels = modular_ntk(
            self.model,
            self.partition,
            self.probe_inputs,
            self.estimator,
            labels=self.probe_labels,
            verify=first,
            remainder=self.method.remainder,
        )
        integral = torch.stack(list(kernels.normalised(self.normalisation).values())).sum(0)
        found = kernels.table(self.normalisation).to_dict("records")
        rows = [{str(key): value for key, value in row.items()} for row in found]
        return [row for row in rows if row["module"] in self.depth], eigenvalues(integral.cpu())

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to go on: plain numbers and lists."""
        return {
            "step": self.step,
            "interval": self.interval,
            "next": self.next,
            "stretch": self.stretch,
            "active": sorted(self.active),
            "selection": {
                **vars(self.selection),
                "active": sorted(self.selection.active),
                "frozen": sorted(self.selection.frozen),
            },
            "history": [{**vars(seen), "integral": seen.integral.tolist()} for seen in self.history],
            "records": [dict(row) for row in self.records],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put ``state`` back; the model's and the optimizer's own states are theirs to load."""
        self.step, self.interval = state["step"], state["interval"]
        self.next, self.stretch = state["next"], state["stretch"]
        chosen = state["selection"]
        sets = {name: frozenset(chosen[name]) for name in ("active", "frozen")}
        self.selection = Selection(**{**chosen, **sets})
        self.history = [Observation(**{**seen, "integral": np.array(seen["integral"])}) for seen in state["history"]]
        self.records = [dict(row) for row in state["records"]]
        self.active = frozenset(state["active"])
        if self.sparse is not None:
            self.sparse.set_active(self.active)


def _samples(inputs: Mapping[str, Tensor]) -> int:
    return max((len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim()), default=0)


def _first(inputs: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    """The first ``n`` samples; what all samples share stays."""
    return {name: value[:n] if isinstance(value, Tensor) and value.dim() else value for name, value in inputs.items()}
