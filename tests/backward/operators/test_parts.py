"""What is active goes from a projection to its attention and on to the next projection, uncopied where it may."""

import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mat.backward.operators import parts
from mat.backward.sparse import SparseBackward
from mat.experiments.models import bert
from mat.experiments.task_signature import Signature

LENGTH, WIDTH, HEADS, LAYERS = 12, 32, 8, 2
IDS = torch.randint(11, (4, LENGTH), generator=torch.Generator().manual_seed(0))
SETTINGS = bert.Settings(layers=LAYERS, width=WIDTH, heads=HEADS)


def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return bert.build(SETTINGS, Signature("masked_lm", {"input_ids": IDS[:1]}, 11)).double().train()


def wrapped(made):
    """In ``detach``, with heads 0, 2, 3 and 6 of every layer and the first block."""
    sparse = SparseBackward(made, bert.partition(SETTINGS, made), "detach")
    names = [name for name in sparse.partition.names if "head" in name]
    chosen = {name for i, name in enumerate(names) if i % HEADS in (0, 2, 3, 6)}
    sparse.set_active(chosen | {name for name in sparse.partition.names if "head" not in name and "0" in name})
    return sparse


@contextmanager
def watched(monkeypatch, usable=True):
    """How many parts were found; none may be where it is not ``usable``."""
    hits, real = [], parts.found

    def found(*args):
        part = real(*args) if usable else None
        hits.extend([1] * (part is not None))
        return part

    with monkeypatch.context() as patch:
        patch.setattr(parts, "found", found)
        yield hits


def gradients(change, monkeypatch, usable):
    made = model()
    sparse = wrapped(made)
    attend = made.bert.encoder.layer[0].attention
    extra = change(attend)
    with watched(monkeypatch, usable) as hits:
        loss = made(input_ids=IDS).logits.square().sum()
        loss = loss + sum(each.square().sum() for each in extra)
        loss.backward()
    return {name: leaf.grad for name, leaf in sparse.named_parameters()}, len(hits), extra


def nothing(attend):
    return []


def scaled(attend):
    attend.self.query.register_forward_hook(lambda layer, args, out: out * 1.5)
    return []


def scaled_in_place(attend):
    attend.self.query.register_forward_hook(lambda layer, args, out: out.mul_(1.5))
    return []


def detached(attend):
    attend.self.query.register_forward_hook(lambda layer, args, out: out.detach())
    return []


def watched_by_a_hook(attend):
    attend.self.query.register_forward_hook(lambda layer, args, out: out.register_hook(lambda g: g * 2) and None)
    return []


def read_elsewhere(attend):
    kept = []
    attend.self.query.register_forward_hook(lambda layer, args, out: kept.append(out))
    return kept


def scaled_behind(attend):
    attend.output.dense.register_forward_pre_hook(lambda layer, args: (args[0] * 1.5,))
    return []


def turned_behind(attend):
    attend.output.dense.register_forward_pre_hook(lambda layer, args: (args[0].transpose(0, 1),))
    attend.output.dense.register_forward_hook(lambda layer, args, out: out.transpose(0, 1))
    return []


# of 4 in each layer (query, key, value, output), how many are lost in the first
CHANGES = {
    nothing: 0,
    scaled: 1,
    scaled_in_place: 1,
    detached: 1,
    watched_by_a_hook: 1,
    read_elsewhere: 0,
    scaled_behind: 1,
    turned_behind: 1,
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_gradients_are_those_without_parts_and_parts_are_used_where_they_may_be(change, monkeypatch):
    found, hits, _ = gradients(change, monkeypatch, usable=True)
    without, none, _ = gradients(change, monkeypatch, usable=False)
    assert (hits, none) == (4 * LAYERS - CHANGES[change], 0)
    for name, gradient in without.items():
        if gradient is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12)


def test_changes_are_felt(monkeypatch):
    """The control: what is done to a tensor on its way reaches the gradients."""
    plain, _, _ = gradients(nothing, monkeypatch, usable=True)
    for change in set(CHANGES) - {nothing, turned_behind}:
        other, _, _ = gradients(change, monkeypatch, usable=True)
        assert any((a is None) != (b is None) or (a is not None and not torch.allclose(a, b))
                   for a, b in zip(plain.values(), other.values(), strict=True)), change  # fmt: skip


class Copied(TorchDispatchMode):
    """Entries that are written only to be somewhere else, or zero."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._schema.name.removeprefix("aten::") in ("cat", "clone", "copy_", "zero_", "zeros", "new_zeros"):
            self.entries += out.numel()
        return out


def test_a_step_copies_active_heads_once_and_what_attention_returns():
    made = model()
    sparse = wrapped(made)
    with Copied() as copied:
        made(input_ids=IDS).logits.square().sum().backward()
    share, entries = 4 / HEADS, IDS.numel() * WIDTH
    activations = LAYERS * (3 * share + 1) * entries
    active = sum(leaf.numel() for leaf in sparse.parameters() if leaf.grad is not None)
    assert activations <= copied.entries <= activations + 2 * active


def test_nothing_is_kept_alive_by_what_is_left():
    made = model()
    wrapped(made)
    gc.disable()
    try:
        seen = []
        made.bert.encoder.layer[0].attention.self.query.register_forward_hook(
            lambda layer, args, out: seen.append((weakref.ref(out), weakref.ref(getattr(out, parts._PART)[0])))
        )
        made(input_ids=IDS).logits.square().sum().backward()
        assert [ref() for pair in seen for ref in pair] == [None, None]
    finally:
        gc.enable()
