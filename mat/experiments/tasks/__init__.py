"""Tasks: data, loss and metric, one file per task (``base.TaskPlugin``) and one line here."""

TASKS = {
    "digits": "mat.experiments.tasks.digits",
    "hmm": "mat.experiments.tasks.hmm",
    "acceptability": "mat.experiments.tasks.acceptability",
    "cifar10": "mat.experiments.tasks.cifar10",
    "cifar100": "mat.experiments.tasks.cifar100",
    "tiny_imagenet": "mat.experiments.tasks.tiny_imagenet",
    "imagenet": "mat.experiments.tasks.imagenet",
    "wikitext": "mat.experiments.tasks.wikitext",
    "glue": "mat.experiments.tasks.glue",
}
