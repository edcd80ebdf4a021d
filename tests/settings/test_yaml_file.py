"""A scale's file is read strictly: one line names the file and the place of what is wrong."""

from pathlib import Path

import pytest

from mat.errors import InputError
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.settings.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]
CONFIG = """\
scale: mini
seeds: [0, 1]
tasks:
  digits:
    task: {name: digits}
    model: {name: vgg}
    recipe: {lr: 1e-2, epochs: 2}
  hmm:
    task: {name: hmm}
    model: {name: bert}
methods:
  vanilla: {name: vanilla}
  mat: {name: mat}
"""


@pytest.fixture
def read(tmp_path):
    def expanded(old="", new=""):
        assert old in CONFIG
        path = tmp_path / "mini.yaml"
        path.write_text(CONFIG.replace(old, new, 1))
        return expand(read_scale(path))

    return expanded


def test_exponents_are_numbers_and_dates_are_texts(read, tmp_path):
    assert read()[0].spec.recipe.lr == 0.01
    path = tmp_path / "some.yaml"
    path.write_text("a: 1e3\nb: -2.5E-3\nc: 2024-01-01\nd: 1e\ni: 1e4d91\ne: &x {f: 1}\ng: {<<: *x, h: 2}\n")
    assert read_yaml(path) == {
        "a": 1e3, "b": -2.5e-3, "c": "2024-01-01", "d": "1e", "i": "1e4d91", "e": {"f": 1}, "g": {"f": 1, "h": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(
            (text, text)
            for text in ("1:30", "1:30.5", "010", "0o10", "0x10", "1_0", "1_0.5", "+", ".", "-.", "1.e", "e3")
        ),
        *((text, int(text)) for text in ("0", "-0", "+7", "12")),
        *((text, float(text)) for text in ("1.", ".5", "-.5e3", "0.10", "1e3", "1E+3", "-1.5e-3")),
        *((text, float(text.replace(".", "", 1))) for text in (".inf", "-.INF")),
    ],
)
def test_a_number_is_what_it_looks_like_or_a_text(tmp_path, written, value):
    path = tmp_path / "some.yaml"
    path.write_text(f"a: {written}\n")
    found = read_yaml(path)["a"]
    assert found == value and type(found) is type(value)


def test_a_number_of_thousands_of_digits_is_refused(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(f"a: {'9' * 5000}\n")
    with pytest.raises(InputError, match="cannot be read: Exceeds the limit"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  hmm:",
            "  digits:",
            r"mini\.yaml: line 8: tasks: the key 'digits' stands twice, first in line 4; leave one",
        ),
        ("  hmm:", "  no:", r'mini\.yaml: line 8: tasks: the key no is bool to YAML; write "no"'),
        ("  hmm:", "  1:", r'mini\.yaml: line 8: tasks: the key 1 is int to YAML; write "1"'),
        ("  hmm:", "  on:", r'tasks: the key on is bool to YAML; write "on"'),
        ("  hmm:", "  ~:", r"tasks: the key ~ is null to YAML"),
        ("  hmm:", "  [a]:", r"line 8: tasks: a key must be a text"),
        ("[0, 1]", "[0, 1", r"mini\.yaml is not YAML: .* line 3"),
        ("[0, 1]", "&a [*a]", r"line 2: seeds(\.0)? contains itself"),
        ("lr: 1e-2", "lr: fast", r"^mini\.yaml: tasks\.digits\.recipe\.lr: expected a number, got 'fast'"),
        ("lr: 1e-2", "lr: '0.1'", r"^mini\.yaml: tasks\.digits\.recipe\.lr: expected a number, got '0\.1'"),
        ("lr: 1e-2", "lr: true", r"^mini\.yaml: tasks\.digits\.recipe\.lr: expected a number, got True"),
        ("epochs: 2", "epochs: 2.5", r"^mini\.yaml: tasks\.digits\.recipe\.epochs: expected a whole number, got 2\.5"),
        ("epochs: 2", "epochs: true", r"^mini\.yaml: tasks\.digits\.recipe\.epochs: expected a whole number, got True"),
        ("lr: 1e-2", "lr: -1", r"^mini\.yaml: tasks\.digits\.recipe\.lr: expected a number > 0, got -1"),
        ("lr: 1e-2", "rl: 1", r"^mini\.yaml: tasks\.digits\.recipe: unknown key 'rl'; known: optimizer, lr"),
        ("{name: vgg}", "{name: vgg, plan: [16, 1.5]}", r"model\.plan\.1: expected a whole number or 'M', got 1\.5"),
        (
            "{name: vgg}",
            "{name: vgg, plan: 3}",
            r"digits\.model\.plan: expected a list or 'vgg11', .* or 'vgg19', got 3",
        ),
        ("{name: bert}", "{nmae: bert}", r"tasks\.hmm\.model must be a mapping with a name, such as .*nmae"),
        ("    model: {name: bert}\n", "", r"^mini\.yaml: tasks\.hmm: 'model' is missing"),
        ("{name: mat}", "{name: mat, alpha: big}", r"^mini\.yaml: methods\.mat\.alpha: expected a number, got 'big'"),
        (
            "{name: mat}",
            "{name: random, match: mat}",
            r"^mini\.yaml: methods\.mat: what a run follows .* must be one of vanilla, got",
        ),
        (
            "{name: mat}\n",
            "{name: random, match: other}\n  other: {name: random, match: mat}\n",
            r"^mini\.yaml: methods\.mat: what a run follows .* must be one of vanilla, got 'other'",
        ),
        (
            "    model: {name: bert}\n",
            "    start: {task: more, method: mat}\n  more:\n    task: {name: hmm}\n    model: {name: bert}\n"
            "    start: {task: hmm, method: mat}\n",
            r"^mini\.yaml: tasks\.hmm\.start leads back to itself over hmm, more; break the circle",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_place(read, old, new, message):
    with pytest.raises(InputError, match=message) as caught:
        read(old, new)
    assert "\n" not in str(caught.value)


def test_what_is_given_beside_the_file_replaces_it(tmp_path):
    path = tmp_path / "mini.yaml"
    path.write_text(CONFIG + "data: somewhere\n")
    config = read_scale(path, {"seeds": "3,4", "device": "cuda", "cache": None})
    assert (config.seeds, config.device, config.data, config.cache) == ([3, 4], "cuda", "somewhere", None)
    assert [run.spec.name for run in expand(config)] == [
        run.spec.name for run in expand(read_scale(path, {"seeds": [3, 4]}))
    ]
    for given, message in (
        ({"sedes": [0]}, "unknown key 'sedes' beside the config; known: seeds, data, cache, device"),
        ({"seeds": "a"}, r"mini\.yaml: seeds\.0: expected a whole number, got 'a'"),
        ({"device": "tpu"}, r"mini\.yaml: device: expected 'cpu' or 'cuda', got 'tpu'"),
    ):
        with pytest.raises(InputError, match=message):
            read_scale(path, given)


def doubled(how, levels):
    """Aliases of aliases: what each level holds twice is what the one below holds."""
    return "".join(f"b{i + 1}: &b{i + 1} {how.format(f'*b{i}')}\n" for i in range(levels))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\0" * 8, "is not YAML: .*special characters"),
        ("[" * 2000, "nested too deeply"),
        ("b0: &b0 [1]\n" + doubled("[{0}, {0}]", 40), "line 1[67]: b1[56] holds more than 100000 values"),
        ("b0: &b0 {x: 1}\n" + doubled("{{<<: [{0}, {0}]}}", 40), "holds more than 100000 values"),
    ],
)
def test_what_no_config_can_be_is_refused_at_once(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_yaml(path)


def test_aliases_may_be_used_often(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: [1, 2]}\n" + "\n".join(f"b{i}: {{<<: *a, y: *a}}" for i in range(200)))
    found = read_yaml(path)
    assert len(found) == 201
    assert found["b199"] == {"x": [1, 2], "y": {"x": [1, 2]}}
