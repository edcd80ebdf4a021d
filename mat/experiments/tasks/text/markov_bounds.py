"""The best possible losses on text of a known hidden Markov source, by forward-backward in float64.

What the masked predictor knows: the whole corrupted sequence, and, at the position it is asked about, that
this position was selected. Whether another position was selected it does not know (unless it shows [MASK]),
so there the channel of `tasks.text.masking` is summed over selection. Given that, the best guess at t is

    P(x_t = v | seen)  ~  sum_z P(z_t = z, seen before t) P(seen after t | z) P(v | z) P(seen_t | v, selected)

over the hidden states z. Recursions: Rabiner, Proc. IEEE 77(2), 1989, equations 19-25.
"""

from __future__ import annotations

import numpy as np

from mat.experiments.tasks.text.markov_source import WHOLE, MarkovSource, pieces
from mat.experiments.tasks.text.masking import NOT_COUNTED, channel, selected_channel


def masked_loss(source: MarkovSource, inputs: np.ndarray, labels: np.ndarray) -> float:
    """Mean -ln P(label | the corrupted sequence) in nats over the selected positions.

    ``inputs`` [N, S]: corrupted words, [MASK] = V; ``labels`` [N, S]: the true word, -100 if not selected.
    """
    losses = []
    for piece in pieces(len(inputs), inputs.shape[1] * (source.words + source.states)):
        at = np.nonzero(labels[piece] != NOT_COUNTED)
        guesses = masked_guesses(source, inputs[piece], at)
        losses.append(-np.log(guesses[np.arange(len(guesses)), labels[piece][at]]))
    return float(np.concatenate(losses).mean())


def masked_guesses(source: MarkovSource, inputs: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """P(true word | corrupted sequence, this position is selected), float64 [k, V].

    ``inputs`` [N, S]: corrupted words, [MASK] = V; ``at``: sequences [k] and positions [k] that are asked about.
    """
    _, _, emission = probabilities(source)
    seen_likelihood = (emission @ channel(source.words)).T[inputs]
    before, after = _forward(source, seen_likelihood), _backward(source, seen_likelihood)
    guesses = ((before[at] * after[at]) @ emission) * selected_channel(source.words).T[inputs[at]]
    return guesses / guesses.sum(-1, keepdims=True)


def causal_loss(source: MarkovSource, tokens: np.ndarray) -> float:
    """Mean -ln P(x_t | x_<t) in nats over all positions, the first included, of clean ``tokens`` [N, S]."""
    return float(-log_likelihood(source, tokens).mean() / tokens.shape[1])


def log_likelihood(source: MarkovSource, tokens: np.ndarray) -> np.ndarray:
    """ln P(x) [N] of clean ``tokens`` [N, S]."""
    _, _, emission = probabilities(source)
    found = np.empty(len(tokens))
    for piece in pieces(len(tokens), tokens.shape[1] * source.states):
        likelihood = emission.T[tokens[piece]]
        found[piece] = np.log((_forward(source, likelihood) * likelihood).sum(-1)).sum(-1)
    return found


def probabilities(source: MarkovSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 start [K], moves [K, K] and emission [K, V] of the pair states, K = topics x syntax."""
    start = np.kron(source.topic_start, source.syntax_start) / WHOLE**2
    moves = np.kron(source.topic_moves, source.syntax_moves) / WHOLE**2
    return start, moves, source.emission.reshape(len(start), -1) / WHOLE


def _forward(source: MarkovSource, likelihood: np.ndarray) -> np.ndarray:
    """P(z_t | seen before t) [N, S, K] from P(seen_t | z_t) [N, S, K]."""
    start, moves, _ = probabilities(source)
    before = np.empty_like(likelihood)
    before[:, 0] = start
    for t in range(1, likelihood.shape[1]):
        here = before[:, t - 1] * likelihood[:, t - 1]
        before[:, t] = (here / here.sum(-1, keepdims=True)) @ moves
    return before


def _backward(source: MarkovSource, likelihood: np.ndarray) -> np.ndarray:
    """P(seen after t | z_t) [N, S, K] up to a factor per (sequence, t), from P(seen_t | z_t) [N, S, K]."""
    _, moves, _ = probabilities(source)
    after = np.ones_like(likelihood)
    for t in range(likelihood.shape[1] - 2, -1, -1):
        there = (after[:, t + 1] * likelihood[:, t + 1]) @ moves.T
        after[:, t] = there / there.sum(-1, keepdims=True)
    return after
