"""Settings of every model family: they survive JSON, and impossible ones are refused."""

import json
from dataclasses import asdict

import pytest

from mat.errors import InputError
from mat.experiments.models import bert, resnet, switch, vgg, vit
from mat.settings.strict import read


@pytest.mark.parametrize(
    ("family", "given"),
    [
        (bert, {}),
        (bert, {"size": "mini"}),
        (bert, {"width": 96}),
        (bert, {"positions": 128, "ffn_groups": 4}),
        (resnet, {}),
        (resnet, {"blocks": [1, 2, 3, 4], "stem": "small", "width": 16}),
        (vgg, {}),
        (vgg, {"plan": "vgg16", "width": 0.25}),
        (vgg, {"plan": [8, "M", 8]}),
        (vit, {}),
        (vit, {"mlp": 64, "heads": 4, "ffn_groups": 2}),
    ],
)
def test_settings_survive_json(family, given):
    settings = read(family.Settings, given, "model")
    again = read(family.Settings, json.loads(json.dumps(asdict(settings))), "model")
    assert again == settings and asdict(again) == asdict(settings)


@pytest.mark.parametrize(
    ("family", "setting", "message"),
    [
        (bert, {"size": "huge"}, "size must be one of tiny, mini, small, medium, base or none, got 'huge'"),
        (bert, {"layers": 10**9}, "layers must be a whole number ≥ 1 and ≤ 1,024 or none, got 1000000000"),
        (bert, {"width": 4 * 10**9}, "width must be a whole number ≥ 1 and ≤ 65,536 or none"),
        (vit, {"layers": 10**9}, "layers must be .* ≤ 1,024, got"),
        (switch, {"layers": 10**9}, "layers must be .* ≤ 1,024, got"),
        (switch, {"experts": 10**9}, "experts must be .* ≤ 4,096, got"),
        (resnet, {"blocks": (1, 1, 1, 10**9)}, "blocks must be a list, each a whole number ≥ 1 and ≤ 1,024"),
        (resnet, {"width": 4 * 10**9}, "width must be .* ≤ 65,536, got"),
        (vgg, {"plan": (4,) * 2000}, "entries of plan must be ≤ 1024"),
        (vgg, {"plan": (100,), "width": 1000}, "widest convolution must be ≤ 65536"),
        (bert, {"layers": 0}, "layers must be a whole number ≥ 1"),
        (bert, {"width": 10, "heads": 4}, "width that heads divide"),
        (bert, {"dropout": 1.0}, "dropout must be a number ≥ 0 and < 1, got 1.0"),
        (bert, {"ffn_groups": -1}, "ffn_groups must be a whole number ≥ 0"),
        (bert, {"ffn_groups": 7}, "does not divide the feed-forward block's 256 neurons"),
        (bert, {"initialiser": 0.0}, "initialiser must be"),
        (bert, {"positions": 0}, "positions must be a whole number ≥ 1"),
        (resnet, {"blocks": (2, 2, 2)}, "blocks must be four whole numbers"),
        (resnet, {"blocks": (2, 2, 2, 0)}, "blocks must be a list, each a whole number ≥ 1"),
        (resnet, {"blocks": (2, 2, 2, 1.5)}, "blocks must be a list, each a whole number ≥ 1"),
        (resnet, {"stem": "tiny"}, "stem must be one of imagenet, small, got 'tiny'"),
        (resnet, {"width": 6}, "width=6, filter_groups=4"),
        (resnet, {"filter_groups": 0}, "filter_groups must be a whole number ≥ 1"),
        (switch, {"layers": 1}, "layers must be a whole number ≥ 2"),
        (switch, {"width": 10, "heads": 4}, "width that heads divide"),
        (switch, {"experts": 1}, "experts must be a whole number ≥ 2"),
        (switch, {"capacity": 0.0}, "capacity must be"),
        (switch, {"dropout": 1.0}, "dropout must be a number ≥ 0 and < 1, got 1.0"),
        (switch, {"initialiser": 0.0}, "initialiser must be"),
        (switch, {"balance": -0.1}, "balance must be a number ≥ 0"),
        (vgg, {"plan": "vgg12"}, "one of vgg11, vgg13, vgg16, vgg19, got 'vgg12'"),
        (vgg, {"plan": ("M",)}, "with one width at least"),
        (vgg, {"plan": (8, "X")}, "plan must be a list, each a whole number ≥ 1 .* or M or one of vgg11"),
        (vgg, {"width": 0.0}, "width must be a number > 0"),
        (vgg, {"width": 0.3}, r"width=0\.3 makes 16 filters 4\.8, no whole number"),
        (vgg, {"plan": "vgg11", "width": 0.03125}, "filter_groups=4 does not divide the width 2"),
        (vgg, {"filter_groups": 3}, "filter_groups=3 does not divide the width 16"),
        (vit, {"patch": 0}, "patch must be a whole number ≥ 1"),
        (vit, {"layers": 0}, "layers must be a whole number ≥ 1"),
        (vit, {"heads": 5}, "width that heads divide"),
        (vit, {"dropout": 1.0}, "dropout must be a number ≥ 0 and < 1, got 1.0"),
        (vit, {"ffn_groups": 5}, "ffn_groups=5 does not divide the feed-forward block's 768 neurons"),
        (vit, {"mlp": 0}, "mlp must be a whole number ≥ 1"),
    ],
)
def test_bad_settings_are_refused(family, setting, message):
    with pytest.raises(InputError, match=message):
        family.Settings(**setting)
