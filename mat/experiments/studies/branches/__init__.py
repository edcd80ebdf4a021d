"""What single modules and sets of them do when trained from checkpoints (C2, C3)."""
