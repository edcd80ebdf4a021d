"""Numbers and texts of settings, at any depth, and the one rule for labels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.config.scale import ScaleConfig, read_scale
from mat.settings.label import WORDS, is_label
from mat.settings.strict import LARGEST, LONGEST

WHOLE = {
    "scale": "small",
    "seeds": [0, 1],
    "tasks": {"digits": {"task": {"name": "digits"}, "model": {"name": "vgg"}}},
    "methods": {"vanilla": {"name": "vanilla"}},
}
NO_LABELS = ["", "..", ".", "-x", "1", "1e5", "$x$", "![i](http://a)", "<script>", "a b", "a/b", "a\n", "é", "a" * 65]


def changed(**blocks):
    return {**WHOLE, **blocks}


@pytest.mark.parametrize("label", [*NO_LABELS, *WORDS, *map(str.upper, WORDS)])
@pytest.mark.parametrize("place", ["scale", "task", "method", "tag", "ceiling"])
def test_what_is_no_label_is_refused_wherever_a_label_stands(place, label):
    task, vanilla = WHOLE["tasks"]["digits"], WHOLE["methods"]["vanilla"]
    shapes = {"model": {"name": "vgg"}, "objective": "image_classification", "shapes": {"x": [1, 3, 32, 32]}}
    ceiling = {
        "reported": {"active_share": 0.3, "savings": [1, 2]},
        "models": {label: shapes | {"outputs": 2, "batch": 2}},
    }
    given = {
        "scale": changed(scale=label),
        "task": changed(tasks={label: task}),
        "method": changed(methods={label: vanilla}),
        "tag": changed(tasks={"digits": {**task, "tags": [label]}}),
        "ceiling": changed(ceiling=ceiling),
    }[place]
    with pytest.raises(InputError) as refused:
        ScaleConfig.of(given)
    assert "\n" not in str(refused.value)


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(lambda text: text.lower() not in WORDS))
def test_a_label_is_a_letter_and_then_letters_digits_and_marks(label):
    assert is_label(label)
    ScaleConfig.of(changed(scale=label, methods={label: {"name": "vanilla"}}))


@given(
    st.sampled_from([math.inf, -math.inf, math.nan, LARGEST + 1, -LARGEST - 1, 10**20]),
    st.sampled_from(["threads", "task", "model", "recipe", "method"]),
)
def test_a_number_that_is_not_finite_or_too_large_is_refused_at_any_depth(number, place):
    task = WHOLE["tasks"]["digits"]
    config = {
        "threads": changed(threads=number),
        "task": changed(tasks={"digits": {**task, "task": {"name": "digits", "shift": number}}}),
        "model": changed(tasks={"digits": {**task, "model": {"name": "vgg", "plan": [4, number]}}}),
        "recipe": changed(tasks={"digits": {**task, "recipe": {"lr": number}}}),
        "method": changed(methods={"mat": {"name": "mat", "beta": number}}),
    }[place]
    with pytest.raises(InputError, match=r"expected a (finite number|number of at most)"):
        ScaleConfig.of(config)


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "x" * (LONGEST + 1)])
def test_a_text_is_one_line_that_can_be_printed(text):
    with pytest.raises(InputError, match="data: expected one line of text") as refused:
        ScaleConfig.of(changed(data=text))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("block", ["tasks", "methods"])
def test_seeds_of_a_block_are_some_of_the_files_and_seeds_beside_it_may_leave_some_out(tmp_path, block):
    import yaml

    def written(seeds):
        label, found = next(iter(WHOLE[block].items()))
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(changed(**{block: {label: {**found, "seeds": seeds}}})))
        return tmp_path / "small.yaml"

    with pytest.raises(
        InputError, match=rf"small.yaml: {block}.\w+.seeds: expected some of the scale's \[0, 1\], got 7"
    ):
        read_scale(written([7]))
    assert read_scale(written([1]), {"seeds": [0]}).seeds == [0]
