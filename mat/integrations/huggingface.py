"""MAT inside Hugging Face's Trainer, by one callback.

>>> trainer = Trainer(model, args, train_dataset=data, callbacks=[MATCallback(MAT(alpha=0.1), probe=64, every=100)])
>>> trainer.train()

Needs accelerate, as Trainer itself does: ``pip install 'mat-reference[trainer]'``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils.generic import find_labels

from mat.controller import Controller
from mat.errors import InputError
from mat.kernels.estimators import STEP
from mat.methods.base import Method
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition
from mat.seeds import generator, stream_seed


class MATCallback(TrainerCallback, ExportableState):
    """Trains Trainer's model by ``method`` from the beginning of ``train()`` to its end.

    ``probe``: keyword inputs of n training samples, or n, then drawn from the training set by ``args.seed``; under
    the option ``estimator="step"`` n, or None for all: the first samples of a recorded batch. Labels are dropped, but
    where the decoder of a model is fed by them in training, it is probed so.
    ``every``: optimizer steps between probes. ``partition``: a partition, or a function that makes one of the model;
    ``partition_model`` by default. ``options``: more of ``Controller``'s, such as ``estimator`` or ``budget``; its
    ``length`` and ``batch`` are Trainer's.

    ``controller`` and its ``records`` stay after training; model and optimizer are plain again. Logs carry the mean
    ``active_share`` of the modules since the last log, and the ``reached_share``, of those of them that a gradient
    reached; loggers that stand before this callback find both in ``log_history`` only. The controller's state is in
    ``trainer_state.json``, so a checkpoint resumes exactly; a checkpoint made without this callback begins MAT anew,
    with a warning.

    Several processes (torchrun, accelerate) train it by DistributedDataParallel; the first one's probe decides.

    Raises InputError for what the sparse backward pass cannot run in: several devices in one process, FSDP, DeepSpeed,
    ``torch_compile``, ``fp16``, and methods that train modules every k-th step (Trainer makes its scheduler first).
    """

    def __init__(
        self,
        method: Method,
        probe: Mapping[str, Tensor] | int | None = None,
        *,
        every: int,
        partition: Partition | Callable[[nn.Module], Partition] | None = None,
        **options: Any,
    ) -> None:
        self.method, self.probe, self.every, self.options = method, probe, every, options
        self.partition = partition or partition_model
        self.controller: Controller | None = None
        self._shares: list[tuple[int, int]] = []
        self._lent: list[nn.Module] = []
        self._meeting: Any = None

    def state(self) -> dict[str, Any]:
        """What Trainer saves of this callback: plain numbers and lists."""
        own = {} if self.controller is None else {"controller": self.controller.state_dict()}
        return {"args": {}, "attributes": own}

    def close(self) -> None:
        """Give the model and the optimizer back as they were; for a training that ended with an error."""
        self._take_back()
        if self.controller is not None:
            self.controller.close()

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        _refuse(args)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        _refuse(args)
        model = kwargs["model"]
        self.close()
        self._shares = []
        partition = self.partition if isinstance(self.partition, Partition) else self.partition(model)
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        probe, options = self.probe, {"seed": args.seed, "length": state.max_steps, "batch": batch, **self.options}
        if isinstance(probe, int) and options.get("estimator") == STEP:
            probe, options["n"] = None, probe
        elif isinstance(probe, int):
            probe = draw_probe(kwargs["train_dataloader"], probe, args.seed)
        self.controller = Controller(
            model,
            partition,
            self.method,
            None if probe is None else _inputs(probe, model, args),
            every=self.every,
            **options,
        )
        try:
            if self.controller.periods:
                raise InputError(
                    f"{type(self.method).__name__} trains modules every k-th step at k times the rate, but Trainer "
                    "makes its scheduler before a callback can say so; use a Controller in a loop of your own"
                )
            self.controller.adopt(kwargs["optimizer"])
            self._restore(self.controller, state)
        except Exception:
            self.close()
            raise

    def _restore(self, controller: Controller, state: TrainerState) -> None:
        name = type(self).__name__
        states: Any = state.stateful_callbacks  # by name, whatever its annotation says
        saved = states.get(name, {})
        if isinstance(saved, list):
            raise InputError(f"expected one {name} per Trainer, got {len(saved)}")
        if state.global_step > 0:
            if "controller" in saved.get("attributes", {}):
                controller.load_state_dict(saved["attributes"]["controller"])
            else:
                warnings.warn(
                    f"the checkpoint at step {state.global_step} was made without {name}: its method begins here",
                    stacklevel=2,
                )
        states[name] = self.state()  # Trainer expects the key when it saves

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        model, controller = kwargs["model"], self.controller
        assert controller is not None  # since training began
        with _bare(model):
            controller.begin_step(loss_scale=1 / args.gradient_accumulation_steps)
        self._lend(model)
        # a DistributedDataParallel around it shows itself in its forward pass
        self._meeting = model.register_forward_pre_hook(lambda *_: self._lend(*_active_wrappers()))

    def _lend(self, *modules: nn.Module) -> None:
        """Trainer clips ``parameters()`` and logs their norm, but gradients are on the slices. Only within a step:
        whoever copies, saves or counts between steps finds the model's own method."""
        controller = self.controller
        assert controller is not None  # since training began
        for module in modules:
            vars(module)["parameters"] = lambda recurse=True: controller.parameters()
            self._lent.append(module)

    def _take_back(self) -> None:
        for module in self._lent:
            vars(module).pop("parameters", None)
        self._lent = []
        if self._meeting is not None:
            self._meeting.remove()
            self._meeting = None

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._take_back()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        controller = self.controller
        assert controller is not None  # since training began
        self._shares.append((len(controller.active), len(controller.reached)))
        controller.end_step()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "loss" in logs and self._shares and self.controller is not None:
            whole = len(self._shares) * len(self.controller.partition.modules)
            for name, counts in zip(("active_share", "reached_share"), zip(*self._shares, strict=True), strict=True):
                # the history holds a copy of logs that was made before
                logs[name] = state.log_history[-1][name] = sum(counts) / whole
            self._shares = []

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.close()


def draw_probe(loader: DataLoader, n: int, seed: int) -> dict[str, Any]:
    """``n`` samples of the loader's data set, drawn by ``seed``, in one batch by the loader's own collator.

    The random streams stay as they were. Raises InputError when the data set has no length or fewer samples.
    """
    data: Any = loader.dataset
    if isinstance(data, torch.utils.data.IterableDataset) or not 1 <= n <= len(data):
        length = "no length" if isinstance(data, torch.utils.data.IterableDataset) else len(data)
        raise InputError(f"cannot draw a probe of {n} samples from a data set of {length}; give a batch of inputs")
    chosen = torch.randperm(len(data), generator=generator(seed, "probe"))[:n]
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "probe"))  # a collator may mask or augment
        return dict(loader.collate_fn([data[i] for i in chosen.tolist()]))


@contextmanager
def _bare(model: Any) -> Iterator[None]:
    """The model without what Trainer put around it: probes run in full precision and on constant inputs.

    accelerate replaces ``forward`` to run it under autocast; activation checkpointing makes the embeddings'
    output require a gradient, by a hook.
    """
    table = vars(model)
    autocast = table.pop("forward") if "_original_forward" in table and "forward" in table else None
    hooked = bool(getattr(model, "_require_grads_hooks", None))
    if hooked:
        model.disable_input_require_grads()
    try:
        yield
    finally:
        if autocast is not None:
            model.forward = autocast
        if hooked:
            model.enable_input_require_grads()


def _inputs(batch: Mapping[str, Any], model: nn.Module, args: TrainingArguments) -> dict[str, Tensor]:
    labels = {"label", "labels", "label_ids", *(args.label_names or find_labels(type(model)))}
    device = next(model.parameters()).device
    tensors = {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}
    inputs = {name: value for name, value in tensors.items() if name not in labels}
    # in training the decoder is fed the labels, shifted
    shifted = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shifted is None or not {"decoder_input_ids", "decoder_inputs_embeds"}.isdisjoint(inputs):
        return inputs
    if "labels" not in tensors:
        raise InputError(
            f"{type(model).__name__} decodes from its labels in training: give the probe labels or decoder_input_ids; "
            f"got {', '.join(batch)}"
        )
    return {**inputs, "decoder_input_ids": shifted(labels=tensors["labels"])}


def _active_wrappers() -> list[nn.Module]:
    found = DistributedDataParallel._get_active_ddp_module()
    return [] if found is None else [found]


def _refuse(args: TrainingArguments) -> None:
    found = {
        "fp16=True (use bf16)": args.fp16,
        "torch_compile=True": args.torch_compile,
        "FSDP": args.fsdp,
        "DeepSpeed": args.deepspeed,
        "several devices (make one visible)": args.n_gpu > 1,
        "restore_callback_states_from_checkpoint=True (MATCallback restores itself)": (
            args.restore_callback_states_from_checkpoint
        ),
    }
    for what, set_ in found.items():
        if set_:
            raise InputError(f"MATCallback does not work with {what}; expected one device per process")
