"""The smallest specification of a run that a command trains."""

SPEC = {
    "task": {"name": "digits"},
    "model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2},
    "method": {"name": "mat"},
    "recipe": {"optimizer": "sgd", "lr": 0.05, "batch": 100, "epochs": 2, "evaluate_every": 10},
    "probe": {"n": 8},
}
