"""Measure: modular tangent kernels, their Gram matrices and spectra, gradient norms."""
