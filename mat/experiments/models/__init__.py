"""Model families: builders over torchvision and transformers classes, each with its closed-form cost.

A family file gives ``Settings``, ``build(settings, signature)`` (``mat.experiments.task_signature``) with the current default
generator for the initial weights, ``partition(settings, model)`` and the cost of one training step by formula, in
multiply-adds: ``work(settings, signature, batch)`` per module and for the remainder,
``step(work, active, mode)`` for an active set and backward mode, ``extremes(work, count, mode)`` the least and the
most over all active sets of that many modules, and ``closed_form(...)``, which is ``step`` of ``work``.

A model whose training takes more than the task's loss has ``extra_loss()``: a scalar to add to it, of the forward
pass in training mode that was just made, or None; no probe and no evaluation counts it.
"""

MODELS = {
    "bert": "mat.experiments.models.bert",
    "resnet": "mat.experiments.models.resnet",
    "switch": "mat.experiments.models.switch",
    "vgg": "mat.experiments.models.vgg",
    "vit": "mat.experiments.models.vit",
}
