"""Find the modules of an unmodified model: attention heads, feed-forward blocks, experts, filter groups, layers.

What a module owns, with W in PyTorch's (out, in) orientation, so that a unit's outgoing weights are rows:

| family                      | a head owns                                          | an FFN or expert owns              |
|-----------------------------|------------------------------------------------------|------------------------------------|
| BERT, RoBERTa, ELECTRA      | rows of query, key, value; columns of output.dense   | rows of intermediate, columns of output |
| DistilBERT                  | rows of q_lin, k_lin, v_lin; columns of out_lin      | rows of lin1, columns of lin2      |
| ViT (Hugging Face)          | rows of {q,k,v}_proj; columns of o_proj              | rows of fc1, columns of fc2        |
| ViT (torchvision)           | 3 runs of rows of in_proj_weight; columns of out_proj | rows of mlp.0, columns of mlp.3   |
| Swin v1, v2 (torchvision)   | 3 runs of rows of qkv; columns of proj               | rows of mlp.0, columns of mlp.3    |
| GPT-2 (weights are (in, out)) | 3 runs of columns of c_attn; rows of c_proj        | columns of c_fc, rows of mlp.c_proj |
| T5, self and cross          | rows of q, k, v; columns of o                        | rows of wi (or wi_0, wi_1), columns of wo |
| Switch Transformers         | as T5                                                | FFN as T5; an expert owns its wi, wo |
| LLaMA, Mistral, Qwen2       | per key/value head: its rows of k_proj and v_proj, the rows of q_proj and the columns of o_proj of all query heads that share it | rows of gate_proj and up_proj, columns of down_proj |
| Mixtral                     | as LLaMA                                             | an expert owns its entry of gate_up_proj and down_proj |
| Phi-3                       | as LLaMA, of one qkv_proj                            | both halves' rows of gate_up_proj, columns of down_proj |
| DeepSeek-V2, -V3            | rows of q_b_proj (or q_proj) and kv_b_proj; columns of o_proj | as LLaMA, as Mixtral      |
| DBRX                        | as LLaMA, of one Wqkv                                | an expert owns its run of rows of w1, v1, w2 |
| VGG, ResNet, DenseNet, …    | a filter group: rows of the convolution, its bias, entries of the batch norm that normalises its output | |

Rows come with their biases, and with those rows or columns of maps of low rank beside them, as LoRA has them, that have
the same outputs or inputs; of frozen maps with these alone. The remainder keeps biases of W_O and of FFN outputs, per-head tables (T5's and Swin's
position biases, Swin v2's logit scales), norms, routers, embeddings and output heads. In DenseNet the norm behind
``conv0`` and behind each ``conv1`` normalises that convolution's output and goes with it; all others come ahead of
a convolution, on concatenated features, and belong to no filter.

Recognition goes by structure: projections of matching shapes beside a head count (``attention``, which holds the
table of the names that families give them), linear maps d → f → d beside an attention of width d, or in a repeated
part of the model without a recognised attention (``feedforward``), a router with a row for each expert, and where a convolution's output goes (``convolutions``).
``unrecognised`` and a warning name the weights for which it fails.
"""  # noqa: E501

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import nn

from mat.errors import InputError, listed
from mat.forward import Inputs, samples_of
from mat.partition.attention import Heads
from mat.partition.blocks import Block, blocks, siblings
from mat.partition.convolutions import Filters, convolutions, repeated_blocks
from mat.partition.effect.codes import CONFIRMED, CONTRADICTED
from mat.partition.effect.search import by_effect
from mat.partition.effect.verdicts import idle_parameters, look, unconfirmed
from mat.partition.feedforward import Experts, FeedForward
from mat.partition.partition import Attention, Claim, Module, Partition, Slice
from mat.partition.projections import joined, of_torch, shared_parameters, within
from mat.partition.unrecognised import adapters, not_asked_for, unrecognised


def partition_model(
    model: nn.Module,
    *,
    heads: bool = True,
    ffn_groups: int = 1,
    filter_groups: int = 4,
    head_outputs: bool = True,
    experts: bool = True,
    layers: bool = False,
    example: Inputs | None = None,
) -> Partition:
    """The partition of ``model`` into attention heads, feed-forward blocks, experts and filter groups.

    ``heads``: attention heads are modules, each owning its rows of W_Q, W_K, W_V and their biases and, with
    ``head_outputs``, its columns of W_O (ambiguity A4). Under grouped-query attention a module is a *key/value
    group*: one key/value head with all query heads that share it. ``ffn_groups``: number of equal neuron groups
    per feed-forward block; 0 leaves them to the remainder (A5). ``experts``: every expert of a mixture is a
    module, its whole feed-forward part. ``filter_groups``: number of equal groups of output channels per
    convolution, each with its bias and the entries of the batch norm that normalises it; 0 leaves convolutions
    to the remainder. ``layers``: instead of all these, every transformer layer, every repeated convolutional
    block and every convolution outside one (with its norm) is one module of kind ``layer``; in a model without any of
    them every repeated part is.

    Names are ``layer{d}.head{h}``, ``layer{d}.ffn`` or ``.ffn{g}``, ``layer{d}.expert{e}`` and
    ``conv{d}.filters{g}``; ``layer{d}.cross.head{h}`` for cross-attention; ``encoder{d}`` and ``decoder{d}`` for
    ``layer{d}`` where only some stacks have cross-attention; ``layer{d}`` alone for whole layers. Modules come in the
    order in which the model registers their parts; ``d`` counts blocks and convolutions together. The last
    convolution of a model without other matrices is its output head and stays in the remainder.

    ``example``: keyword inputs of the model, of which two samples are run in evaluation mode. Attention heads,
    feed-forward neurons, experts and filter groups are then confirmed by gradients (``mat.partition.effect``): heads
    that names and shapes cut wrongly are cut, and feed-forward blocks turned, as the gradients say, and both are found
    where names say nothing, if they are runs of whole ``nn.Linear`` maps' rows and columns; what gradients
    contradict otherwise (of filters perhaps the norm alone), and modules on which the outputs do not depend (auxiliary
    heads, but not experts), stay in the remainder, by name in a warning. Without it the first kernels of a partition
    refuse what gradients contradict.

    Weights that several layers share stay in the remainder, with a warning.

    Frozen parameters (``requires_grad`` off) are no part of a partition, and modules of them are left out. Warns
    once, naming weights that were not recognised and stay in the remainder. Raises InputError when nothing is
    recognised, a module is frozen in part, a width does not divide into the groups, or head counts do not fit
    their projections.
    """
    tied = shared_parameters(model)
    found = blocks(model)
    if example is not None:
        samples_of(model, example)
        found = blocks(model, by_effect(model, not_asked_for(found) | tied, example))
    convs = convolutions(model, found)
    attentions: list[Attention] = []
    claims = [] if layers else _claims(model, found, convs, tied, heads, ffn_groups > 0, experts, filter_groups)
    effect = _Effect(model, claims, example)
    if layers:
        modules = _layers(model, found, convs)
        attentions = [Attention(unit.core, ()) for block in found for _, unit in block.heads if unit.named]
    else:
        modules = []
        for depth, part in enumerate(_in_order(model, found, convs)):
            if isinstance(part, Filters):
                groups = effect.filters(part, filter_groups)
                modules += [Module(f"conv{depth}.filters{g}", "filters", depth, own) for g, own in enumerate(groups)]
                continue
            name = f"layer{depth}" if part.name.startswith("layer") else part.name
            for qualifier, unit in part.heads if heads else ():
                stem = ".".join(filter(None, (name, qualifier, "head")))
                cut = effect.heads(unit, head_outputs)
                names = [f"{stem}{h}" for h in range(len(cut))]
                modules += [Module(n, "head", depth, own) for n, own in zip(names, cut, strict=True)]
                attentions.append(Attention(unit.core, tuple(names) if unit.named and len(cut) == unit.groups else ()))
            ffns = tuple((qualifier, ffn) for qualifier, old in part.ffns if (ffn := effect.neurons(old)))
            mixtures = tuple((qualifier, unit) for qualifier, unit in part.experts if effect.apart(unit))
            modules += _feed_forward(replace(part, ffns=ffns, experts=mixtures), name, depth, ffn_groups, experts)
    kept_apart = [module for module in modules if not any(piece.parameter in tied for piece in module.slices)]
    modules, shared = effect.moving(_trainable(model, kept_apart, adapters(found))), len(modules) > len(kept_apart)
    if not modules:
        raise InputError(
            f"a partition needs at least one module, but none was found in {type(model).__name__}; looked, as far as "
            "asked, for attention (query, key, value and output projections of matching shapes beside a head count), "
            "feed-forward blocks and experts beside it or in repeated parts, and nn.Conv2d; "
            f"{'' if example else 'with example=inputs gradients find some that no names tell; '}"
            f"{'' if layers else 'layers=True takes repeated parts as a whole; '}"
            "or name the slices yourself with mat.partition.partition.Module"
        )
    kept = {module.name for module in modules}
    attentions = [attention for attention in attentions if kept.issuperset(attention.heads)]
    partition = Partition.of(model, modules, attentions, claims if example is None else ())
    if shared:
        warnings.warn(
            f"{type(model).__name__}: weights that several layers share stay in the remainder: {listed(sorted(tied))}",
            stacklevel=2,
        )
    for warning in effect.warnings():
        warnings.warn(f"{type(model).__name__}: {warning}", stacklevel=2)
    purposely = (
        effect.idle | tied | not_asked_for(found) | ({conv.weight for conv in convs} if not filter_groups else set())
    )
    missed = [name for name in unrecognised(model, partition, found) if name not in purposely]
    if missed:
        warnings.warn(
            f"{type(model).__name__}: {len(missed)} weight(s) were not recognised and stay in the remainder, "
            f"which always trains: {', '.join(missed)}",
            stacklevel=2,
        )
    return partition


def _claims(
    model: nn.Module,
    found: list[Block],
    convs: list[Filters],
    tied: set[str],
    heads: bool,
    neurons: bool,
    experts: bool,
    groups: int,
) -> list[Claim]:
    """What the trainable attentions, feed-forward blocks, experts and convolutions are cut by, all but the ``tied``."""
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad} - tied

    def cut(weights: set[str]) -> bool:
        return not weights.isdisjoint(trains) and weights.isdisjoint(tied)

    claims: list[Claim] = []
    for block in found:
        claims += [unit.premise for _, unit in block.heads if heads and cut(unit.weights)]
        claims += [unit.premise for _, unit in block.ffns if neurons and cut(unit.weights)]
        claims += [unit.claim for _, unit in block.experts if experts and unit.weights <= trains]
    claims += [conv.claim(groups) for conv in convs if groups and trains.issuperset(conv.owners)]
    return claims


class _Effect:
    """What gradients on an ``example`` say of ``claims`` and modules; without one nothing is contradicted."""

    def __init__(self, model: nn.Module, claims: Sequence[Claim], example: Inputs | None) -> None:
        self.model, self.example = model, example
        self.idle: set[str] = set()
        self.verdicts: dict[Claim, str] = {}
        self.mixed: list[str] = []
        self.unused: list[str] = []
        if example is not None:
            self.idle = idle_parameters(model, example)
            self.verdicts, self.trace = look(model, claims, example)

    def neurons(self, unit: FeedForward) -> FeedForward | None:
        """``unit``, turned as the effect has it; None where its rows may not be cut from each other."""
        if self.verdicts.get(unit.premise) != CONTRADICTED:
            return unit
        # one by one: they are about the same maps
        found = [o for o in unit.turned() if CONFIRMED in self.trace.verdicts([o.premise]).values()]
        if len(found) != 1:
            self.mixed.append(unit.path)
        return found[0] if len(found) == 1 else None

    def apart(self, unit: Experts) -> bool:
        """Whether the experts may be cut from each other."""
        if self.verdicts.get(unit.claim) == CONTRADICTED:
            self.mixed.append(unit.path)
        return unit.path not in self.mixed

    def filters(self, conv: Filters, count: int) -> list[tuple[Slice, ...]]:
        """What each of ``count`` groups of filters owns; without the norm where it is of other channels, and none where
        they mix."""
        if not count:
            return []
        if self.verdicts.get(conv.claim(count)) == CONTRADICTED and conv.norm is not None:
            assert self.example is not None  # as something was contradicted
            self.mixed.append(conv.norm)
            conv = conv.bare
            self.verdicts.update(look(self.model, [conv.claim(count)], self.example)[0])
        if self.verdicts.get(conv.claim(count)) == CONTRADICTED:
            self.mixed.append(conv.path)
            return []
        return conv.groups(count)

    def heads(self, unit: Heads, outputs: bool) -> list[tuple[Slice, ...]]:
        """What each head owns; none where all of them mix."""
        if self.verdicts.get(unit.premise) != CONTRADICTED:
            return [unit.slices(h, outputs) for h in range(unit.groups)]
        groups = self.trace.groups(unit.premise)
        if len(groups) == 1 or not all(any(rows) for rows, _ in groups):
            self.mixed.append(unit.core)
            return []
        return [joined(unit.cut(rows, columns, outputs)) for rows, columns in groups]

    def moving(self, modules: list[Module]) -> list[Module]:
        """``modules`` without those on which the outputs do not depend; experts may be chosen by other samples."""
        own = {module.name: {piece.parameter for piece in module.slices} for module in modules}
        self.unused = [m.name for m in modules if m.kind != "expert" and own[m.name] <= self.idle]
        return [module for module in modules if module.name not in self.unused]

    def warnings(self) -> Iterator[str]:
        """What is left to the remainder, or could not be looked at."""
        if self.mixed:
            yield f"gradients contradict the names and shapes of {listed(self.mixed)}, which stay in the remainder"
        if self.unused:
            yield (
                "the outputs in evaluation mode do not depend on these modules, which stay in the remainder: "
                f"{listed(self.unused)}"
            )
        if doubt := unconfirmed(self.verdicts):
            yield doubt


def _trainable(model: nn.Module, modules: list[Module], adapted: set[str]) -> list[Module]:
    """The modules without those that are frozen, of such as have ``adapted`` weights what is not. Raises InputError
    where another is frozen in part."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    kept = []
    for module in modules:
        own = dict.fromkeys(piece.parameter for piece in module.slices)
        if not frozen.issuperset(own):
            if not adapted.isdisjoint(own):
                module = replace(module, slices=tuple(p for p in module.slices if p.parameter not in frozen))
            elif some := sorted(frozen.intersection(own)):
                raise InputError(
                    f"{module.name!r} is frozen in part: {some[0]!r} requires no gradient, other parameters of it do; "
                    "freeze all of them or none (requires_grad_)"
                )
            kept.append(module)
    return kept


def _in_order(model: nn.Module, found: list[Block], convs: list[Filters]) -> list[Block | Filters]:
    """Blocks and convolutions in one order, the model's."""
    order = {path: i for i, (path, _) in enumerate(model.named_modules())}
    first = {block.path: block.heads[0][1].place for block in found if block.heads}
    return sorted((*found, *convs), key=lambda part: order[first.get(part.path, part.path)])


def _feed_forward(block: Block, name: str, depth: int, ffn_groups: int, experts: bool) -> Iterable[Module]:
    for qualifier, ffn in block.ffns:
        stem = ".".join(filter(None, (name, qualifier, "ffn")))
        for group, slices in enumerate(ffn.groups(ffn_groups) if ffn_groups else ()):
            yield Module(stem if ffn_groups == 1 else f"{stem}{group}", "ffn", depth, slices)
    for qualifier, unit in block.experts:
        stem = ".".join(filter(None, (name, qualifier, "expert")))
        for expert, slices in enumerate(unit.slices if experts else ()):
            yield Module(f"{stem}{expert}", "expert", depth, slices)


def _layers(model: nn.Module, found: list[Block], convs: list[Filters]) -> list[Module]:
    """Whole blocks, and the convolutions outside them, in the model's order."""
    shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    order = {path: i for i, (path, _) in enumerate(model.named_modules())}
    names = {block.path: block.name for block in found}
    free = [conv for conv in convs if not any(within(conv.path, path) for path in names)]
    around = repeated_blocks(model, [conv.path for conv in free], found)
    whole = [*names, *dict.fromkeys(path for path in around.values() if path)]

    def parts_of(path: str) -> list[str]:
        return [name for name in shapes if within(name, path)]

    parts = {path: parts_of(path) for path in whole}
    for conv in free:
        if not around[conv.path]:
            taken = [owner for owner in conv.owners if any(within(owner, path) for path in whole)]
            parts[conv.path] = [owner for owner in conv.owners if owner not in taken]
    parts |= {path: own for path in _unknown_layers(model, found, convs) if (own := parts_of(path))}
    unnamed = sum(name.startswith("layer") for name in names.values())
    if unnamed and len(parts) > len(names):  # numbered anew, so that the numbers follow the model's order
        names = {}
    modules, count = [], 0
    for depth, path in enumerate(sorted(parts, key=order.__getitem__)):
        name = names.get(path, f"layer{count}")
        count += path not in names
        slices = tuple(Slice(owner, 0, 0, (*shapes[owner], 1)[0]) for owner in parts[path])
        modules.append(Module(name, "layer", depth, slices))
    return modules


def _unknown_layers(model: nn.Module, found: list[Block], convs: list[Filters]) -> list[str]:
    """Repeated parts in which nothing is recognised: those of a class that blocks have; of a model without blocks and
    convolutions, all that are not inside one another."""
    modules = dict(model.named_modules())
    if not found and not convs:
        every = [path for path in siblings(model, found) if path]
        return [path for path in every if not any(path != other and within(path, other) for other in every)]
    classes = {type(modules[block.path]) for block in found if not of_torch(modules[block.path])}
    outside = [path for path in siblings(model, found) if not any(within(path, block.path) for block in found)]
    return [path for path in outside if type(modules[path]) in classes]
