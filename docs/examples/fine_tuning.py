"""λ_max of every module of a small vision transformer while it is fine-tuned: ``python fine_tuning.py FIGURE.png``."""

# --8<-- [start:data]
import sys

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset, default_collate
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from mat import MAT, MATCallback
from mat.methods.vanilla import Vanilla

digits = load_digits()
images, labels = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32), torch.tensor(digits.target)
low, high = (TensorDataset(images[part], labels[part] % 5) for part in (labels < 5, labels >= 5))
# --8<-- [end:data]
# --8<-- [start:model]
torch.manual_seed(0)
config = ViTConfig(
    image_size=8, patch_size=2, num_channels=1, num_labels=5,
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
)  # fmt: skip
model = ViTForImageClassification(config)


def train(data, steps, method):
    """The callback after so many steps on these images; it has the history of every module."""
    callback = MATCallback(method, probe=32, every=10)
    arguments = TrainingArguments(
        "out", max_steps=steps, learning_rate=2e-3, per_device_train_batch_size=64, seed=0,
        report_to="none", save_strategy="no", disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip

    def collate(rows):
        pixels, classes = default_collate(rows)
        return {"pixel_values": pixels, "labels": classes}

    Trainer(model, arguments, train_dataset=data, data_collator=collate, callbacks=[callback]).train()
    return callback


# --8<-- [end:model]
# --8<-- [start:train]
train(low, 100, Vanilla())  # 0 to 4
callback = train(high, 200, MAT(alpha=0.1))  # 5 to 9, from there
records = pd.DataFrame(callback.controller.records)
# --8<-- [end:train]
# --8<-- [start:draw]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for ax, (layer, rows) in zip(axes, records.groupby("layer"), strict=True):
    for module, own in rows.groupby("module", sort=False):
        (line,) = ax.plot(own["step"], own["lambda_max"], label=module.partition(".")[2])
        off = own[~own["active"].astype(bool)]
        ax.plot(off["step"], off["lambda_max"], "o", color=line.get_color(), markerfacecolor="white", markersize=4)
    ax.set(title=f"layer {layer}", xlabel="step of fine-tuning", yscale="log")
    ax.legend(fontsize="small", ncols=2)
axes[0].set_ylabel("λ_max (hollow: not trained)")
figure.savefig(sys.argv[1], dpi=150, metadata={"Software": None})
# --8<-- [end:draw]
