"""The guest kernel's own tables, found in RAM by their structure, never by a version number.

Pure functions over the memory protocol; nothing the guest wrote is trusted, every count is
bounded.
"""
