"""What a task asks of a model: its objective, the shape of its inputs and the number of its outputs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mat.errors import InputError

LONGEST = 1 << 15  # tokens of a text: attention goes with the square
OBJECTIVES = {
    "image_classification": "images x (B, C, H, W) → logits (B, outputs)",
    "masked_lm": "input_ids (B, S) → logits (B, S, outputs) that see the whole sequence",
    "causal_lm": "input_ids (B, S) → logits (B, S, outputs) that see no later position",
    "text_classification": "input_ids, attention_mask, token_type_ids (B, S) → logits (B, outputs)",
}


class Signature(NamedTuple):
    """``objective``: one of ``OBJECTIVES``; ``example``: the inputs of one training sample, batch dimension 1;
    ``outputs``: logits per prediction (classes, vocabulary size; 1 for regression); ``vocabulary``: number of token
    ids that a text classifier must embed (a language model's is its ``outputs``)."""

    objective: str
    example: dict[str, Tensor]
    outputs: int
    vocabulary: int | None = None

    @property
    def length(self) -> int:
        """S of a text's example (1, S)."""
        return self.example["input_ids"].shape[1]


def check_signature(model: str, signature: Signature, *objectives: str) -> None:
    """Raise InputError unless ``signature`` has one of the ``objectives`` that ``model`` takes, and its inputs."""
    if signature.objective not in objectives:
        wanted = " or ".join(f"{name} ({OBJECTIVES[name]})" for name in objectives)
        raise InputError(
            f"model {model} needs a task with the objective {wanted}, got {signature.objective}; choose another "
            "model or task"
        )
    needed, dims = ("x", 4) if signature.objective == "image_classification" else ("input_ids", 2)
    if needed not in signature.example or signature.example[needed].dim() != dims:
        got = ", ".join(f"{name} {tuple(value.shape)}" for name, value in signature.example.items())
        raise InputError(
            f"the objective {signature.objective} needs {OBJECTIVES[signature.objective]}, got the inputs {got}"
        )
