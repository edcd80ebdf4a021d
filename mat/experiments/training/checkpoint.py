"""Weights that go from one run to another: a folder in Hugging Face's layout, written by a run or published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from mat.errors import InputError
from mat.experiments.config.spec import Start
from mat.experiments.tasks.base import Task
from mat.experiments.tasks.storage.hub import hub_file
from mat.experiments.tasks.storage.mirror import PlainFile
from mat.experiments.tasks.text.tokenizer import published
from mat.experiments.training.machine import Machine
from mat.records.files import missing, replacing
from mat.records.run import CHECKPOINT, FILES, read_run

NAMES = tuple(Path(name).name for name in CHECKPOINT)
WORDS = "vocab.txt"
# what shapes do not show, and another function would come of
SAME = ("model_type", "num_attention_heads", "hidden_act", "layer_norm_eps")


def is_complete(out: Path) -> bool:
    """Whether the run directory ``out`` holds a finished run and its checkpoint."""
    return not missing(out, (*FILES, *CHECKPOINT))


def save(model: nn.Module, task: Task, out: Path) -> list[str]:
    """Write ``checkpoint`` into the run directory ``out``: configuration, weights and, where there is one, tokenizer;
    the names of its files from there.

    ``transformers`` reads it with ``from_pretrained``. Raises InputError for a model that is not of transformers.
    """
    check_savable(model)
    model.config.vocabulary_hash = task.vocabulary_hash
    with replacing(out / "checkpoint") as half, _quiet():
        model.save_pretrained(half)
        if task.tokenizer is not None:
            (half / "tokenizer.json").write_text(task.tokenizer)
    return [path.relative_to(out).as_posix() for path in (out / "checkpoint").rglob("*") if path.is_file()]


def check_savable(model: nn.Module) -> None:
    """Raise InputError for a model that cannot be saved or started from."""
    if not hasattr(model, "save_pretrained"):
        raise InputError(
            f"only models of transformers have checkpoints here, {type(model).__name__} is none; leave out the "
            "checkpoint"
        )


def start(model: nn.Module, where: Start, task: Task, out: Path, machine: Machine) -> str:
    """Give ``model`` the weights below its head from the checkpoint ``where``; returns the SHA-256 of the checkpoint.

    What a checkpoint does not have (a pooler, after masked-language modelling) keeps its initial weights, and so does
    the head, which is the new task's own. A run's checkpoint is beside ``out``. Raises InputError when it is not there,
    or is of another shape, kind or vocabulary.
    """
    check_savable(model)
    folder = _folder(where, out, machine)
    found, missing = _read(folder)
    config, body = found.config, model.base_model
    for name in SAME:
        theirs, ours = getattr(config, name, None), getattr(model.config, name, None)
        if theirs != ours:
            raise InputError(
                f"the checkpoint {folder} has {name} {theirs!r}, the model {ours!r}; give the model the checkpoint's"
            )
    if _vocabulary(folder, config) != task.vocabulary_hash:
        raise InputError(
            f"the checkpoint {folder} was trained on other token ids than the task {task.name} has: give the task the "
            "tokenizer settings of the checkpoint's"
        )
    weights = {name: value for name, value in found.state_dict().items() if name not in missing}
    own = body.state_dict()
    for name, value in own.items():
        if name in weights and weights[name].shape != value.shape:
            raise InputError(
                f"the checkpoint {folder} has {name} of shape {tuple(weights[name].shape)}, the model needs "
                f"{tuple(value.shape)}; give the model the sizes of the checkpoint (layers, width, heads, "
                "positions) and the task its vocabulary"
            )
    extra = sorted(set(weights) - set(own) - {n for n in weights if n.startswith("pooler.")})
    lacking = sorted(name for name in set(own) - set(weights) if not name.startswith("pooler."))
    if extra or lacking:
        name, side = (extra[0], "more") if extra else (lacking[0], "less")
        raise InputError(
            f"the checkpoint {folder} has {side} than the model: {name!r}; give the model its number of layers"
        )
    body.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
    digest = hashlib.sha256()
    for name in NAMES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _vocabulary(folder: Path, config: Any) -> str:
    """What gives the checkpoint's token ids their meaning: said by a run's, read from the word list of a published one.

    Raises InputError where neither is there.
    """
    if hasattr(config, "vocabulary_hash"):
        return config.vocabulary_hash
    if not (folder / WORDS).is_file():
        raise InputError(f"the checkpoint {folder} does not say what its token ids mean; put its {WORDS} beside it")
    return published(folder / WORDS).hash


def sources(where: Start | None) -> tuple[PlainFile, ...]:
    """What has to be fetched for a published checkpoint; nothing for a run's."""
    if where is None or where.hub is None:
        return ()
    return tuple(PlainFile(where.hub, name, where.revision) for name in (*NAMES, WORDS))


def _folder(where: Start, out: Path, machine: Machine) -> Path:
    if where.run is not None:
        if not is_complete(out.parent / where.run):
            raise InputError(
                f"the run starts from {where.run}, whose checkpoint is not at {out.parent / where.run}; train it "
                "first, with --checkpoint"
            )
        read_run(out.parent / where.run, where.run, CHECKPOINT)  # which the seal is of, too
        return out.parent / where.run / "checkpoint"
    files = [hub_file(one, machine.data, machine.cache) for one in sources(where)]
    return files[0].parent


def _read(folder: Path) -> tuple[nn.Module, set[str]]:
    """The body of the checkpoint, and the names that it did not have."""
    from transformers import AutoModel

    try:
        with torch.random.fork_rng(), _quiet():
            model, about = AutoModel.from_pretrained(
                folder, output_loading_info=True, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot read the checkpoint {folder}: {reason}; replace it by a whole one") from None
    return model, set(about["missing_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars, and without the warning that a head is new, which is what fine-tuning means."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
