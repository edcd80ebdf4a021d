"""How a layer and an attention run sparsely: their functions of autograd, and what stands in for a forward pass."""
