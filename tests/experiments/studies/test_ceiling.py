"""What a step can save at most: the plan's errors, the parts, the savings, and the page that is computed from them."""

import copy
import json
import re

import numpy as np
import pandas as pd
import pytest

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.tables import ceiling
from mat.experiments.cli.main import main
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies.ceiling import kind_of, models_of, parts, savings, subjects_of
from mat.records.seal import beside, write_seal
from tests.cases import CASES

CONFIG = {
    "scale": "mini",
    "seeds": [0],
    "methods": {"vanilla": {"name": "vanilla"}},
    "tasks": {"digits": {"task": {"name": "digits"}, "model": {"name": "vgg", "plan": [4, "M", 8, "M"]}}},
    "ceiling": {
        "draws": 20,
        "reported": {"active_share": 0.34, "savings": [26.4, 50.9]},
        "models": {
            "base": {
                "model": {"name": "bert", "layers": 12, "width": 768, "heads": 12},
                "objective": "masked_lm",
                "shapes": {"input_ids": [1, 128]},
                "outputs": 30522,
                "batch": 32,
                "reported": {"vanilla": 28.70, "mat": 16.50},
            },
            "experts": {
                "model": {"name": "switch", "width": 16, "heads": 2},
                "objective": "masked_lm",
                "shapes": {"input_ids": [1, 8]},
                "outputs": 11,
                "batch": 4,
                "note": "a note",
            },
        },
    },
}
PREPARED = {"digits": {"objective": "image_classification", "shapes": {"x": [1, 1, 8, 8]}, "outputs": 10}}


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    block = config["ceiling"]
    for name in parents:
        block = block[name]
    block[last] = value
    return config


@pytest.fixture(scope="module")
def made():
    asked = ScaleConfig.of(CONFIG)
    found = subjects_of(asked, PREPARED)
    return parts(found, asked), savings(found, asked)


@pytest.mark.parametrize("name", CASES)
def test_kinds_are_those_of_the_partition(name):
    case = CASES[name]()
    assert all(kind_of(module.name) == module.kind for module in case.partition.modules)


def test_the_work_of_bert_base_by_hand(made):
    """Per token: 12 layers of 4d² and 8d² and 2·S·d, and the vocabulary head d² + d·V; 32 x 128 tokens."""
    d, s, v, tokens = 768, 128, 30522, 32 * 128
    rows = made[0].query("label == 'base'").set_index("kind")
    assert rows["kind_modules"].to_dict() == {"head": 144, "ffn": 12, "remainder": 0}
    assert rows.loc["head", "forward_macs"] == 12 * (4 * d * d + 2 * s * d) * tokens
    assert rows.loc["head", "input_macs"] == 12 * (4 * d * d + 4 * s * d) * tokens
    assert rows.loc["head", "weight_macs"] == 12 * 4 * d * d * tokens
    assert rows.loc["ffn", "input_macs"] == rows.loc["ffn", "weight_macs"] == 12 * 8 * d * d * tokens
    assert rows.loc["remainder", "weight_macs"] == (d * d + d * v) * tokens


def test_the_parts_are_the_dense_step_and_its_hundred_percent(made):
    for _, rows in made[0].groupby("label"):
        macs = sum(rows[f"{part}_macs"].sum() for part in ("forward", "input", "weight"))
        assert macs == rows["dense_macs"].iloc[0]
        percent = sum(rows[f"{part}_percent"].sum() for part in ("forward", "input", "weight"))
        assert percent == pytest.approx(100)


def test_savings_fall_from_the_bound_to_nothing(made):
    for _, rows in made[1].groupby(["label", "mode"]):
        rows = rows.sort_values("share")
        assert list(rows["share"]) == sorted({*np.arange(21) / 20, 0.34})
        assert (rows["saving_mean"].diff().dropna() <= 1e-12).all()
        ends = ["saving_least", "saving_min", "saving_mean", "saving_max", "saving_most"]
        assert (rows[ends].diff(axis=1).iloc[:, 1:] >= -1e-9).all(axis=None)
        assert (rows[ends].iloc[-1] == 0).all()
        assert rows[ends].iloc[0].nunique() == 1 and rows["saving_most"].iloc[0] > 20
        assert rows["saving_max"].iloc[7] > rows["saving_min"].iloc[7]


def test_bert_base_with_nothing_active_by_hand(made):
    """detach leaves the forward pass and thrice the vocabulary head; exact the input gradients besides."""
    d, s, v = 768, 128, 30522
    layer, scores, head = 12 * d * d, 2 * s * d, d * d + d * v
    dense = 12 * (3 * layer + 3 * scores) + 3 * head
    left = {"detach": 12 * (layer + scores) + 3 * head, "exact": 12 * (2 * layer + 3 * scores) + 3 * head}
    for mode, macs in left.items():
        found = ceiling.at(made[1], "base", mode, 0.0)["saving_most"]
        assert found == pytest.approx(100 * (1 - macs / dense), rel=1e-12)


def test_draws_do_not_depend_on_which_other_models_there_are(made):
    asked = ScaleConfig.of(CONFIG)
    alone = savings(subjects_of(asked, PREPARED)[1:2], asked)
    pd.testing.assert_frame_equal(alone, made[1][made[1]["label"] == "base"].reset_index(drop=True))


def page(made):
    return ceiling.markdown(*made)


def test_the_page_says_what_the_numbers_say(made):
    text, some = page(made), ceiling.at(made[1], "base", "detach", 0.34)
    sentence = next(line for line in text.splitlines() if line.startswith("- **base**"))
    assert "(batch 32, dense step 1368 GMAC = 2736 GFLOP)" in sentence
    assert f"(53 of 156) a random set saves {some['saving_mean']:.1f} % in `detach`" in sentence
    assert "28.70 → 16.50 PFLOP is a saving of 42.5 % of a run" in sentence
    steps = 100 * (16.5 / 28.7) / (1 - some["saving_mean"] / 100)
    assert f"takes {steps:.0f} % of vanilla's steps" in sentence
    assert "In `exact` cheaper steps alone cannot give it, whatever is active" in sentence
    assert "| experts |" in text and "a note" in text and "1 MAC = 2 FLOP" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("mat", "says"),
    [
        (28.0, r"In `detach` random sets of 34 % save as much on average"),
        (17.0, r"In `detach` random sets of 34 % save less on average, some as much"),
        (15.0, r"In `detach` no set of 34 % gives it by cheaper steps alone"),
        (10.0, r"In `detach` cheaper steps alone cannot give it, whatever is active"),
    ],
)
def test_the_judgement_follows_the_reported_saving(made, mat, says):
    model = made[0].query("label == 'base'").iloc[0].copy()
    model["reported_mat_pflop"] = mat
    assert re.search(says, " ".join(ceiling.sentences(model, made[1])))


def test_only_the_cheapest_sets_can_be_what_is_needed(made):
    """Where every set drawn saves less, yet some set saves as much."""
    frame = made[1].copy()
    frame["saving_max"] = frame["saving_mean"]
    model = made[0].query("label == 'base'").iloc[0]
    assert "only the cheapest sets of 34 % do, none of those drawn" in " ".join(ceiling.sentences(model, frame))


def test_a_model_without_a_reported_run_is_compared_with_the_range(made):
    for label, share, holds in (("experts", 0.34, "neither mode"), ("experts", 0.05, "`detach`")):
        model = made[0][made[0]["label"] == label].iloc[0]
        text = " ".join(ceiling.sentences(model, made[1].assign(reported_active_share=share)))
        low, high = 26.4, 50.9
        mean = ceiling.at(made[1], label, "detach", share)["saving_mean"]
        assert (f"holds the mean of {holds}" in text) == ((low <= mean <= high) == (holds == "`detach`")), text


def test_the_share_that_saves_is_read_off_the_mean(made):
    frame = made[1]
    some = ceiling.at(frame, "base", "detach", 0.25)
    assert ceiling.share_that_saves(frame, "base", "detach", some["saving_mean"]) == pytest.approx(0.25)
    assert np.isnan(ceiling.share_that_saves(frame, "base", "exact", 60))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("drawn", 3, r"ceiling: unknown key 'drawn'; known: draws, seed, reported, models"),
        ("draws", 0, r"draws: expected a number ≥ 1"),
        ("reported", {"active_share": 0.3}, r"ceiling\.reported: 'savings' is missing"),
        ("reported.active_share", 34, r"active_share: expected a number ≤ 1, got 34"),
        ("reported.savings", [50, 20], r"reported\.savings: expected the lowest and then the highest"),
        ("models", ["bert"], r"ceiling\.models: expected a mapping"),
        (
            "models.digits",
            {"model": {"name": "bert"}, "objective": "masked_lm", "shapes": {}, "outputs": 1, "batch": 1},
            r"ceiling\.models\.digits: digits is the label of a task",
        ),
        ("models.base.size", 3, r"ceiling\.models\.base: unknown key 'size'; known: model, objective"),
        ("models.base.batch", 0, r"models\.base\.batch: expected a number ≥ 1, got 0"),
        (
            "models.base.shapes",
            {"input_ids": [2, 8]},
            r"models\.base\.shapes: expected the shape of one sample of every input",
        ),
        ("models.base.shapes", {"x": [1, 3, 8, 8]}, r"models\.base: the objective masked_lm needs input_ids"),
        ("models.base.objective", "mlm", r"models\.base\.objective: expected 'image_classification'"),
        ("models.base.objective", "image_classification", r"models\.base: model bert needs a task with"),
        (
            "models.base.model",
            {"name": "gpt"},
            r"models\.base\.model: unknown model 'gpt'; known: bert, resnet, switch, vgg, vit",
        ),
        ("models.base.model", {"width": 8}, r"models\.base\.model must be a mapping with a name"),
        ("models.base.model.depth", 2, r"models\.base\.model: unknown key 'depth'; known: size, layers"),
        ("models.base.reported", {"vanilla": 1, "mat": 2}, r"0 < mat ≤ vanilla is expected"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_by_name(path, value, message):
    with pytest.raises(InputError, match=message):
        models_of(ScaleConfig.of(changed(path, value)))


def test_without_a_block_there_is_no_ceiling_and_without_models_only_tasks():
    without = ScaleConfig.of({key: value for key, value in CONFIG.items() if key != "ceiling"})
    assert models_of(without) == []
    with pytest.raises(InputError, match="the config has no block ceiling; add one"):
        subjects_of(without, PREPARED)
    asked = ScaleConfig.of(changed("models", {}))
    assert [subject.label for subject in subjects_of(asked, PREPARED)] == ["digits"]
    with pytest.raises(InputError, match=r"expected objective, shapes and outputs of the task digits"):
        subjects_of(asked, {})


def test_the_command_writes_the_tables_that_the_figure_reads(tmp_path, capsys):
    prepared = tmp_path / "digits.json"
    prepared.write_text(json.dumps(PREPARED["digits"]))
    write_seal(beside(prepared), [prepared.name])
    given = ["step", "ceiling", "--config", json.dumps(CONFIG), "--tables", str(tmp_path / "tables")]
    assert main([*given, str(prepared)]) == 0
    found = catalogue.load_made(tmp_path / "tables", ["ceiling_parts", "ceiling"])
    frames = [found[name] for name in ("ceiling_parts", "ceiling")]
    assert (tmp_path / "tables/ceiling.md").read_text().rstrip("\n") == ceiling.markdown(*frames)
    assert set(frames[1]["label"]) == {"digits", "base", "experts"}
    assert main(given) == 2
    assert "expected objective, shapes and outputs of the task digits" in capsys.readouterr().err
    assert main(["step", "ceiling", "--config", "{}", "--tables", str(tmp_path)]) == 2
    assert "'scale' is missing" in capsys.readouterr().err
