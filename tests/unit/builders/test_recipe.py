import asyncio
import contextlib

import pytest

from mizzen.builders import buildah
from mizzen.builders.recipe import Recipe, explain_step, inside
from mizzen.engine.operation import TemporaryFailure
from mizzen.model.errors import Failure

TEXT = "ARG X\nFROM a AS one\nRUN true\n\nFROM b\nRUN cd x && \\\n    make\nCOPY y /\n"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (
            "[1/2] STEP 1/2: FROM a AS one\n[1/2] STEP 2/2: RUN true\n[2/2] STEP 1/3: FROM b\n"
            "[2/2] STEP 2/3: RUN cd x &&     make\ncc -c x.c\nx.c:1: error: no semicolon\n"
            "make: *** [x.o] Error 1\nsubprocess exited with status 2\n"
            'Error: building at STEP "RUN cd x &&     make": exit status 2\n',
            "build/Dockerfile:6: RUN cd x &&     make failed: exit status 2"
            " (make: *** [x.o] Error 1)",
        ),
        (
            "[2/2] STEP 1/3: FROM b\n[2/2] STEP 3/3: COPY y /\n"
            'Error: building at STEP "COPY y /": checking on sources: no such file or directory\n',
            "build/Dockerfile:8: COPY y / failed: checking on sources: no such file or directory",
        ),
        (
            "STEP 1/2: FROM a AS one\nTrying to pull a...\n"
            "Error: creating build container: initializing source: nothing there\n",
            "build/Dockerfile:2: FROM a AS one failed:"
            " creating build container: initializing source: nothing there",
        ),
        ('Error: The target "z" was not found\n', 'The target "z" was not found'),
        (
            "STEP 1/2: FROM a AS one\nSTEP 2/2: RUN true\nCOMMIT x\nError: storage is broken\n",
            "storage is broken",
        ),
        (  # whoever changed the Dockerfile meanwhile
            'STEP 1/2: FROM a\nSTEP 2/2: COPY x /\nError: building at STEP "COPY x /": gone\n',
            "COPY x / failed: gone",
        ),
    ],
)
def test_a_failure_names_the_dockerfiles_line(output, why):
    assert explain_step(TEXT, "build/Dockerfile", output)[0] == why


def test_a_full_disk_is_told_as_such():
    output = 'STEP 1/1: FROM a\nError: building at STEP "COPY . .": no space left on device\n'
    assert explain_step("FROM a\n", "Dockerfile", output) == (
        "No space left on device",
        "free some disk space",
    )


@pytest.mark.parametrize(
    ("why", "temporary"),
    [
        ("pinging registry: dial tcp 127.0.0.1:5: connect: connection refused", True),
        ("reading manifest: received unexpected HTTP status: 503 Service Unavailable", True),
        ("toomanyrequests: rate limit", True),
        ("RUN curl failed: exit status 7 (connection refused)", False),
        ("manifest unknown", False),
    ],
)
def test_a_network_is_tried_again_and_nothing_else(why, temporary):
    with pytest.raises(Failure) as failure, buildah.retriable():
        raise Failure("x", why)
    assert isinstance(failure.value, TemporaryFailure) is temporary
    assert failure.value.why == why


@pytest.mark.parametrize(
    ("why", "attempts"),
    [
        (
            "Dockerfile:2: COPY x / failed: checking if cached image exists from a previous build:"
            " getting top layer info: layer not known",
            2,
        ),
        (f'locating image with ID "{"a0" * 32}": image not known', 2),
        ("x: image not known", 1),
    ],
)
def test_what_a_removal_of_images_crossed_is_made_again(why, attempts):
    made = []

    async def attempt():
        made.append(why)
        if len(made) < 2:
            raise Failure("x", why)
        return "done"

    with contextlib.nullcontext() if attempts > 1 else pytest.raises(Failure):
        assert asyncio.run(buildah.uncrossed(attempt)) == "done"
    assert len(made) == attempts


def test_what_is_crossed_each_time_ends_with_that():
    async def attempt():
        raise Failure("x", "checking if cached image exists")

    with pytest.raises(Failure, match="cached image"):
        asyncio.run(buildah.uncrossed(attempt))


@pytest.mark.parametrize("path", ["..", "/etc", "a/../../b", "link"])
def test_a_path_that_leads_out_is_refused(tmp_path, path):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(Failure, match="leads out"):
        inside(tmp_path, path, "x")


def test_a_recipe_begins_its_failures_with_its_title(tmp_path):
    assert Recipe("site", tmp_path).what == "cannot build site"
