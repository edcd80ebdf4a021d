"""What a module is: slices of parameters, partitions of a model, and how they are found in one."""
