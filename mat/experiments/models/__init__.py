"""Model families: one file each (``base.ModelPlugin``) and one line here."""

MODELS = {
    "bert": "mat.experiments.models.bert",
    "resnet": "mat.experiments.models.resnet",
    "switch": "mat.experiments.models.switch",
    "vgg": "mat.experiments.models.vgg",
    "vit": "mat.experiments.models.vit",
}
