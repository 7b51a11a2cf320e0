"""QEMU: the command line as a pure function, the process, QMP."""
