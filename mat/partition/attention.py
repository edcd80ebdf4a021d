"""Find attention: projections of matching shapes beside a head count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from mat.errors import InputError
from mat.partition.partition import Premise, Slice
from mat.partition.projections import Projection, Runs, join, parent, premise, projection

# Where a family keeps query, key, value and output, seen from the module that computes the attention.
SEPARATE = (
    ("query", "key", "value", "../output.dense"),  # BERT, RoBERTa, ELECTRA
    ("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
    ("q", "k", "v", "o"),  # T5, Switch Transformers
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # LLaMA, Mistral, Qwen2, Mixtral, Hugging Face's ViT
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # BART, CLIP
    ("query", "key", "value", "proj"),  # PVT v2
    ("query", "key", "value", "dense"),  # ALBERT
    ("query_proj", "key_proj", "value_proj", "../output.dense"),  # DeBERTa v2
    ("projection_query", "projection_key", "projection_value", "../output.dense"),  # CvT
)
# One map holds query, key and value, each head by head, one after the other.
FUSED = (
    ("qkv", "proj"),  # Swin
    ("c_attn", "c_proj"),  # GPT-2
    ("qkv_proj", "o_proj"),  # Phi-3
    ("Wqkv", "out_proj"),  # MPT, DBRX
)
LATENT = (  # keys and values, head by head, out of a latent that all heads share; queries out of one, or not
    ("q_b_proj", "kv_b_proj", "o_proj"),  # DeepSeek-V3
    ("q_proj", "kv_b_proj", "o_proj"),  # DeepSeek-V2 Lite
)
FUSED_KEY_VALUE = (("q_attn", "c_attn", "c_proj"),)  # GPT-2's cross-attention: query apart
POSITION_TABLES = ("cpb_mlp",)  # Swin v2 computes its table of position biases by a small net

HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
HEAD_WIDTH = ("head_dim", "attention_head_size", "key_value_proj_dim")


@dataclass(frozen=True)
class Heads:
    """One attention: ``inputs`` (query, key and value, some of them perhaps in one) and ``output`` in ``groups`` equal
    runs, of which each is a head's, or that of all heads that share a key and a value; ``core`` computes it.

    ``named``: found by names; else ``core`` may compute other things, too.
    """

    core: str
    inputs: tuple[Projection, ...]
    output: Projection
    groups: int
    named: bool = True

    @property
    def place(self) -> str:
        """What of the model holds nothing but this."""
        return self.core if self.named else parent(self.output.weight)

    @property
    def width(self) -> int:
        """Width of the residual stream that the attention writes to."""
        return self.output.rows

    @property
    def weights(self) -> set[str]:
        return self.output.weights.union(*(place.weights for place in self.inputs))

    def slices(self, group: int, outputs: bool) -> tuple[Slice, ...]:
        """What key/value group ``group`` owns; with a group per head, what that head owns."""
        runs = [[_run(place.rows, self.groups, group)] for place in self.inputs]
        return self.cut(runs, [_run(self.output.columns, self.groups, group)], outputs)

    def cut(self, rows: Sequence[Runs], columns: Runs, outputs: bool) -> tuple[Slice, ...]:
        """These runs of rows of query, key and value, with their biases, and of columns of the output."""
        found = [piece for run in columns if outputs for piece in self.output.column_slices(*run)]
        for place, runs in reversed(list(zip(self.inputs, rows, strict=True))):
            found = [piece for run in runs for piece in place.row_slices(*run)] + found
        return tuple(found)

    @property
    def premise(self) -> Premise:
        """That a group's rows feed its own columns."""
        return premise(self.core, self.inputs, self.output, self.groups)


def _run(length: int, count: int, i: int) -> tuple[int, int]:
    """The ``i``-th of ``count`` equal runs."""
    return length // count * i, length // count * (i + 1)


def attentions(model: nn.Module) -> Iterator[Heads]:
    """Every attention of ``model``, in order. Raises InputError when heads do not divide the projections."""
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if latent := _latent(path, module, modules):
            yield latent
            continue
        places = _multihead(path, module) or _separate(path, modules) or _fused(path, modules)
        if places is None:
            continue
        *inputs, output = places
        query, key, value = inputs
        heads = _head_count(path, module, query.rows) if _match(query, key, value, output) else None
        if heads:
            yield Heads(path, tuple(inputs), output, _key_value_heads(path, query.rows, key.rows, heads))


def _match(query: Projection, key: Projection, value: Projection, output: Projection) -> bool:
    return query.rows == output.columns and key.rows == value.rows and key.rows <= query.rows


def _separate(path: str, modules: dict[str, nn.Module]) -> tuple[Projection, ...] | None:
    for names in SEPARATE:
        places = [place for name in names if (place := _find(path, name, modules))]
        if len(places) == len(names):
            return tuple(places)
    return None


def _fused(path: str, modules: dict[str, nn.Module]) -> tuple[Projection, ...] | None:
    for first, second, last in FUSED_KEY_VALUE:
        query, both, output = (_find(path, name, modules) for name in (first, second, last))
        if query and both and output:
            return (query, *both.parts(2), output) if both.rows % 2 == 0 else None
    for names in FUSED:
        fused, output = (_find(path, name, modules) for name in names)
        if fused and output:
            shared, odd = divmod(fused.rows - output.columns, 2)
            return None if odd or shared < 1 else (*fused.cut(output.columns, shared, shared), output)
    return None


def _latent(path: str, core: nn.Module, modules: dict[str, nn.Module]) -> Heads | None:
    heads = _attribute(core, HEADS) or 0
    for names in LATENT if heads else ():
        places = [place for name in names if (place := _find(path, name, modules))]
        if len(places) == len(names):
            *inputs, output = places
            fits = not any(length % heads for length in (output.columns, *(place.rows for place in inputs)))
            return Heads(path, tuple(inputs), output, heads) if fits else None
    return None


def _multihead(path: str, module: nn.Module) -> tuple[Projection, ...] | None:
    """``nn.MultiheadAttention`` keeps its projections as bare parameters, fused where the widths are equal."""
    if not isinstance(module, nn.MultiheadAttention):
        return None
    width = module.embed_dim
    bias = join(path, "in_proj_bias") if module.in_proj_bias is not None else None
    if module.in_proj_weight is not None:
        inputs = Projection(join(path, "in_proj_weight"), bias, 3 * width, width).parts(3)
    else:
        inputs = [
            Projection(join(path, f"{name}_proj_weight"), bias, width, columns)
            for name, columns in (("q", width), ("k", module.kdim), ("v", module.vdim))
        ]
        if bias:  # the biases are one parameter, the weights are not
            return None
    output = projection(join(path, "out_proj"), module.out_proj)
    return (*inputs, output) if output else None


def _find(path: str, name: str, modules: dict[str, nn.Module]) -> Projection | None:
    if name.startswith("../"):
        if not path:
            return None
        path, name = parent(path), name.removeprefix("../")
    place = join(path, name)
    return projection(place, modules.get(place))


def _head_count(path: str, core: nn.Module, rows: int) -> int | None:
    heads, width = _attribute(core, HEADS), _attribute(core, HEAD_WIDTH)
    if heads is None and width is not None:
        heads = rows // width
    if heads is None:
        return None
    if heads < 1 or rows % heads or (width is not None and heads * width != rows):
        said = f"{heads} heads" + (f" of width {width}" if width is not None else "")
        raise InputError(
            f"{path}: {said} do not fit {rows} query rows; after pruning heads or resizing, set the head count "
            "of the attention module to what its projections hold"
        )
    return heads


def _key_value_heads(path: str, rows: int, key_rows: int, heads: int) -> int:
    width = rows // heads
    if key_rows % width or heads % (key_rows // width):
        raise InputError(
            f"{path}: {heads} query heads of width {width} cannot share {key_rows} key rows equally; "
            f"expected a multiple of {width} that holds a divisor of {heads} heads"
        )
    return key_rows // width


def _attribute(module: nn.Module, names: tuple[str, ...]) -> int | None:
    values = (getattr(module, name, None) for name in names)
    return next((value for value in values if type(value) is int), None)
