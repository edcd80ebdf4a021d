"""Training methods: one file each, with its card; all are ``mat.methods.base.Method`` records."""

METHODS = {
    "vanilla": "mat.methods.vanilla",
    "mat": "mat.methods.mat",
    "random": "mat.methods.random",
    "multirate": "mat.methods.multirate",
    "early_stop": "mat.methods.early_stop",
    # controls: as many modules as MAT trains, chosen by something else
    "largest": "mat.methods.largest",
    "smallest": "mat.methods.smallest",
    "shuffled": "mat.methods.shuffled",
    "shuffled_within": "mat.methods.shuffled_within",
    "gradient_norm": "mat.methods.gradient_norm",
    "random_once": "mat.methods.random_once",
    "depth": "mat.methods.depth",
    "kind": "mat.methods.kind",
    # rivals: other papers' rules, at the granularity of modules
    "misa": "mat.methods.misa",
    "lisa": "mat.methods.lisa",
    "badam": "mat.methods.badam",
    "freezeout": "mat.methods.freezeout",
    "autofreeze": "mat.methods.autofreeze",
    "grades": "mat.methods.grades",
    "ssprop": "mat.methods.ssprop",
    "lcsb": "mat.methods.lcsb",
    "frozen_bottom": "mat.methods.frozen_bottom",
}
