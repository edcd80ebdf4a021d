"""Model families: builders over torchvision and transformers classes, each with its closed-form cost.

A family file gives ``Settings``, ``build(settings, example, outputs)`` with the current default generator
for the initial weights, ``partition(settings, model)`` and ``closed_form(...)``: multiply-adds of one training
step for a given active set and backward mode, by formula.
"""

MODELS = {"bert": "mat.models.bert", "switch": "mat.models.switch", "vgg": "mat.models.vgg"}
