"""Small scales that studies are measured on, and the jobs of each."""

import copy

from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies.registry import STUDIES

AGREEMENT = {
    "families": {"vgg": {"of": "digits"}, "bert": {"of": "hmm"}},
    "shares": [0, 1],
    "probe_sets": 2,
    "sizes": [2, 4],
    "directions": [1, 2, 6],
    "reference_directions": 8,
    "full_rows": 20,
    "sample_passes": 40,
}
BRANCHES = {
    "families": {"vgg": {"of": "digits"}, "switch": {"of": "hmm"}},
    "shares": [0.2, 0.5],
    "steps": 2,
    "set_steps": 3,
    "samples": 8,
    "validation_samples": 8,
}
STEP_TIMES = {
    "families": {"vgg": {"of": "digits"}, "bert": {"of": "hmm"}},
    "active_shares": [0, 0.5, 1],
    "rounds": 2,
    "steps": 1,
}


def _scale(epochs, model, clip, **study):
    return {
        "scale": "mini",
        "seeds": [0, 1],
        "methods": {"vanilla": {"name": "vanilla"}},
        "tasks": {
            "digits": {
                "task": {"name": "digits"},
                "model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2},
                "recipe": {"optimizer": "sgd", "lr": 0.05, "batch": 200, "epochs": epochs, "decay": "all"},
                "probe": {"n": 4, "directions": 2},
            },
            "hmm": {
                "task": {"name": "hmm", "train": 64, "validation": 16, "test": 16, "length": 4, "words": 24},
                "model": {"width": 8, "heads": 2, **model},
                "recipe": {"lr": 0.01, "batch": 16, "epochs": epochs, "clip": clip},
                "probe": {"n": 4, "directions": 2},
            },
        },
        **study,
    }


CONFIGS = {
    "agreement": _scale(2, {"name": "bert", "layers": 1}, 0.0, agreement=AGREEMENT),
    "branches": _scale(3, {"name": "switch", "layers": 2}, 1.0, branches=BRANCHES),
    "step_times": _scale(3, {"name": "switch", "layers": 2}, 1.0, step_times=STEP_TIMES),
}


def config_of(study, **settings):
    """The study's scale, with other settings of its block."""
    config = copy.deepcopy(CONFIGS[study])
    config[study] |= settings
    return config


def jobs_in(study, config):
    return STUDIES[study].jobs(ScaleConfig.of(config))


def job(study, family="vgg", seed=0, **settings):
    found = jobs_in(study, config_of(study, **settings))
    return next(each for each in found if (each.family, each.spec.seed) == (family, seed))
