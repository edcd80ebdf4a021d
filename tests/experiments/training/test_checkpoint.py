"""Weights go from run to run: what arrives is what was saved, and what does not fit is refused by name."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mat.errors import InputError
from mat.evidence.runs.pool import collect
from mat.experiments.config.spec import Spec, Start
from mat.experiments.tasks.text.tokenizer import subwords, wordpiece
from mat.experiments.training import checkpoint
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.experiments.training.prepare import check
from mat.experiments.training.run import record, train
from mat.records.run import CHECKPOINT, kept
from mat.records.seal import SEAL, write_seal

TEXT = {
    "task": {"name": "hmm", "length": 8, "train": 64, "validation": 16, "test": 16},
    "model": {"name": "bert", "layers": 2, "width": 16, "heads": 2},
    "recipe": {"batch": 8, "epochs": 1, "evaluate_every": 8, "lr": 3e-3},
    "probe": {"n": 6, "every": 4},
    "method": {"name": "vanilla"},
}


def spec(**changes):
    return Spec.of({**TEXT, **{key: {**TEXT.get(key, {}), **value} for key, value in changes.items()}})


def trained(made, out, **more):
    return train(made, out, Machine(cache=out.parent), **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of runs, with one that was kept."""
    root = tmp_path_factory.mktemp("runs")
    made = spec(method={"name": "mat"})
    trained(made, root / made.name, keep=True)
    return root


def name(folder):
    return next(path.name for path in folder.iterdir() if (path / "checkpoint").is_dir())


def started(folder, **changes):
    made = spec(start={"run": name(folder)}, **changes)
    return Loop(made, folder / made.name, Machine(cache=folder))


def test_a_run_starts_where_the_other_ended(folder):
    weights = load_file(folder / name(folder) / "checkpoint/model.safetensors")
    fresh = Loop(spec(), folder / "fresh", Machine(cache=folder))
    loop = started(folder)
    body = {key: value for key, value in loop.model.state_dict().items() if key.startswith("bert.")}
    assert len(body) > 20
    for key, value in body.items():
        assert torch.equal(value, weights[key]), key
    words = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(fresh.model.state_dict()[words], weights[words])


def test_the_checkpoint_is_one_that_transformers_reads(folder):
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(folder / name(folder) / "checkpoint")
    assert model.config.num_hidden_layers == 2
    weights = load_file(folder / name(folder) / "checkpoint/model.safetensors")
    for key, value in model.state_dict().items():
        if key in weights:
            assert torch.equal(value, weights[key]), key


def test_a_run_records_what_it_started_from_and_resumes_with_nothing_else(folder):
    loop = started(folder)
    assert record(loop)["start_hash"] == loop.stands_on["start_hash"]
    assert len(bytes.fromhex(loop.start_hash)) == 32
    assert Loop(spec(), folder / "fresh", Machine(cache=folder)).start_hash is None


def test_the_initial_weights_of_one_seed_are_the_same_for_every_method(folder):
    one, other = (started(folder, method={"name": m}) for m in ("vanilla", "mat"))
    for (key, a), b in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_a_finished_run_without_a_checkpoint_is_trained_again_when_one_is_wanted(tmp_path):
    made = spec()
    final = trained(made, tmp_path / "run")
    assert not checkpoint.is_complete(tmp_path / "run")
    again = trained(made, tmp_path / "run", keep=True)
    assert again == final
    assert checkpoint.is_complete(tmp_path / "run")
    before = (tmp_path / "run/checkpoint/model.safetensors").stat().st_mtime_ns
    trained(made, tmp_path / "run", keep=True)
    assert (tmp_path / "run/checkpoint/model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"width": 32}}, r"has embeddings\.word_embeddings\.weight of shape \(\d+, 16\), the model needs"),
        ({"model": {"heads": 4}}, r"has num_attention_heads 2, the model 4"),
        ({"model": {"layers": 1}}, r"has more than the model: 'encoder\.layer\.1\."),
        ({"model": {"layers": 3}}, r"has less than the model: 'encoder\.layer\.2\."),
        ({"task": {"length": 12}}, r"has embeddings\.position_embeddings\.weight of shape .*, the model needs"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, changes, message):
    with pytest.raises(InputError, match=message):
        started(folder, **changes)


def test_other_token_ids_of_the_same_number_are_refused(folder, tmp_path):
    other = shutil.copytree(folder / name(folder), tmp_path / name(folder))
    config = other / "checkpoint/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "vocabulary_hash": "0" * 64}))
    write_seal(other / SEAL, (*kept(other), *CHECKPOINT))
    made = spec(start={"run": other.name})
    with pytest.raises(InputError, match=r"trained on other token ids than the task hmm"):
        Loop(made, tmp_path / made.name, Machine(cache=folder))


def test_a_checkpoint_that_is_not_there_and_one_that_is_damaged_are_named(folder, tmp_path):
    made = spec(start={"run": "nowhere"})
    with pytest.raises(InputError, match=r"nowhere, whose checkpoint is not at .* train it first"):
        Loop(made, tmp_path / made.name, Machine(cache=folder))
    shutil.copytree(folder / name(folder), tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is of the run .*, expected 'nowhere'"):
        Loop(made, tmp_path / made.name, Machine(cache=folder))
    damaged = shutil.copytree(folder / name(folder), tmp_path / name(folder))
    made = spec(start={"run": damaged.name})
    weights = damaged / "checkpoint/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors is not what SHA256SUMS beside it was written for"):
        Loop(made, tmp_path / made.name, Machine(cache=folder))
    write_seal(damaged / SEAL, (*kept(damaged), *CHECKPOINT))
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        Loop(made, tmp_path / made.name, Machine(cache=folder))


def test_models_that_are_not_of_transformers_have_no_checkpoint(tmp_path):
    made = Spec.of({"task": {"name": "digits"}, "model": {"name": "vgg"}, "method": {"name": "vanilla"}})
    with pytest.raises(InputError, match="only models of transformers"):
        trained(made, tmp_path / "run", keep=True)
    assert not (tmp_path / "run/final.json").exists()


def test_a_published_checkpoint_is_read_from_the_mirror(folder, tmp_path):
    shutil.copytree(folder / name(folder) / "checkpoint", tmp_path / "mirror/owner/model")
    (tmp_path / "mirror/owner/model/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nword\n")
    made = spec(start={"hub": "owner/model", "revision": "0" * 40})
    loop = Loop(made, tmp_path / made.name, Machine(tmp_path / "mirror", tmp_path / "cache"))
    assert loop.start_hash == started(folder).start_hash
    assert Start(hub="owner/model", revision="0" * 40) == loop.spec.start
    config = tmp_path / "mirror/owner/model/config.json"
    content = json.loads(config.read_text())
    del content["vocabulary_hash"]  # as a published one is: its words tell
    config.write_text(json.dumps(content))
    with pytest.raises(InputError, match="trained on other token ids"):
        Loop(made, tmp_path / made.name, Machine(tmp_path / "mirror", tmp_path / "cache"))
    with pytest.raises(InputError, match="trained on other token ids"):  # before any run
        check(made, Machine(tmp_path / "mirror", tmp_path / "cache"))
    (tmp_path / "mirror/owner/model/vocab.txt").unlink()
    with pytest.raises(InputError, match=r"model/vocab\.txt, found none"):
        Loop(made, tmp_path / made.name, Machine(tmp_path / "mirror", tmp_path / "cache"))


def test_the_word_list_of_a_published_checkpoint_is_the_vocabulary_of_its_tokenizer(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    assert checkpoint._vocabulary(tmp_path, object()) == subwords(wordpiece(words).to_str()).hash
    (tmp_path / "vocab.txt").write_text("\n".join(words[:-1]) + "\n")
    assert checkpoint._vocabulary(tmp_path, object()) != subwords(wordpiece(words).to_str()).hash


def test_runs_from_one_that_diverged_diverge_and_can_be_pooled(tmp_path):
    first = spec(recipe={"lr": 1e30})
    assert trained(first, tmp_path / first.name, keep=True)["status"] == "diverged"
    followed = spec(method={"name": "mat"}, start={"run": first.name})
    for given in ({"name": "vanilla", "observe": True}, {"name": "mat"}, {"name": "random", "match": followed.name}):
        made = spec(method=given, start={"run": first.name})
        assert trained(made, tmp_path / made.name)["status"] == "diverged"
        assert list(collect([tmp_path / made.name]).runs["status"]) == ["diverged"]
