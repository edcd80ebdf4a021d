"""Training methods: one file each, with its card; all are ``mat.methods.base.Method`` records."""

METHODS = {
    "vanilla": "mat.methods.vanilla",
    "mat": "mat.methods.mat",
    "random": "mat.methods.random",
    "multirate": "mat.methods.multirate",
    "early_stop": "mat.methods.early_stop",
}
