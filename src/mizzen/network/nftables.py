"""Run nft scripts in this process, by libnftables.

A script is one transaction: all of it or nothing. Source: libnftables(3).
"""

from __future__ import annotations

import ctypes

from mizzen.model.errors import Failure


class Nftables:
    """A context of libnftables. It acts in the network namespace that it was made in."""

    def __init__(self) -> None:
        """Raise Failure where the library is missing."""
        try:
            library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise Failure(
                "cannot change nftables", str(error), "run: apt-get install libnftables1"
            ) from error
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_ctx_free.restype = None
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for stream in ("output", "error"):
            getattr(library, f"nft_ctx_buffer_{stream}").argtypes = [ctypes.c_void_p]
            getter = getattr(library, f"nft_ctx_get_{stream}_buffer")
            getter.argtypes = [ctypes.c_void_p]
            getter.restype = ctypes.c_char_p
        self._library = library
        self._context: int | None = library.nft_ctx_new(0)
        if not self._context:
            raise Failure("cannot change nftables", "libnftables has no memory for it")
        # What is not buffered here, libnftables prints.
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, script: str, what: str) -> str:
        """Carry out a script and return what it printed.

        what: what this is for, for the Failure, which says that nothing has changed.
        """
        if self._library.nft_run_cmd_from_buffer(self._context, script.encode()) != 0:
            complaint = self._library.nft_ctx_get_error_buffer(self._context).decode()
            why = (complaint.splitlines() or ["nft tells no reason"])[0]
            failure = Failure(what, why.removeprefix("Error: "), "run: mizzen doctor")
            failure.add_note(complaint)
            raise failure
        printed: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        return printed.decode()

    def close(self) -> None:
        """Free the context. The kernel keeps what it was told."""
        self._library.nft_ctx_free(self._context)
        self._context = None
