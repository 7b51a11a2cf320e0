"""Run services in very small virtual machines, and step into one when it fails."""

__version__ = "0.1.0"
