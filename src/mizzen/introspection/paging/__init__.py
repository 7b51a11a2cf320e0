"""x86-64 page tables: from a virtual address to where it lies in RAM.

Pure functions over the memory protocol; what the guest wrote into its tables is not trusted.
"""
