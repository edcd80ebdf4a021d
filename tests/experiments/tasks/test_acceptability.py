"""The exact answers against enumeration, and what the sentences are."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.experiments.tasks import hmm
from mat.experiments.tasks.acceptability import Settings, load, log_odds, outline, sentences, sources
from mat.experiments.tasks.text.markov_source import make_source, sample
from tests.experiments.tasks.text.test_markov_bounds import LENGTH, chance_of_text


def naive_chances(source, window: int) -> tuple[dict, dict]:
    """P(x | real) and P(x | disturbed) of every text of LENGTH, by disturbing every text in every place."""
    every = list(product(range(source.words), repeat=LENGTH))
    real = {text: chance_of_text(source, text) for text in every}
    disturbed = dict.fromkeys(every, 0.0)
    places = LENGTH - window + 1
    for text, chance in real.items():
        for place in range(places):
            middle = text[place : place + window][::-1]
            disturbed[text[:place] + middle + text[place + window :]] += chance / places
    return real, disturbed


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 999), st.integers(2, LENGTH))
def test_the_odds_equal_enumeration(seed: int, window: int) -> None:
    source = make_source(4, 2, 2, seed)
    real, disturbed = naive_chances(source, window)
    assert sum(real.values()) == pytest.approx(1) == sum(disturbed.values())
    found = log_odds(source, np.array(list(real)), window)
    expected = [np.log(real[text] / disturbed[text]) for text in real]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_floor_is_what_enumeration_says_on_average() -> None:
    source = make_source(4, 2, 2, 3)
    real, disturbed = naive_chances(source, 2)
    floor = sum(
        -(real[x] * np.log(real[x] / both) + disturbed[x] * np.log(disturbed[x] / both)) / 2
        for x in real
        for both in (real[x] + disturbed[x],)
    )
    known = Settings(
        words=4, topics=2, syntax=2, length=LENGTH, window=2, source_seed=3, train=2, test=2, validation=6000
    )
    assert load(known, None, Path()).bounds["floor_validation"] == pytest.approx(floor, rel=0.03)


def test_half_are_real_and_half_have_one_window_reversed() -> None:
    known = Settings(train=400)
    source = make_source(known.words, known.topics, known.syntax, known.source_seed)
    text, labels = sentences(source, known, "train", 400)
    clean = sample(source, 400, known.length, known.source_seed, "acceptability train")
    assert (labels == 1).sum() == 200
    assert np.array_equal(text[labels == 1], clean[labels == 1])
    places = []
    for seen, true in zip(text[labels == 0], clean[labels == 0], strict=True):
        differ = np.nonzero(seen != true)[0]
        if len(differ) == 0:  # its first word and its last are equal
            continue
        place = differ[0]
        assert np.array_equal(seen[place : place + 3], true[place : place + 3][::-1])
        assert np.array_equal(seen[place + 3 :], true[place + 3 :])
        places.append(place)
    assert len(places) > 150
    assert set(places) == set(range(known.length - known.window + 1))


def test_the_default_can_be_done_well_and_not_perfectly() -> None:
    task = load(Settings(train=64), None, Path())
    for split in ("validation", "test"):
        assert 0.95 < task.bounds[f"best_accuracy_{split}"] < 1
        assert 0 < task.bounds[f"floor_{split}"] < 0.1 < task.bounds[f"prior_{split}"]
        assert task.bounds[f"majority_accuracy_{split}"] == 0.5


def test_bounds_are_of_the_very_samples() -> None:
    task = load(Settings(train=64), None, Path())
    source = make_source(64, 4, 6, 0)
    (batch,) = task.batches("test", 1000)
    odds = torch.from_numpy(log_odds(source, batch.inputs["input_ids"][:, 1:].numpy(), 3))
    score = task.score("test", [(torch.stack([torch.zeros_like(odds), odds], 1), batch.labels)])
    assert score.loss == pytest.approx(task.bounds["floor_test"])
    assert score.metrics["accuracy"] == task.bounds["best_accuracy_test"]


def test_ids_are_those_of_the_hmm_task_and_sentences_are_not() -> None:
    same = {"length": 24, "train": 64, "validation": 8, "test": 8}
    before, after = hmm.load(hmm.Settings(**same), None, Path()), load(Settings(**same), None, Path())
    assert after.vocabulary_hash == before.vocabulary_hash
    assert after.signature.vocabulary == before.signature.outputs
    assert after.signature.length == before.signature.length
    assert (after.signature.example["input_ids"][:, 0] == hmm.cls_id(64)).all()
    assert load(Settings(**same, source_seed=1), None, Path()).vocabulary_hash != before.vocabulary_hash
    real = {tuple(row) for row in before.rows["train"].take(slice(None)).tolist()}
    assert not real & {tuple(row) for row in after.rows["train"].ids.tolist()}


def test_inputs_are_whole_sentences() -> None:
    batch = load(Settings(train=64), None, Path()).batch(0, 0, 0, 8)
    assert batch.inputs["attention_mask"].min() == 1
    assert batch.inputs["token_type_ids"].max() == 0


@pytest.mark.parametrize("module", [hmm, None])
def test_outline_is_exact_and_nothing_is_fetched(module) -> None:
    cases = [(load, outline, sources, Settings(train=10, length=9))]
    if module:
        cases = [
            (module.load, module.outline, module.sources, module.Settings(objective=objective, train=10, length=9))
            for objective in ("masked_lm", "causal_lm")
        ]
    for loaded, outlined, sourced, known in cases:
        real, found = loaded(known, None, Path()), outlined(known)
        assert found.sizes == real.sizes
        assert found.signature._replace(example=None) == real.signature._replace(example=None)
        assert {k: (v.shape, v.dtype, v.device.type) for k, v in found.signature.example.items()} == {
            k: (v.shape, v.dtype, "meta") for k, v in real.signature.example.items()
        }
        assert sourced(known) == ()
