"""The matrix of kernels, machines and guests that attach is tried on."""
