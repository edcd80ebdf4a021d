"""What a module is: slices of parameters, partitions of a model, and how they are found in one."""

from mat.partition.discovery import partition_model
from mat.partition.partition import Module, Partition, Slice

__all__ = ["Module", "Partition", "Slice", "partition_model"]
