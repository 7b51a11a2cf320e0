import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.engine.operation import TemporaryFailure
from mizzen.model.errors import Failure
from mizzen.sources import command


@pytest.mark.parametrize(
    ("said", "why", "temporary"),
    [
        ("ssh: Could not resolve hostname x: Name or service not known\nfatal: Could not read from"
         " remote repository.\n\nPlease make sure you have the correct access rights\nand the"
         " repository exists.", "Could not resolve hostname x: Name or service not known", True),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.",
         "it does not let this user in", False),
        ("ERROR: Repository not found.\nfatal: Could not read from remote repository.",
         "there is no repository", False),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled",
         "it does not let this user in", False),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 429",
         "unable to access 'https://x/': The requested URL returned error: 429", True),
        ("error: unable to write file x: No space left on device\nfatal: cannot",
         "unable to write file x: No space left on device", False),
        ("warning: {odd}\nfatal: {braces} are no names", "{braces} are no names", False),
    ],
)  # fmt: skip
def test_complaints_are_understood(said, why, temporary):
    complaint = command.understand(said)
    assert (complaint.why, complaint.temporary) == (why, temporary)


@given(st.text())
def test_any_complaint_gives_a_reason(said):
    assert command.understand(said).why


def test_a_failure_shows_the_command_without_its_wrapping(tmp_path):
    with pytest.raises(Failure) as failure:
        asyncio.run(command.git("ls-remote", "/nowhere", what="cannot ask", repository="/nowhere"))
    assert not isinstance(failure.value, TemporaryFailure)
    assert failure.value.__notes__[0].startswith("command: git ls-remote /nowhere\nstatus: 128\n")
