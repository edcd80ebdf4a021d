"""What the loop does at its steps: batches ahead, the optimizer, the losses summed, the model evaluated."""
