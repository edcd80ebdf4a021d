"""One measurement beside the runs: a run of a study's family and seed, and what is measured on it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mat.experiments.config.spec import Spec


@dataclass(frozen=True)
class Job:
    """``family``: a model in training that the ``study`` asks about; ``task``: the label of the block whose data it
    reads; ``spec``: the run that is trained; ``settings``: what is measured on it."""

    study: str
    scale: str
    family: str
    task: str
    spec: Spec
    settings: Any

    @cached_property
    def name(self) -> str:
        """Family, seed and the hash of specification and settings."""
        return f"{self.family}-s{self.spec.seed}-{self._digest(json.loads(self.spec.json))}"

    @property
    def setup(self) -> str:
        """The hash of specification and settings without the seed: jobs that share it may be pooled."""
        return self._digest({k: v for k, v in json.loads(self.spec.json).items() if k != "seed"})

    def _digest(self, spec: dict[str, Any]) -> str:
        text = json.dumps([spec, asdict(self.settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def labels(self) -> dict[str, str]:
        return {"scale": self.scale, "family": self.family, "task": self.task}

    @property
    def json(self) -> str:
        """The job as the command line takes it."""
        return json.dumps(
            {"labels": self.labels, "spec": json.loads(self.spec.json), "settings": asdict(self.settings)}
        )
