"""BERT under two objectives: sizes by name, padding that nothing sees, an encoder that goes from one to the other."""

import pytest
import torch
import torch.nn.functional as F

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.experiments.models import bert, vit
from mat.experiments.task_signature import Signature
from tests.cases import bert_classification_case, logits
from tests.naive_detach import constants
from tests.zoo import modular_ntk

IDS = {"input_ids": torch.zeros(1, 6, dtype=torch.long)}
MASKED, CLASSES = Signature("masked_lm", IDS, 11), Signature("text_classification", IDS, 3, vocabulary=11)
SMALL = bert.Settings(layers=1, width=12, heads=3)


def made(signature, settings=SMALL, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return bert.build(settings, signature).eval()


@pytest.mark.parametrize(
    ("size", "layers", "width", "heads"),
    [("tiny", 2, 128, 2), ("mini", 4, 256, 4), ("small", 4, 512, 8), ("medium", 8, 512, 8), ("base", 12, 768, 12)],
)
def test_a_size_is_three_numbers(size, layers, width, heads):
    settings = bert.Settings(size=size)
    assert (settings.layers, settings.width, settings.heads) == (layers, width, heads)
    assert settings == bert.Settings(size=size, layers=layers, width=width, heads=heads)
    with pytest.raises(InputError, match=f"size {size} has width={width}, got width=64; leave out one"):
        bert.Settings(size=size, width=64)
    with pytest.raises(InputError, match=f"size {size} has layers={layers}, got layers=3"):
        bert.Settings(size=size, layers=3)


def test_without_a_size_it_is_as_small_as_ever():
    assert (SMALL.size, bert.Settings().layers, bert.Settings().width, bert.Settings().heads) == (None, 2, 64, 4)


@pytest.mark.parametrize("signature", [MASKED, CLASSES])
def test_positions_are_the_signatures_length_or_more(signature):
    assert made(signature).bert.embeddings.position_embeddings.weight.shape == (6, 12)
    long = bert.Settings(layers=1, width=12, heads=3, positions=9)
    assert made(signature, long).bert.embeddings.position_embeddings.weight.shape == (9, 12)
    assert bert.work(long, signature, 2) == bert.work(SMALL, signature, 2)
    short = bert.Settings(layers=1, width=12, heads=3, positions=5)
    for call in (lambda: bert.build(short, signature), lambda: bert.work(short, signature, 2)):
        with pytest.raises(InputError, match="positions=5 is fewer than the 6 tokens"):
            call()


@pytest.mark.parametrize("family", [bert, vit])
def test_what_the_remainder_keeps_under_ambiguities_a4_and_a5(family):
    """A head's rows of three projections with their biases; W_O and feed-forward blocks are the remainder's."""
    signature = MASKED if family is bert else Signature("image_classification", {"x": torch.zeros(1, 1, 8, 8)}, 3)
    for outputs, groups in ((True, 0), (False, 0), (False, 1)):
        settings = family.Settings(layers=1, width=12, heads=3, head_outputs=outputs, ffn_groups=groups)
        partition = family.partition(settings, family.build(settings, signature))
        sizes = {module.name: partition.size(module.slices) for module in partition.modules}
        head = 3 * 4 * (12 + 1) + (4 * 12 if outputs else 0)
        ffn = {"layer0.ffn": 2 * 12 * 48 + 48} if groups else {}
        assert sizes == {f"layer0.head{h}": head for h in range(3)} | ffn
        work = family.work(settings, signature, 2)
        tokens = 2 * (6 if family is bert else 2)
        whole = family.work(family.Settings(layers=1, width=12, heads=3), signature, 2)
        moved = (0 if outputs else 12 * 12) + (0 if groups else 8 * 12 * 12)
        assert work["remainder"].forward == whole["remainder"].forward + moved * tokens
        assert sum(map(sum, work.values())) == sum(map(sum, whole.values()))


def test_a_classifier_needs_a_vocabulary_and_no_images():
    with pytest.raises(InputError, match="number of token ids in the signature's vocabulary"):
        bert.build(SMALL, CLASSES._replace(vocabulary=None))
    with pytest.raises(InputError, match=r"masked_lm .* or text_classification"):
        bert.build(SMALL, Signature("image_classification", {"x": torch.zeros(1, 1, 8, 8)}, 10))


def test_the_encoder_is_the_same_under_both_objectives_but_for_the_pooler():
    shapes = [
        {name: tuple(p.shape) for name, p in made(signature).base_model.named_parameters()}
        for signature in (MASKED, CLASSES)
    ]
    pooler = {"pooler.dense.weight": (12, 12), "pooler.dense.bias": (12,)}
    assert shapes[1] == shapes[0] | pooler and shapes[0].keys().isdisjoint(pooler)


def test_a_classifier_goes_on_where_a_language_model_left_off():
    language, classifier = made(MASKED), made(CLASSES, seed=1)
    left = classifier.base_model.load_state_dict(language.base_model.state_dict(), strict=False)
    assert left.unexpected_keys == [] and all(name.startswith("pooler.") for name in left.missing_keys)
    ids = torch.arange(12).reshape(2, 6) % 11
    states = [m.base_model(input_ids=ids).last_hidden_state for m in (language, classifier)]
    assert torch.equal(*states)


def test_id_zero_gets_its_gradient():
    model = made(MASKED)
    model(input_ids=torch.tensor([[0, 1, 2, 3, 4, 5]])).logits.logsumexp(-1).sum().backward()
    assert model.bert.embeddings.word_embeddings.weight.grad[0].any()
    model = made(CLASSES)
    model(input_ids=torch.tensor([[3, 1, 2, 0, 4, 5]])).logits[:, 0].sum().backward()
    assert model.bert.embeddings.word_embeddings.weight.grad[0].any()


def padded():
    case = bert_classification_case()
    case.model.eval()
    lengths = case.inputs["attention_mask"].sum(1)
    assert lengths.tolist() == [6, 5, 4, 3]
    return case, lengths


def refilled(case):
    """The inputs with other words, and other token types, in the padding."""
    unseen = case.inputs["attention_mask"] == 0
    others = {name: torch.where(unseen, 1 - value % 2, value) for name, value in case.inputs.items()}
    others["attention_mask"] = case.inputs["attention_mask"]
    assert not torch.equal(others["input_ids"], case.inputs["input_ids"])
    return others


def test_padding_does_not_influence_logits():
    case, lengths = padded()
    together = logits(case.model, case.inputs)
    torch.testing.assert_close(logits(case.model, refilled(case)), together, rtol=1e-12, atol=1e-12)
    for i, length in enumerate(lengths):  # nor does its length
        alone = logits(case.model, {name: value[i : i + 1, :length] for name, value in case.inputs.items()})
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)
    everything_seen = case.inputs | {"attention_mask": torch.ones_like(case.inputs["attention_mask"])}
    assert not torch.allclose(logits(case.model, everything_seen)[1:], together[1:])  # control


@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_sparse_gradients_of_padded_texts_under_dropout(mode):
    """Dropout on attention weights beside a mask: draws, logits and gradients are plain PyTorch's."""
    case = bert_classification_case()
    for module in case.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    case.model.train()
    active = set(case.partition.names[1::2])

    def gradients(parameters):
        torch.manual_seed(0)
        out = logits(case.model, case.inputs)
        F.cross_entropy(out, case.labels).backward()
        found = {name: p.grad for name, p in parameters}
        case.model.zero_grad()
        return out.detach(), found

    with constants(case.model, case.partition, active if mode == "detach" else case.partition.names):
        _, reference = gradients(case.model.named_parameters())
    plain, _ = gradients(case.model.named_parameters())
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.set_active(active)
    out, found = gradients(sparse.named_parameters())
    torch.testing.assert_close(out, plain, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(plain, logits(case.model.eval(), case.inputs)), "nothing was dropped"
    trained = [piece for m in case.partition.modules if m.name in active for piece in m.slices]
    for piece in (*trained, *case.partition.remainder):
        whole = case.partition.is_whole(piece)
        name = piece.parameter if whole else f"{piece.parameter}[{piece.start}:{piece.stop}]"
        torch.testing.assert_close(found.pop(name), piece.of(reference[piece.parameter]), rtol=1e-9, atol=1e-12)
    assert not any(gradient is not None for gradient in found.values())


def test_padding_does_not_influence_kernels():
    case, _ = padded()
    kernels = modular_ntk(case.model, case.partition, case.inputs, "full")
    others = modular_ntk(case.model, case.partition, refilled(case), "full")
    for module, theta in kernels.items():
        assert theta.any()
        torch.testing.assert_close(others[module], theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", ["full", "sum_of_logits"])
def test_kernels_of_padded_texts_are_those_of_the_jacobian(estimator):
    """torch.func.jacrev of one unpadded text at a time: shares neither batch nor mask with what is tested."""
    case, lengths = padded()
    parameters = {name: p.detach() for name, p in case.model.named_parameters()}
    kernels = modular_ntk(case.model, case.partition, case.inputs, estimator)
    rows = []
    for i, length in enumerate(lengths):
        one = {n: v[i : i + 1, :length] for n, v in case.inputs.items() if n != "attention_mask"}

        def outputs(values, one=one):
            out = torch.func.functional_call(case.model, values, kwargs=one).logits[0]
            return out if estimator == "full" else out.sum()[None] / len(out) ** 0.5

        rows.append(torch.func.jacrev(outputs)(parameters))
    for module in case.partition.modules:
        j = torch.cat(
            [
                torch.cat([p.of(value).flatten() for p in module.slices for value in [row[p.parameter][c]]])[None]
                for row in rows
                for c in range(len(row["classifier.bias"]))
            ]
        )
        torch.testing.assert_close(kernels[module.name], j @ j.T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("padded", [False, True])
def test_the_mask_that_is_handed_on_gives_the_numbers_of_transformers(padded):
    """Bit for bit those of the plain model, which makes its own of what it is given."""
    model = made(CLASSES)
    ids = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 6, dtype=torch.long)
    if padded:
        mask[1:, 3:] = 0
    with torch.no_grad():
        own = logits(model, {"input_ids": ids, "attention_mask": mask})
        model._forward_pre_hooks.clear()
        assert torch.equal(own, logits(model, {"input_ids": ids, "attention_mask": mask}))
        assert torch.equal(own, logits(model, {"input_ids": ids})) == (not padded)
