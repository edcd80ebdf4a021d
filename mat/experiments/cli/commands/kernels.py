"""``mat kernels``: the modules of a model and their tangent kernels, in a table."""

from __future__ import annotations

import inspect
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mat.errors import InputError
from mat.experiments.cli import options

if TYPE_CHECKING:
    from torch import Tensor, nn

COLUMNS = ("module", "kind", "layer", "parameters", "lambda_max", "trace", "effective_rank", "way")
DRAWN = {"n": 16, "length": 32}  # samples, and tokens a sample, of inputs drawn at random


@click.command(short_help="Measure the kernels of a model's modules: λ_max, trace, effective rank.")
@click.argument("where", metavar="[MODEL]", required=False)
@click.option(
    "--model",
    "function",
    metavar="FILE.py:FUNCTION",
    help="a function that returns (model, inputs) or (model, inputs, labels)",
)
@click.option(
    "--estimator",
    default="projected",
    show_default=True,
    metavar="NAME",
    help="which rows: projected, sum_of_logits, trace, full, or loss (cross entropy of labels)",
)
@click.option("--normalisation", default="raw", show_default=True, metavar="NAME", help="raw, cosine or per_parameter")
@click.option("-n", "n", type=click.IntRange(1), help=f"samples to draw (default {DRAWN['n']})")
@click.option("--length", type=click.IntRange(1), help=f"tokens of a sample (default {DRAWN['length']})")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of weights, inputs and directions")
@options.path("--csv", "write the table there too, with every digit", "CSV", default=None)
def kernels(
    where: str | None,
    function: str | None,
    estimator: str,
    normalisation: str,
    n: int | None,
    length: int | None,
    seed: int,
    csv: Path | None,
) -> None:
    """Measure the tangent kernels of a model's modules: λ_max, trace and effective rank of each.

    MODEL is a Hugging Face model, by its hub id or a local folder. A folder with config.json and no weights gives a
    model drawn at random. Inputs are drawn at random too: to measure on data of yours, give a function as --model.
    """
    import torch

    from mat.kernels.estimators import Estimator
    from mat.kernels.ntk import check_normalisation, modular_ntk
    from mat.partition.discovery import partition_model

    if (where is None) == (function is None):
        raise InputError("give one of MODEL (a hub id or a folder) and --model FILE.py:FUNCTION")
    if function and (n, length) != (None, None):
        raise InputError("-n and --length are of inputs drawn for MODEL; the function of --model returns its own")
    if estimator == "loss" and not function:
        raise InputError(
            "estimator 'loss' needs labels: give --model FILE.py:FUNCTION that returns (model, inputs, labels)"
        )
    choice = Estimator(estimator, seed=seed, loss=cross_entropy if estimator == "loss" else None)
    check_normalisation(normalisation)
    torch.manual_seed(seed)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        if function:
            (model, inputs, labels), said = of_function(function), f"model and inputs: {function}"
        else:
            model, said = of_hub(where)
            inputs, drawn = random_inputs(model.config, n or DRAWN["n"], length or DRAWN["length"], seed)
            labels, said = None, f"{said}\ninputs: {drawn}"
        found = modular_ntk(model, partition_model(model), inputs, choice, labels=labels)
    for warning in warned:
        options.say(f"note: {warning.message}")
    print(f"{said}\nkernels: {estimator}, {normalisation}, n = {found.n}, seed {seed}\n")
    table = found.table(normalisation)
    print(table[list(COLUMNS)].to_string(index=False, float_format="{:.4g}".format))
    if csv:
        csv.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(csv, index=False, lineterminator="\n")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,), the mean over a sample's positions: logits (n, …, classes), labels (n, …)."""
    from torch.nn import functional

    losses = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(len(labels), -1).mean(1)


def of_function(given: str) -> tuple[nn.Module, dict[str, Tensor], Tensor | None]:
    """What ``FILE.py:FUNCTION`` returns: model, inputs, and labels or None. Raises InputError, naming what is wrong,
    for anything else."""
    from torch import nn

    from mat.experiments.config.plugins import in_one_line, run_file

    file, colon, name = given.rpartition(":")
    path = Path(file)
    if not colon or not path.is_file():
        raise InputError(f"--model expects FILE.py:FUNCTION with a file that exists, got {given!r}")
    sys.path.insert(0, str(path.parent))  # what it imports from beside itself
    with in_one_line(f"--model {given}"):
        made = getattr(run_file(path, f"mat_model_{path.stem}"), name)()
    if not (isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)):
        raise InputError(
            f"--model {given}: expected a tuple (model, inputs), an nn.Module and a mapping of its keyword arguments "
            f"to tensors, or (model, inputs, labels), got {type(made).__name__}"
        )
    return made if len(made) == 3 else (*made, None)


def of_hub(where: str) -> tuple[nn.Module, str]:
    """A Hugging Face model with a head, by hub id or folder, and whether its weights are trained or drawn. Nothing that
    comes with it is run: no code of its own, and no pickled objects in its weights. Raises InputError."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = Path(where)
    try:
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
        family = _with_head(config)
        drawn = folder.is_dir() and not any(
            next(folder.glob(f"*{end}"), None) for end in (".safetensors", ".bin", ".index.json")
        )
        if drawn:
            of = inspect.getattr_static(family, "from_config", None)  # the Auto classes have it, models do not
            model = family.from_config(config, trust_remote_code=False) if of else family(config)
            return (model, f"model: {type(model).__name__}, weights drawn at random from {folder / 'config.json'}")
        model, info = family.from_pretrained(
            where, output_loading_info=True, trust_remote_code=False, weights_only=True
        )
    except Exception as error:  # what is damaged or unknown fails in many ways
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{where} brings Python code of its own, which is not run here; write a function that returns (model, "
                "inputs) and give it as --model FILE.py:FUNCTION"
            ) from None
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        found = "" if folder.is_dir() else "there is no such folder, and as a hub id: "
        raise InputError(f"no model can be made of {where}: {found}{reason}") from None
    missing = sorted(info["missing_keys"])
    but = f", but {len(missing)} tensors drawn at random: {', '.join(missing[:4])}" if missing else ""
    return model, f"model: {type(model).__name__}, weights from {where}{but}"


def _with_head(config: Any) -> Any:
    """The class of the configuration's own architecture, where that has a head, or of the first task it can do."""
    import transformers

    own = next(iter(config.architectures or []), "")
    if "For" in own or own.endswith("LMHeadModel"):
        return getattr(transformers, own)
    for task in ("MaskedLM", "CausalLM", "Seq2SeqLM", "ImageClassification", "SequenceClassification"):
        auto = getattr(transformers, f"AutoModelFor{task}")
        if type(config) in auto._model_mapping:
            return auto
    raise ValueError(f"transformers knows no {config.model_type} with an output head")


def random_inputs(config: Any, n: int, length: int, seed: int) -> tuple[dict[str, Tensor], str]:
    """Keyword inputs of ``n`` samples for a model of ``config``, drawn by ``seed``, and what they are in words.

    Token ids (n, length), the same for a decoder where there is one; or images (n, channels, size, size).
    Raises InputError for a model that reads neither.
    """
    import torch

    from mat.seeds import generator

    draw = generator(seed, "probe")
    text = config.get_text_config()
    if getattr(text, "vocab_size", None):
        length = min(length, getattr(text, "max_position_embeddings", None) or length)
        tokens = torch.randint(text.vocab_size, (n, length), generator=draw)
        inputs = {"input_ids": tokens}
        if config.is_encoder_decoder:
            inputs["decoder_input_ids"] = tokens
        return inputs, f"{n} sequences of {length} random tokens"
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
    if size or hasattr(config, "num_channels"):
        height, width = (size or 224,) * 2 if not isinstance(size, list | tuple) else size
        return {
            "pixel_values": torch.randn(n, channels, height, width, generator=draw)
        }, f"{n} random images of {channels} × {height} × {width}"
    raise InputError(
        f"inputs of a {config.model_type} are neither tokens nor images; write a function that returns (model, inputs) "
        "and give it as --model FILE.py:FUNCTION"
    )
