"""``mat kernels``: a Hugging Face folder, with and without weights, and a model of one's own; all offline."""

import json

import pandas as pd
import pytest
import torch
import transformers

from mat.experiments.cli.commands.kernels import of_function, random_inputs
from mat.experiments.cli.main import main
from mat.kernels.ntk import modular_ntk
from mat.partition.discovery import partition_model

CONFIG = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
}
MINE = """
import torch
from torch import nn

from beside import CHANNELS

def small():
    return Named(), {"images": torch.ones(3, 1, 6, 6)}

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, CHANNELS, 3), nn.Linear(CHANNELS, 2)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))

def labelled():
    return *small(), torch.tensor([0, 1, 1])

def nothing():
    return 3

def broken():
    raise ValueError("of two\\nlines")

def ends():
    raise SystemExit(0)
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def test_a_folder_with_a_config_alone_is_drawn_at_random_and_the_same_command_gives_the_same_numbers(
    folder, tmp_path, capsys
):
    given = ["kernels", str(folder), "-n", "3", "--length", "4", "--csv"]
    said = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)  # what was drawn before is of no consequence
        assert main([*given, str(tmp_path / name)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert f"weights drawn at random from {folder / 'config.json'}" in said[0]
    assert "inputs: 3 sequences of 4 random tokens" in said[0]
    assert "kernels: projected, raw, n = 3, seed 0" in said[0]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    table = pd.read_csv(tmp_path / "a")
    assert list(table["module"]) == ["layer0.head0", "layer0.head1", "layer0.ffn"]
    assert (table["lambda_max"] > 0).all()
    assert all(name in said[0] for name in table["module"])


def test_a_folder_with_weights_is_measured_with_them_by_the_choices_given(folder, tmp_path, capsys):
    torch.manual_seed(5)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**CONFIG))
    model.save_pretrained(folder)
    out = tmp_path / "k.csv"
    given = ["--estimator", "trace", "--normalisation", "cosine", "-n", "3", "--length", "20", "--seed", "2"]
    assert main(["kernels", str(folder), *given, "--csv", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"model: BertForMaskedLM, weights from {folder}\n" in said
    inputs, _ = random_inputs(model.config, 3, 20, 2)
    assert inputs["input_ids"].shape == (3, 8)  # it has eight positions
    expected = modular_ntk(model, partition_model(model), inputs, "trace").table("cosine")
    pd.testing.assert_frame_equal(pd.read_csv(out), expected, check_dtype=False, rtol=1e-6)


def test_weights_that_a_folder_lacks_are_named(folder, capsys):
    transformers.BertModel(transformers.BertConfig(**CONFIG)).save_pretrained(folder)
    assert main(["kernels", str(folder), "-n", "2", "--length", "4"]) == 0
    assert "tensors drawn at random: cls." in capsys.readouterr().out


OWN_CODE = """
from pathlib import Path
Path(__file__).with_name("was_run").touch()
from transformers import BertConfig, BertForMaskedLM
"""


@pytest.mark.parametrize("known", [True, False], ids=["a known type", "a type of its own"])
@pytest.mark.parametrize("weights", [True, False], ids=["weights", "no weights"])
def test_code_that_comes_with_a_model_is_never_run(folder, capsys, monkeypatch, known, weights):
    monkeypatch.setattr("builtins.input", lambda *said: "y")  # to whoever asks
    if weights:
        transformers.BertForMaskedLM(transformers.BertConfig(**CONFIG)).save_pretrained(folder)
    own = {"AutoConfig": "own.BertConfig", "AutoModelForMaskedLM": "own.BertForMaskedLM"}
    config = {**CONFIG, "auto_map": own, "model_type": "bert" if known else "own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(OWN_CODE)
    status = main(["kernels", str(folder), "-n", "2", "--length", "4"])
    said = capsys.readouterr()
    assert not list(folder.glob("was_run"))
    if known:
        assert status == 0 and "model: BertForMaskedLM" in said.out
    else:
        assert status == 2 and len(said.err.splitlines()) == 1
        assert "brings Python code of its own, which is not run here" in said.err


class Planted:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_objects_in_weights_are_not_made_and_damaged_weights_are_one_line(folder, tmp_path, capsys):
    torch.save({"cls.predictions.bias": Planted(str(tmp_path / "was_run"))}, folder / "pytorch_model.bin")
    refused = [main(["kernels", str(folder), "-n", "2"])]
    assert not (tmp_path / "was_run").exists()
    (folder / "pytorch_model.bin").unlink()
    (folder / "model.safetensors").write_bytes(b"no weights")
    refused.append(main(["kernels", str(folder), "-n", "2"]))
    assert refused == [2, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(f"no model can be made of {folder}" in line for line in lines)


def test_images_are_drawn_for_models_that_read_them(tmp_path, capsys):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTConfig(**sizes, image_size=8, patch_size=4).save_pretrained(tmp_path)
    assert main(["kernels", str(tmp_path), "-n", "2"]) == 0
    assert "inputs: 2 random images of 3 × 8 × 8" in capsys.readouterr().out


def test_a_model_of_one_s_own_is_what_the_function_returns(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("CHANNELS = 4\n")
    assert main(["kernels", "--model", f"{tmp_path / 'mine.py'}:small", "--estimator", "full"]) == 0
    said = capsys.readouterr().out
    assert "conv0.filters3" in said
    assert "kernels: full, raw, n = 3, seed 0" in said


def test_gradients_of_the_loss_are_measured_where_the_function_returns_labels(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("CHANNELS = 4\n")
    given, out = f"{tmp_path / 'mine.py'}:labelled", tmp_path / "table.csv"
    assert main(["kernels", "--model", given, "--estimator", "loss", "--csv", str(out)]) == 0
    torch.manual_seed(0)
    model, inputs, labels = of_function(given)
    log_shares = model(**inputs).log_softmax(1)
    whole = sum(
        parameter.square().sum().item()
        for i in range(3)
        for parameter in torch.autograd.grad(
            -log_shares[i, labels[i]], [model.conv.weight, model.conv.bias], retain_graph=True
        )
    )
    assert pd.read_csv(out)["trace"].sum() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("function", "more", "message"),
    [
        ("nothing", [], "expected a tuple (model, inputs), an nn.Module and a mapping"),
        ("broken", [], "ValueError: of two lines"),
        ("ends", [], "SystemExit: 0"),
        ("absent", [], "has no attribute 'absent'"),
        ("small", ["--estimator", "loss"], "estimator 'loss' needs labels, one entry per sample"),
        ("small", ["-n", "4"], "the function of --model returns its own"),
    ],
)
def test_a_function_that_gives_no_model_is_one_line(function, more, message, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("CHANNELS = 4\n")
    assert main(["kernels", "--model", f"{tmp_path / 'mine.py'}:{function}", *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
