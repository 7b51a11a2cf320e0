"""What a pipeline file imports: operations as functions from terms to terms; thin.

Belongs here: each step's operation, the types of its inputs and of its value. Does not: how
anything is done, which is in the layers below. Only users' files and ``daemon`` import it.
"""

from .ready import command, http, running, tcp

__all__ = ["command", "http", "running", "tcp"]
