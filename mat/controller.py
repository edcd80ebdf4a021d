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

With the estimator ``step`` there are no probe samples: an interval's first step is recorded, and what is selected by
its kernels trains from the step after it. All layers pass gradients on in the recorded forward and backward pass, as
in ``exact``, whatever the method's mode; nothing but what is active trains.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from mat import processes
from mat.backward.optimizers import Adoption, adopt
from mat.backward.sparse import SparseBackward
from mat.errors import InputError, listed
from mat.flops.routing import experts_of, routed_shares
from mat.forward import first as first_samples
from mat.forward import samples_of
from mat.kernels.estimators import STEP, Estimator, SampleLoss
from mat.kernels.ntk import Kernels, check_normalisation, modular_ntk
from mat.kernels.probes.budget import Extent, choose
from mat.kernels.probes.first_batch import FirstBatch, inputs_of, look_at
from mat.kernels.probes.gradient_norms import gradient_norms, norms_of_kernels
from mat.kernels.probes.growth import Growth
from mat.kernels.probes.step import NO_PASS, StepKernels
from mat.kernels.spectrum import Spectrum, eigenvalues
from mat.methods.base import GRADIENTS, SPECTRA, Context, Method, Observation, Selection, check_kinds
from mat.methods.history import of_plain, plain
from mat.partition.effect.verdicts import confirm
from mat.partition.partition import Partition, Slice, grouped
from mat.prices import counted_prices
from mat.seeds import stream_seed


class Controller:
    """Runs ``method`` on ``model``.

    ``probe_inputs``: keyword inputs of n training samples, needed by methods that read spectra or gradients.
    ``every``: steps between probes; ``first``: the step of the first one, before which everything trains and nothing is
    measured (modules that train only every k-th step do so there, too). ``directions``: of the estimator ``projected``,
    drawn once by the seed, as are ``positions``, how many of a text's positions ``sum_of_logits``, ``projected`` and
    ``loss`` are of (0: all).
    ``probe_labels`` and ``loss`` (logits, labels -> (n,)): of the estimator ``loss``, and of methods that read
    gradients. ``n``: of the estimator ``step``, samples that are measured, the first of the recorded batch; None: all
    of it. ``counts``: active modules of the run that the method follows, by the step at which each of its intervals
    began; this run's begin there too, the first included. ``length``: steps of the whole training, needed by methods
    that go by a schedule.

    ``cost``: by a set of modules, the compute of the whole training with these active, as a share of what the run that
    the method follows spent; needed by methods that spend as much.

    ``budget``: share of the training's compute that its probes may take; samples, directions and ``every`` are then the
    most that is wanted, and ``extent`` is what is measured within it (``mat.kernels.probes.budget``). It takes
    ``batch``, the samples of a training step. ``growth``: how intervals grow while the ranking by λ_max (by gradient
    norm where only that is measured) stands still; those of a run that follows another are the other's.

    ``records`` has a row per probe and module; its ``reached`` is the share of the interval's steps in which the module
    was active and a gradient reached it (``reached``), NaN until the interval is over.

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
        first: int = 0,
        estimator: str = "projected",
        normalisation: str = "raw",
        directions: int = 4,
        positions: int = 0,
        probe_labels: Tensor | None = None,
        loss: SampleLoss | None = None,
        n: int | None = None,
        seed: int = 0,
        counts: Mapping[int, int] | None = None,
        cost: Callable[[Collection[str]], float] | None = None,
        length: int | None = None,
        budget: float | None = None,
        batch: int | None = None,
        growth: Growth | None = None,
    ) -> None:
        labelled = estimator == STEP or (probe_labels is not None and loss is not None)
        self.measured = method.measured(labelled)
        check_normalisation(normalisation)
        self.model, self.partition, self.method, self.probe_inputs = model, partition, method, probe_inputs
        self.estimator = Estimator(estimator, directions, stream_seed(seed, "projection"), loss, positions)
        self.every, self.normalisation, self.probe_labels = every, normalisation, probe_labels
        self.seed, self.length, self.n, self.cost = seed, length, n, cost
        self.counts = dict(sorted((counts or {}).items()))
        self.growth = None if self.counts else growth
        self._check(labelled, first)
        if budget is not None and self.measured:
            self._keep_to(budget, batch)
        self.depth = {module.name: module.layer for module in partition.modules}
        self._kind = {module.name: module.kind for module in partition.modules}
        self._size = {module.name: partition.size(module.slices) for module in partition.modules}
        self.periods = method.periods(partition.names, self.depth)
        self.sparse = None if method.dense else SparseBackward(model, partition, method.mode)
        self.adoptions: list[Adoption] = []
        self.closed = False
        self.step = self.interval = 0
        self.next = next(iter(self.counts), first)
        self.stretch = 1
        self.history: list[Observation] = []
        self.selection = Selection(frozenset(partition.names))
        self.active = frozenset(partition.names)
        self.records: list[dict[str, Any]] = []
        self.recording: StepKernels | None = None
        self.missed = False
        self.tallied = self.since = 0
        self.times: Counter[str] = Counter()
        self.looked = method.dense or (self.probes and estimator != STEP and not self.next)
        self.waiting: FirstBatch | None = None
        if self.probe_inputs is not None:
            self._find_branches(self.probe_inputs)

    def _check(self, labelled: bool, begin: int) -> None:
        """Raise InputError where the method is not given what it needs."""
        check_kinds(self.method, {module.kind for module in self.partition.modules})
        name = type(self.method).__name__
        of_step = self.estimator.name == STEP
        if of_step and self.probe_inputs is not None:
            raise InputError(f"estimator {STEP!r} measures the samples of training steps: leave probe_inputs out")
        if self.n is not None and not of_step:
            raise InputError(f"n is of the estimator {STEP!r}; the others measure all samples of probe_inputs")
        if of_step and self.method.observe and not self.method.full_gradients:
            raise InputError(
                f"a recorded step is exact, so observing it would change what {name} trains, whose gradients are not; "
                "use another estimator, or leave observe out"
            )
        if self.measured and not of_step and (not isinstance(self.probe_inputs, Mapping) or not self.probe_inputs):
            got = "none" if self.probe_inputs is None else f"a {type(self.probe_inputs).__name__}"
            raise InputError(
                f"{name} reads {' and '.join(sorted(self.measured))}: give it probe_inputs, a batch of samples by the "
                f"names of the model's inputs, such as {{'x': images}}; got {got}"
            )
        if self.probe_inputs is not None:
            samples_of(self.model, self.probe_inputs)
        if GRADIENTS in self.measured and not labelled:
            raise InputError(
                f"{name} reads gradients: give it probe_labels, and loss, a function (logits, labels) -> (n,)"
            )
        if self.every < 1 or begin < 0:
            raise InputError(f"every must be ≥ 1 step and first ≥ 0, got {self.every} and {begin}")
        if self.method.routes and of_step:
            raise InputError(f"{name} counts the probe's tokens, and the estimator {STEP!r} has no probe: use another")
        if self.method.routes:
            experts_of(self.model, self.partition)
        if self.method.needs_length and self.length is None:
            raise InputError(f"{name} goes by a schedule: give it length, the steps of the whole training")
        if self.method.needs_cost and self.cost is None:
            raise InputError(f"{name} spends what another run did: give it cost, a share of that by active modules")
        if getattr(self.method, "match", None) is not None and not self.counts:
            raise InputError(f"{name} follows another run: give it counts, or set a share")
        if self.counts and next(iter(self.counts)) < 0:
            raise InputError(f"counts are by the step at which an interval began, from 0 on, got {self.counts}")

    def _keep_to(self, budget: float, batch: int | None) -> None:
        """Probe no more than the budget allows."""
        if batch is None:
            raise InputError("a budget is a share of the training's compute: give batch, the samples of one step")
        if self.probe_inputs is None:
            raise InputError(f"estimator {STEP!r} has no samples to count a budget on: give n and every instead")
        inputs, estimator = self.probe_inputs, self.estimator
        prices = counted_prices(self.model, self.partition, first_samples(inputs, 1), batch, self.method.remainder)
        wanted = Extent(samples_of(self.model, inputs), estimator.directions, self.every)
        found = choose(prices, budget, wanted, estimator.name, self.length)
        self.probe_inputs, self.every = first_samples(inputs, found.n), found.every
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
    def reached(self) -> frozenset[str]:
        """Modules that the last step trained: active, and of which a parameter had a gradient (one of zeros included)
        when an optimizer stepped. All of them for a dense method; never an expert that no token was sent to."""
        return self.active if self.sparse is None else frozenset(self.sparse.reached)

    @property
    def extent(self) -> Extent:
        """Samples (0 where nothing is measured), directions and steps of a plain interval."""
        n = samples_of(self.model, self.probe_inputs) if self.probe_inputs is not None else self.n or 0
        return Extent(n, self.estimator.directions, self.every)

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
        for waiting in (self.recording, self.waiting):
            if waiting is not None:
                waiting.stop()
        self._tally()
        self._end_interval()
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

    def begin_step(self, loss_scale: float = 1.0) -> None:
        """Call before every training step: probes and selects when an interval begins, sets what trains.

        ``loss_scale``: what the step multiplies its loss with, which the estimator ``step`` divides out: a GradScaler's
        scale, 1/k where the gradients of k batches are accumulated (the first of them is recorded). A step that
        overflows under a scale above 1 is not read, as a GradScaler skips it; the next one is recorded instead. Raises
        InputError without an adopted optimizer: one that holds whole parameters would train no slice; and where a step
        that was to be recorded made no pass.
        """
        self._refuse_closed()
        self.end_step()
        if self.sparse is not None and not self.adoptions:
            raise InputError(
                "no optimizer trains the slices yet; call controller.adopt(optimizer) before the first step"
            )
        record = (self.due or self.missed) and bool(self.measured) and self.estimator.name == STEP
        if self.due and not record:
            self._select(self.step, *processes.of_first(lambda: self.measure(first=not self.history)))
        elif self.due and not self.method.reads:
            self._choose(self.step)
        active = frozenset(name for name in self.selection.active if (self.step + 1) % self.periods.get(name, 1) == 0)
        channels = self.selection.channels
        if active != self.active or (self.sparse is not None and channels != self.sparse.channels):
            assert self.sparse is not None  # a dense method selects every module
            self.sparse.end_turns(active)
            self.sparse.set_active(active, channels)
            self.active = active
        if self.sparse is not None:
            self.sparse.reached.clear()
        if record:
            self._record(loss_scale)
        elif not self.waiting and (self._blind or not (self.looked or self.step)):
            self.waiting = FirstBatch(self.model, self._look)
        self.step += 1

    def look(self, inputs: Mapping[str, Tensor]) -> None:
        """Confirm on ``inputs``, a batch by the names of the model's inputs, how the partition was cut and that a
        sample's outputs are its own. A first probe does so; where there is none, the first training step does, unless
        this was called before; it warns where it is called with other things than tensors of one first dimension.

        Raises InputError where gradients contradict the partition, where kernels are read of samples that depend on
        each other, and where the method needs residual paths and the model has none.
        """
        self.looked = True
        with self.sparse.dense() if self.sparse else nullcontext():
            look_at(self.model, self.partition, inputs, read=self.probes)
        self._find_branches(inputs)

    def _find_branches(self, inputs: Mapping[str, Tensor]) -> None:
        if self.sparse is None:
            return
        self.sparse.look(inputs)
        if self.method.needs_residual and not self.sparse.branches:
            raise InputError(
                f"{type(self.method).__name__} skips layers that residual paths lead around, and in "
                f"{type(self.model).__name__} none does: choose a method that skips none, such as lisa"
            )

    def _look(self, args: tuple, kwargs: dict) -> None:
        inputs = inputs_of(self.model, args, kwargs)
        if inputs is not None:
            self.look(inputs)
        elif self.partition.premises or self._blind:
            also = ", and all layers are exact" if self._blind else ""
            warnings.warn(
                f"the first batch is no example of tensors with one first dimension, so names and shapes are believed"
                f"{also}: give one to controller.look, or to partition_model(model, example=…)",
                stacklevel=2,
            )

    @property
    def _blind(self) -> bool:
        """Whether the backward pass has still to see what the model is called with, as after a resumption."""
        return self.sparse is not None and self.sparse.blind

    def _record(self, loss_scale: float) -> None:
        """Read the kernels of the coming step."""
        if self.sparse is None and processes.count() > 1:
            raise InputError(
                f"{type(self.method).__name__} trains all modules, and DistributedDataParallel's own reducer sees "
                f"nothing of a step that is recorded (estimator {STEP!r}): use another estimator in several processes"
            )
        targets = None
        if self.sparse is not None:
            owner, training = self.sparse.leaves.owner, {*self.active, None}
            targets = {piece: leaf for piece, leaf in self.sparse.leaves.items() if owner[piece] in training}
        self.recording = StepKernels(
            self.model,
            self.partition.with_remainder() if self.method.remainder else self.partition,
            self.n,
            targets=targets,
            loss_scale=loss_scale,
            verify=not self.history,
            around=nullcontext if self.sparse is None else self.sparse.dense,
            look=None if self.looked else self._look,
        )
        self.recording.record()

    def end_step(self) -> None:
        """Count whom the step has trained, and select by what it has recorded, if it has: ``begin_step`` and
        ``state_dict`` do so, too.

        Raises InputError where it made no pass to be recorded.
        """
        self._tally()
        if self.recording is None:
            return
        kernels, scaled, self.recording = self.recording.kernels, self.recording.loss_scale > 1, None
        if kernels is None:
            raise InputError(NO_PASS)
        found = processes.of_first(lambda: self._read(kernels, scaled))
        self.missed = found is None
        if found is not None:
            self._select(self.step - 1, *found)

    def _read(self, kernels: Kernels, scaled: bool) -> tuple[list[dict[str, Any]], Observation] | None:
        """What a recorded step has measured; None where its loss, ``scaled`` up, has overflowed."""
        if scaled and not all(bool(gram.isfinite().all()) for gram in kernels.values()):
            return None
        spectra = kernels if SPECTRA in self.measured else None
        norms = norms_of_kernels({name: kernels[name] for name in self.partition.names})
        return self._seen(spectra, norms if GRADIENTS in self.measured else {}, {})

    def _select(self, step: int, rows: list[dict[str, Any]], seen: Observation) -> None:
        """Choose by what was ``seen`` at ``step``, and record it."""
        self._end_interval()
        if self.measured:
            self.history.append(seen)
        self._choose(step)
        for row in rows:
            tau = self.selection.thresholds.get(row["module"], np.nan)
            chosen = {kind: row["module"] in getattr(self.selection, kind) for kind in ("active", "frozen")}
            self.records.append(
                {"interval": self.interval, "step": step, **row, "tau": tau, **chosen, "reached": np.nan}
            )
        self.interval += 1
        self.next = self._next(step)

    def _tally(self) -> None:
        """Count whom the step that is over has trained."""
        if self.tallied < self.step:
            self.tallied = self.step
            self.times.update(self.reached)

    def _end_interval(self) -> None:
        """Record whom the interval's steps have trained, and count anew."""
        steps = self.tallied - self.since
        for row in self.records[-len(self.partition.modules) :]:
            row["reached"] = self.times[row["module"]] / steps if steps else np.nan
        self.since, self.times = self.tallied, Counter()

    def _next(self, step: int) -> int:
        """The step at which the interval that began at ``step`` is over."""
        if self.growth is not None and len(self.history) > 1:
            values = [seen.lambda_max or seen.gradient_norm for seen in self.history[-2:]]
            self.stretch = self.growth.next(self.stretch, *values)
        later = [start for start in self.counts if start > step]
        return later[0] if later else step + self.stretch * self.every

    def _choose(self, step: int) -> None:
        context = Context(
            interval=self.interval,
            modules=self.partition.names,
            depth=self.depth,
            kind=self._kind,
            size=self._size,
            history=tuple(self.history) if self.method.reads else (),
            counts=tuple(self.counts.values()),
            frozen=self.selection.frozen,
            cost=self.cost,
            rng=np.random.default_rng(stream_seed(self.seed, "method", self.interval)),
            fixed=np.random.default_rng(stream_seed(self.seed, "method")),
            progress=None if self.length is None else step / self.length,
        )
        self.selection = self.method.select(context)

    def measure(self, first: bool) -> tuple[list[dict[str, Any]], Observation]:
        """What the method's probe measures of the model as it is, and nothing changed: one row per module, with the
        choices behind it (NaN for what is not measured), and the observation.

        ``first``: find the sample of every row, as a first probe does; later ones see the same shapes.
        """
        kernels, norms = None, {}
        counted: AbstractContextManager[dict[str, float]] = nullcontext({})
        if self.method.routes:
            counted = routed_shares(self.model, self.partition)
        with self.sparse.dense() if self.sparse else nullcontext(), counted as shares:
            if SPECTRA in self.measured:
                kernels = self._kernels(first)
            if GRADIENTS in self.measured:
                inputs, labels, loss = self.probe_inputs, self.probe_labels, self.estimator.loss
                assert inputs is not None and labels is not None and loss is not None  # as was checked
                if first and kernels is None:
                    confirm(self.model, self.partition, inputs)
                norms = gradient_norms(self.model, self.partition, inputs, labels, loss)
        return self._seen(kernels, norms, shares)

    def _kernels(self, first: bool) -> Kernels:
        assert self.probe_inputs is not None  # as was checked
        return modular_ntk(
            self.model,
            self.partition,
            self.probe_inputs,
            self.estimator,
            labels=self.probe_labels,
            verify=first,
            remainder=self.method.remainder,
        )

    def _seen(
        self, kernels: Kernels | None, norms: Mapping[str, float], shares: Mapping[str, float]
    ) -> tuple[list[dict[str, Any]], Observation]:
        """One row per module, and the observation with the eigenvalues of the sums, largest first."""
        unseen = vars(Spectrum(np.nan, np.nan, np.nan))
        rows, largest, integral = [{**row, **unseen} for row in self.partition.table()], {}, np.empty(0)
        kinds, layers = {}, {}
        if kernels is not None:
            grams = kernels.normalised(self.normalisation)
            integral = _spectrum_of_sum(grams, grams)
            kinds = {
                kind: integral if len(names) == len(grams) else _spectrum_of_sum(grams, names)
                for kind, names in grouped(self._kind).items()
            }
            layers = {layer: float(_spectrum_of_sum(grams, names)[0]) for layer, names in grouped(self.depth).items()}
            found = kernels.table(self.normalisation).to_dict("records")
            rows = [{str(key): value for key, value in row.items()} for row in found]
            rows = [row for row in rows if row["module"] in self.depth]
            largest = {row["module"]: row["lambda_max"] for row in rows}
        rows = [{**row, "gradient_norm": norms.get(row["module"], np.nan)} for row in rows]
        return rows, Observation(largest, integral, norms, kinds, layers, dict(shares))

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to go on: plain numbers and lists. Between steps."""
        self.end_step()
        if self.sparse is not None:
            self.sparse.promises.settle()
        return {
            "step": self.step,
            "interval": self.interval,
            "next": self.next,
            "stretch": self.stretch,
            "active": sorted(self.active),
            "missed": self.missed,
            "since": self.since,
            "times": dict(self.times),
            "selection": {
                **vars(self.selection),
                "active": sorted(self.selection.active),
                "frozen": sorted(self.selection.frozen),
            },
            "history": [plain(seen) for seen in self.history],
            "records": [dict(row) for row in self.records],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put ``state`` back; the model's and the optimizer's own states are theirs to load.

        Raises InputError for what is no controller's state, or that of another partition's.
        """
        lacking = [key for key in self.state_dict() if key not in state]
        if lacking:
            raise InputError(f"expected what state_dict() of a controller gave, got one without {', '.join(lacking)}")
        known = {*state["active"], *(row["module"] for row in state["records"])}
        if others := sorted(known - set(self.partition.names)):
            raise InputError(
                f"this state is of modules that the partition does not have: {listed(others)}; make the partition as "
                "it was when the state was saved"
            )
        self.step, self.missed, self.interval = state["step"], state["missed"], state["interval"]
        self.next, self.stretch = state["next"], state["stretch"]
        self.tallied, self.since, self.times = self.step, state["since"], Counter(state["times"])
        chosen = state["selection"]
        sets = {name: frozenset(chosen[name]) for name in ("active", "frozen")}
        self.selection = Selection(**{**chosen, **sets})
        self.history = [of_plain(seen) for seen in state["history"]]
        self.records = [dict(row) for row in state["records"]]
        self.active = frozenset(state["active"])
        if self.sparse is not None:
            self.sparse.set_active(self.active, self.selection.channels)


def _spectrum_of_sum(grams: Mapping[str, Tensor], names: Iterable[str]) -> np.ndarray:
    """The eigenvalues of the sum of some kernels, largest first."""
    return eigenvalues(torch.stack([grams[name] for name in names]).sum(0).cpu())
