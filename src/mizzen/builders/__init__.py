"""Make what machines boot: kernel, root file system, initramfs, out of packages and OCI images.

Belongs here: turning a named input into content-addressed files. Does not: starting machines.
"""
