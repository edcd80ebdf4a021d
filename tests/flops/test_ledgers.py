"""Ledgers: what ran equals the formula exactly; the nominal count differs by what it says; nothing reads as zero."""

import functools
import random
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.experiments.models import bert, switch
from mat.experiments.task_signature import Signature
from mat.flops.elementwise import elementwise_macs, optimizer_key
from mat.flops.executed import StepLedger, _convolution_backward, executed_macs, macs_within, routed_rows
from mat.flops.nominal import nominal
from mat.flops.operators import is_free, math_attention
from mat.modes import MODES
from mat.partition.discovery import partition_model
from mat.partition.partition import Module, Partition, Slice
from tests.cases import CASES, bert_case, logits, vgg_case
from tests.zoo import BERT as SIZES
from tests.zoo import ZOO, animal

case_of = functools.cache(lambda name: CASES[name]())


def active_sets(name):
    """No module, all, and some of them, few and many."""
    names, draws = case_of(name).partition.names, random.Random(name)
    shares = (0.3, 0.7)
    some = [frozenset(n for n in names if draws.random() < share) for share in shares]
    return [frozenset(), frozenset(names), *some]


@functools.cache
def measured(name, mode, active):
    """One step of a case: what was executed, and what was routed where."""
    case = case_of(name)
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.look(case.inputs)
    sparse.set_active(active)
    try:
        return StepLedger(case.model, case.partition, mode).step(lambda: case.loss().backward(), active, {})
    finally:
        sparse.close()
        case.model.zero_grad()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_executed_is_the_closed_form(name, mode):
    case = case_of(name)
    for active in active_sets(name):
        work = case.family.work(case.settings, case.signature, len(case.labels))
        assert measured(name, mode, active).macs == work.step(active, mode), active


@pytest.mark.parametrize("name", CASES)
def test_share_one_is_the_dense_step(name):
    case = case_of(name)
    dense, _ = executed_macs(lambda: case.loss().backward())
    assert measured(name, "detach", frozenset(case.partition.names)).macs == dense


FREE = (
    *("aten::add_", "aten::_foreach_addcdiv_", "aten::transpose", "aten::gelu", "prim::Constant"),
    "aten::native_layer_norm_backward",
)
WITH_PRODUCTS = (
    *("aten::mm", "aten::mv", "aten::bmm", "aten::convolution", "aten::bilinear", "aten::lstm", "aten::cdist"),
    *("aten::scaled_dot_product_attention", "aten::_native_multi_head_attention", "aten::_fft_c2c"),
    *("prim::PythonOp.Thing", "other::add"),
)


class TestExecutedFailsClosed:
    @pytest.mark.parametrize("name", ZOO)
    def test_no_operator_of_a_known_model_is_refused(self, name):
        made = animal(name)
        made.model.train()
        step, _ = executed_macs(lambda: logits(made.model, made.inputs).logsumexp(-1).sum().backward())
        made.model.eval()
        with torch.no_grad():
            forward, _ = executed_macs(lambda: logits(made.model, made.inputs))
        assert 2 * forward < step <= 3 * forward or name == "switch"  # routing noise while it trains

    def test_nor_of_bert_with_dropout(self):
        example = {"input_ids": torch.zeros(1, 6, dtype=torch.long)}
        model = bert.build(bert.Settings(width=12, heads=3, dropout=0.1), Signature("masked_lm", example, 11))
        with_dropout, _ = executed_macs(lambda: model.train()(**example).logits.sum().backward())
        without, _ = executed_macs(lambda: model.eval()(**example).logits.sum().backward())
        assert with_dropout == without > 0

    @pytest.mark.parametrize(
        ("optimizer", "options"),
        [
            ("AdamW", {"foreach": True}),
            ("AdamW", {"fused": True}),
            ("AdamW", {"foreach": False, "amsgrad": True}),
            ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
            ("SGD", {"fused": True}),
            ("NAdam", {}),
            ("RMSprop", {"centered": True}),
            ("Adagrad", {}),
            ("Adadelta", {}),
            ("Adamax", {}),
            ("RAdam", {}),
            ("Adafactor", {}),
        ],
    )
    def test_nor_of_an_optimizer(self, optimizer, options):
        model, x = nn.Linear(4, 4), torch.randn(3, 4)
        steps = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1, **options)

        def step():
            model(x).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            steps.step()

        step()
        macs, _ = executed_macs(step)
        outer = 16 if optimizer == "Adafactor" else 0  # it keeps second moments as an outer product
        assert macs == 2 * 3 * 16 + outer

    def test_an_unknown_operator_is_named(self):
        x, w = torch.randn(8, 5), torch.randn(7, 5)
        with pytest.raises(InputError, match=r"'aten::_cdist_forward'.*register_flop_formula"):
            executed_macs(lambda: (x @ w.T, torch.cdist(x[None], w[None])))
        with pytest.raises(InputError, match="aten::_linalg_svd"):
            executed_macs(lambda: torch.linalg.svd(x))

    def test_a_custom_operator_is_named_even_when_it_is_called_like_a_free_one(self):
        schema = "(Tensor a, Tensor b) -> Tensor"
        product = torch.library.custom_op("mat_tests::add", lambda a, b: a @ b, mutates_args=(), schema=schema)
        with pytest.raises(InputError, match=r"'mat_tests::add'.*up to 60 MACs"):
            executed_macs(lambda: product(torch.randn(3, 4), torch.randn(4, 5)))

    def test_below_a_thousandth_it_is_let_through(self):
        x, w = torch.randn(64, 64), torch.randn(3)
        macs, _ = executed_macs(lambda: (x @ x, torch.fft.fft(w)))
        assert macs == 64**3

    def test_fused_attention_is_refused_where_the_counter_does_not_know_it(self, monkeypatch):
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        monkeypatch.delitem(flop_registry, fused, raising=False)
        q = torch.randn(1, 2, 5, 4)
        with pytest.raises(InputError, match="flash_attention_for_cpu"):
            executed_macs(lambda: fused(q, q, q))
        macs, _ = executed_macs(lambda: F.scaled_dot_product_attention(q, q, q))
        assert macs == 2 * 2 * 5 * 5 * 4  # it runs as the products it is made of

    @pytest.mark.parametrize(
        ("operator", "free"), [(name, True) for name in FREE] + [(name, False) for name in WITH_PRODUCTS]
    )
    def test_free_operators_do_no_products(self, operator, free):
        assert is_free(operator) is free


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_grouped_convolution_is_counted_by_hand(groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer, x = kind(4, 8, 3, stride=2, groups=groups), torch.randn(5, 4, 9, 9, requires_grad=True)
    pixels = 81 if transposed else 16
    forward = 5 * pixels * 9 * 4 * 8 // groups
    macs, _ = executed_macs(lambda: layer(x).sum().backward())
    assert macs == 3 * forward
    macs, _ = executed_macs(lambda: layer(x.detach()).sum().backward())
    assert macs == 2 * forward


def test_the_vgg_convolutions_are_counted_by_hand():
    case = vgg_case()
    count = nominal(case.model, case.partition, case.example)
    by_hand = [9 * 2 * 4 * 64, 9 * 4 * 6 * 16, 9 * 6 * 8 * 16]
    for depth, macs in enumerate(by_hand):
        assert sum(v for name, v in count.modules.items() if name.startswith(f"conv{depth}")) == macs
        assert count.modules[f"conv{depth}.filters0"] == macs // 2


def test_the_heads_of_bert_are_counted_by_hand():
    case = bert_case(ffn_groups=1)
    count = nominal(case.model, case.partition, case.example)
    s, d, heads = 6, 12, 3
    assert count.modules["layer0.head0"] == s * 4 * d * d // heads + 2 * s * s * d // heads
    assert count.modules["layer1.ffn"] == s * 8 * d * d


def _scores(queries, keys, width):
    return 2 * queries * keys * width


BY_HAND = {  # one head (of two), one FFN; length 5 and width 8 unless said otherwise
    "bert": {"layer0.head1": (5 * 4 * 64 + _scores(5, 5, 8)) // 2, "layer0.ffn": 5 * 2 * 8 * 12},
    "gpt2": {"layer1.head0": (5 * 4 * 64 + _scores(5, 5, 8)) // 2, "layer1.ffn": 5 * 2 * 8 * 32},
    # 4 tokens and the class token
    "vit": {"layer1.head0": (5 * 4 * 64 + _scores(5, 5, 8)) // 2, "layer0.ffn": 5 * 2 * 8 * 12},
    # 64 tokens in windows of 16; deeper 16 in one window, twice the width
    "swin": {
        "layer0.head0": (64 * 4 * 64 + _scores(64, 16, 8)) // 2,
        "layer1.ffn": 64 * 2 * 8 * 32,
        "layer2.head1": (16 * 4 * 256 + _scores(16, 16, 16)) // 2,
    },
    # four query heads in two groups that share key and value
    "llama": {"layer1.head0": (5 * (2 * 64 + 2 * 32) + _scores(5, 5, 8)) // 2, "layer0.ffn": 5 * 3 * 8 * 12},
    "t5": {
        "encoder0.head0": (5 * 4 * 64 + _scores(5, 5, 8)) // 2,
        "decoder0.head1": (4 * 4 * 64 + _scores(4, 4, 8)) // 2,
        "decoder0.cross.head0": (4 * 2 * 64 + 5 * 2 * 64 + _scores(4, 5, 8)) // 2,
        "encoder0.ffn": 5 * 3 * 8 * 12,
    },
}


@pytest.mark.parametrize("name", BY_HAND)
def test_heads_and_feed_forward_blocks_are_counted_by_hand(name):
    made = animal(name)
    with pytest.warns(UserWarning) if name == "swin" else nullcontext():
        partition = partition_model(made.model)
    count = nominal(made.model, partition, {k: v[:1] for k, v in made.inputs.items()})
    assert {module: count.modules[module] for module in BY_HAND[name]} == BY_HAND[name]


class TestNominalFailsClosed:
    def test_a_layer_that_is_never_called_is_an_error(self):
        model = nn.Sequential(nn.Conv2d(1, 4, 3))
        model.spare = nn.Linear(4, 4)
        model.forward = lambda x: model[0](x).mean((2, 3))
        spare = Module("spare", "layer", 0, (Slice("spare.weight", 0, 0, 4),))
        with pytest.raises(InputError, match=r"'spare'.*never called"):
            nominal(model, Partition.of(model, [spare]), {"x": torch.randn(1, 1, 5, 5)})

    def test_a_weight_behind_a_parametrisation_is_an_error(self):
        model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
        name = "0.parametrizations.weight.original1"
        own = Module("own", "layer", 0, (Slice(name, 0, 0, 4),))
        with pytest.raises(InputError, match="remove its parametrisation"):
            nominal(model, Partition.of(model, [own]), {"input": torch.randn(1, 4)})

    @pytest.mark.parametrize("share", ["large", "small"])
    def test_an_unknown_operator_is_named_unless_it_is_negligible(self, share):
        class Model(nn.Linear):
            def forward(self, input):
                far = torch.cdist(input, input) if share == "large" else torch.cdist(input[:, :1], input[:, :1])
                return super().forward(input) + far.sum()

        model = Model(32, 32)
        partition = Partition.of(model, [Module("m", "layer", 0, (Slice("weight", 0, 0, 32),))])
        example = {"input": torch.randn(1, 32, 32)}
        if share == "large":
            with pytest.raises(InputError, match=r"nominal ledger.*'aten::cdist'"):
                nominal(model, partition, example)
        else:
            assert nominal(model, partition, example).modules["m"] == 32**3

    def test_a_function_of_python_is_unknown(self):
        class Product(torch.autograd.Function):
            @staticmethod
            def forward(ctx, a, b):
                return a @ b

        class Model(nn.Linear):
            def forward(self, input):
                return Product.apply(super().forward(input), self.weight)

        model = Model(8, 8)
        partition = Partition.of(model, [Module("m", "layer", 0, (Slice("weight", 0, 0, 8),))])
        with pytest.raises(InputError, match=r"PythonOp"):
            nominal(model, partition, {"input": torch.randn(1, 8)})

    def test_a_broadcast_product_is_counted_in_full(self):
        class Model(nn.Linear):
            def forward(self, input):
                return torch.matmul(self.weight, input)  # (4, 3) with (7, 3, 5)

        model = Model(3, 4, bias=False)
        partition = Partition.of(model, [Module("m", "layer", 0, (Slice("weight", 0, 0, 2),))])
        count = nominal(model, partition, {"input": torch.randn(7, 3, 5)})
        assert (count.forward, count.modules["m"]) == (7 * 4 * 3 * 5, 7 * 4 * 3 * 5 // 2)


@functools.cache
def counted(name):
    """The nominal count of a case's example, and the products of its forward pass."""
    case = case_of(name)
    count = nominal(case.model, case.partition, case.example)
    with torch.no_grad():
        return count, executed_macs(lambda: case.model(**case.example))[0]


@pytest.mark.parametrize("name", CASES)
def test_nominal_exceeds_the_forward_products_only_by_normalisation_and_pooling(name):
    """fvcore also counts elementwise work of norms and pooling; it lies in the remainder and is small."""
    count, forward = counted(name)
    assert forward <= count.forward <= 1.15 * forward
    dense = count.step(2, case_of(name).partition.names)
    assert dense == 2 * 3 * count.forward
    assert count.step(2, []) == 2 * (count.forward + 2 * count.remainder)


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", CASES)
def test_executed_differs_from_nominal_by_what_its_docstring_says(name, mode):
    for active in active_sets(name):
        assert measured(name, mode, active).macs == _from_nominal(name, mode, active), active


def _from_nominal(name, mode, active):
    case, step = case_of(name), measured(name, mode, active)
    count, forward = counted(name)
    elementwise = count.forward - forward
    batch = len(case.labels)
    # of a whole batch; what was routed to an expert is of the batch already
    forward = {module: batch * macs for module, macs in count.modules.items()}
    forward |= {expert: macs * step.routed[expert] for expert, macs in count.experts.items() if expert in step.routed}
    forward |= dict.fromkeys(set(count.experts) - set(step.routed), 0)
    passed = 0 if mode == "detach" else sum(forward[m] for m in set(forward) - active)
    if name in READS:
        scores, dead = 0, _dead_ends(count.modules, active, mode, READS[name])
    else:
        # the patch projection's input are the images
        images = name.startswith("vit")
        length, dead = (5, 4 * 2 * 4**2 * 12) if images else (case.inputs["input_ids"].shape[1], 0)
        if "rows" in name and mode == "detach":  # W_O is the remainder's: without an active head nothing is below it
            idle = sum(not any(m.startswith(f"layer{i}.head") for m in active) for i in range(2))
            dead += idle * length * 12 * 12
        heads = sum(".head" in m for m in set(forward) - active)
        scores = batch * heads * _scores(length, length, 12) // 3
    passed += scores if mode == "exact" else 0
    return count.step(batch, active, step.routed) + passed - batch * (3 * elementwise + dead)


# Per convolution those whose outputs reach its input, several where they are added; last the classifier, and its MACs.
READS = {
    "vgg": ([[], [0], [1], [2]], 8 * 3),
    "vgg_plain": ([[], [0], [1], [2]], 8 * 3),
    # the stem; a block with an identity; three blocks whose third convolution is the shortcut
    "resnet": ([[], [0], [1], [0, 2], [3], [0, 2], [4, 5], [6], [4, 5], [7, 8], [9], [7, 8], [10, 11]], 32 * 3),
}


def _dead_ends(modules, active, mode, reads):
    """What of the two gradients of trained convolutions (all of them in ``exact``) is not computed: nothing below
    asks for an input's, nobody sends an output's, or the channels are those of constants and reach nobody else."""
    reads, classifier = reads
    last, detach = len(reads) - 1, mode == "detach"
    layers = [[name for name in modules if name.startswith(f"conv{i}.")] for i in range(last)]
    on = [len(active.intersection(names)) for names in layers]
    varies = []  # whether anything that trains reaches a convolution's output
    for i in range(last):
        varies.append(on[i] > 0 or (not detach and any(varies[j] for j in reads[i])))
    asked = [any(varies[j] for j in below) for below in reads]
    sends = [asked[i] and (not detach or on[i] > 0) for i in range(last)] + [asked[last]]
    reached = [False] * last + [True]
    for i in reversed(range(last)):
        reached[i] = any(reached[j] and sends[j] for j in range(i + 1, last + 1) if i in reads[j])
    dead = 0 if asked[last] else classifier
    for i, names in enumerate(layers):
        own = sum(modules[name] for name in names if name in active)
        through = own if detach else sum(modules[name] for name in names)
        share = on[reads[i][0]] / len(layers[reads[i][0]]) if detach and len(reads[i]) == 1 else 1
        dead += (0 if reached[i] else own) + through - (share * through if reached[i] and asked[i] else 0)
    return dead


EXAMPLE = {"input_ids": torch.zeros(1, 12, dtype=torch.long)}
SWITCH = switch.Settings(width=16, heads=2, dropout=0.1)


def made_switch():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = switch.build(SWITCH, Signature("masked_lm", EXAMPLE, 11))
        for name, p in model.named_parameters():
            if "router" in name:  # a sharp router: every batch is routed differently
                nn.init.normal_(p, 0.0, 3.0)
    return model.train()


@functools.cache
def switch_count():
    model = made_switch().eval()
    return nominal(model, switch.partition(SWITCH, model), EXAMPLE)


class TestRouting:
    """The experts' cost is that of the rows that were routed to them in this very step."""

    @pytest.mark.parametrize("mode", ["exact", "detach", "dense"])
    @settings(max_examples=2)  # of four batches each
    @given(data=st.data())
    def test_a_remembered_step_costs_what_it_would_be_counted_at(self, mode, data):
        model = made_switch()
        partition = switch.partition(SWITCH, model)
        active = set(partition.names)
        if mode != "dense":
            active = data.draw(st.sets(st.sampled_from(partition.names)))
            SparseBackward(model, partition, mode).set_active(active)
        ledger, memo, seen = StepLedger(model, partition, mode), {}, set()
        for seed in data.draw(st.lists(st.integers(0, 10**6), min_size=4, max_size=4)):
            batch = {"input_ids": torch.randint(11, (3, 12), generator=torch.Generator().manual_seed(seed))}
            if data.draw(st.booleans()):  # one word only: most experts get nothing
                batch["input_ids"][:] = seed % 11

            def run(batch=batch):
                torch.default_generator.manual_seed(0)
                logits(model, batch).logsumexp(-1).sum().backward()

            counted = ledger.step(run, active, memo)
            assert counted.macs == executed_macs(run)[0]
            seen.add(tuple(sorted(counted.routed.items())))
        assert len(memo) == 1

    def test_routing_does_change_and_some_experts_get_nothing(self):
        model = made_switch()
        partition = switch.partition(SWITCH, model)
        ledger, memo, costs, empty = StepLedger(model, partition, "dense"), {}, set(), 0
        for word in range(11):
            batch = {"input_ids": torch.full((3, 12), word)}
            counted = ledger.step(lambda b=batch: logits(model, b).sum().backward(), partition.names, memo)
            costs.add(counted.macs)
            empty += any(counted.routed.get(f"layer1.expert{e}", 0) == 0 for e in range(4))
        assert empty and sum(next(iter(memo.values()))[1].values()) <= 36
        batch = {"input_ids": torch.randint(11, (3, 12), generator=torch.Generator().manual_seed(0))}
        costs.add(ledger.step(lambda: logits(model, batch).sum().backward(), partition.names, memo).macs)
        assert len(costs) > 1

    @pytest.mark.parametrize("mode", ["exact", "detach"])
    @settings(max_examples=6)
    @given(data=st.data())
    def test_nominal_follows_what_was_routed(self, mode, data):
        """Executed = nominal, and in ``exact`` the inactive modules once more, and their scores twice."""
        model = made_switch().eval()
        partition = switch.partition(SWITCH, model)
        count = switch_count()
        units = [n for n in partition.names if ".head" not in n] + ["layer0.head", "layer1.head"]
        chosen = data.draw(st.sets(st.sampled_from(units)))  # heads of a layer together
        active = {n for n in partition.names if n.rstrip("01") in chosen or n in chosen}
        SparseBackward(model, partition, mode).set_active(active)
        batch = {"input_ids": torch.randint(11, (3, 12), generator=torch.Generator().manual_seed(1))}
        ledger = StepLedger(model, partition, mode)
        counted = ledger.step(lambda: logits(model, batch).logsumexp(-1).sum().backward(), active, {})
        extra = 0
        if mode == "exact":
            for name in set(partition.names) - active:
                rows = count.experts[name] * counted.routed.get(name, 0) if name in count.experts else None
                extra += 3 * count.modules[name] if rows is None else rows
                extra += 3 * _scores(12, 12, 16) // 2 if ".head" in name else 0
        assert counted.macs == count.step(3, active, counted.routed) + extra

    def test_the_hooks_are_gone_after_every_step_even_a_failed_one(self):
        model = made_switch()
        partition = switch.partition(SWITCH, model)
        ledger = StepLedger(model, partition, "dense")
        ledger.step(lambda: logits(model, EXAMPLE).sum().backward(), partition.names, {})
        with pytest.raises(ZeroDivisionError), routed_rows(model, ledger.experts):
            raise ZeroDivisionError
        assert not any(module._forward_pre_hooks for module in model.modules())
        experts = "stack.block.1.layer.1.mlp.experts"
        assert set(ledger.experts.values()) == {f"{experts}.expert_{e}" for e in range(4)}

    def test_experts_that_are_no_submodules_are_counted_every_step(self):
        from transformers import MixtralConfig, MixtralForCausalLM

        mixture = {"num_local_experts": 3, "num_experts_per_tok": 1, "experts_implementation": "eager"}
        config = MixtralConfig(vocab_size=13, num_key_value_heads=2, use_cache=False, **mixture, **SIZES)
        model = MixtralForCausalLM(config)
        partition = partition_model(model)
        assert any(m.kind == "expert" for m in partition.modules)
        ledger, memo = StepLedger(model, partition, "dense"), {}
        for seed in range(3):
            ids = torch.randint(13, (1, 1 + seed), generator=torch.Generator().manual_seed(seed))
            run = lambda ids=ids: model(input_ids=ids).logits.sum().backward()  # noqa: E731
            counted = ledger.step(run, partition.names, memo)
            assert counted.macs == executed_macs(run)[0]
            assert counted.routed is None and not memo

    def test_without_experts_the_memo_is_the_count(self):
        case = bert_case()
        ledger, memo = StepLedger(case.model, case.partition, "dense"), {}
        first, second = (ledger.step(lambda: case.loss().backward(), {"layer0.ffn0"}, memo) for _ in range(2))
        assert first.macs == second.macs == memo["layer0.ffn0",][0]
        assert memo == {("layer0.ffn0",): (first.macs, {})}


class TestOptimizer:
    """Half the entries that pointwise operators wrote."""

    def step_macs(self, optimizer, model, **clip):
        model(torch.randn(2, 4)).sum().backward()

        def update():
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), **clip)
            optimizer.step()

        return elementwise_macs(update)[0]

    def test_sgd_by_hand(self):
        model = nn.Linear(4, 5)  # 25 entries
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, foreach=True)
        assert self.step_macs(sgd, model) == 25  # decay, update; the momentum is only copied
        assert self.step_macs(sgd, model) == 2 * 25  # and its product and sum
        with_clip = self.step_macs(sgd, model, max_norm=1.0) - 50
        assert 1.5 * 25 <= with_clip <= 1.5 * 25 + 5  # a square, a sum and a product per entry, and some scalars

    @pytest.mark.parametrize("amsgrad", [False, True])
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_adamw_by_hand(self, decay, amsgrad):
        model, other = nn.Linear(40, 50), nn.Linear(40, 50)
        given = {"lr": 0.1, "weight_decay": decay, "amsgrad": amsgrad}
        apart = torch.optim.AdamW(model.parameters(), foreach=True, **given)
        fused = torch.optim.AdamW(other.parameters(), fused=True, **given)
        for steps, made in ((apart, model), (fused, other)):
            made(torch.randn(2, 40)).sum().backward()
            macs, _ = elementwise_macs(steps.step)
            expected = 2050 * (7 + (decay > 0) + amsgrad) // 2
            assert expected <= macs <= expected + 4  # each leaf's count of its steps is an entry too

    @pytest.mark.parametrize("kind", ["sgd", "adagrad"])
    def test_fused_steps_cost_what_they_do_unfused(self, kind):
        costs = []
        for fused in (False, True):
            model = nn.Linear(40, 50)
            if kind == "sgd":
                given = {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}
                steps = torch.optim.SGD(model.parameters(), foreach=not fused, fused=fused, **given)
            else:
                steps = torch.optim.Adagrad(model.parameters(), foreach=not fused, fused=fused, weight_decay=0.1)
            model(torch.randn(2, 40)).sum().backward()
            costs.append([elementwise_macs(steps.step)[0] for _ in range(2)])
        assert costs[0] == pytest.approx(costs[1], abs=4)

    def test_the_key_tells_a_first_step_from_later_ones(self):
        model = nn.Linear(4, 5)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model.weight.grad = torch.ones(5, 4)
        first = optimizer_key(sgd)
        sgd.step()
        later = optimizer_key(sgd)
        model.bias.grad = torch.ones(5)
        assert [first, later, optimizer_key(sgd)] == [((1, 20, 0, 0),), ((1, 20, 1, 20),), ((2, 25, 1, 20),)]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_executed_is_what_pytorchs_own_counter_counts_by_the_same_formulas(name, inference):
    """Forward and backward; in inference mode, where composite operators reach a counter whole."""
    case = case_of(name)

    def run():
        with torch.inference_mode() if inference else nullcontext():
            loss = case.loss()
        if not inference:
            loss.backward()

    ours = {torch.ops.aten.convolution_backward: _convolution_backward}
    with math_attention(), FlopCounterMode(display=False, custom_mapping=ours) as counter:
        run()
    case.model.zero_grad()
    assert executed_macs(run)[0] == counter.get_total_flops() // 2 > 0
    case.model.zero_grad()


def test_what_is_counted_within_is_a_part_of_the_whole():
    x, found = torch.randn(2, 3), []
    macs, _ = executed_macs(lambda: (x @ x.T, found.append(macs_within(lambda: x.T @ x))))
    assert (macs, found) == (2 * 3 * 2 + 3 * 2 * 3, [3 * 2 * 3])


def test_a_graph_that_is_one_operator_is_refused_by_name():
    """A condition runs one of two branches, which nobody sees."""
    x = torch.randn(8, 8)
    with pytest.raises(InputError, match="cond"):
        executed_macs(lambda: torch.ops.higher_order.cond(torch.tensor(True), torch.sin, torch.cos, (x,)))


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_cost_a_product_with_each_weight_at_every_step(kind, bidirectional):
    """Forward B·T·Σ|W|; backward that twice, less the gradient of what is no parameter's: all inputs take one here."""
    layer = getattr(torch.nn, kind)(3, 4, num_layers=2, batch_first=True, bidirectional=bidirectional)
    weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    x = torch.randn(2, 5, 3, requires_grad=True)
    with torch.no_grad():
        assert executed_macs(lambda: layer(x))[0] == 2 * 5 * weights
    macs, _ = executed_macs(lambda: layer(x)[0].sum().backward())
    assert (
        2 * 5 * 3 * weights * 0.85 <= macs <= 2 * 5 * 3 * weights
    )  # a cell's first state is zero and takes no gradient
