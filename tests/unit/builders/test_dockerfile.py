import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.builders import dockerfile


def test_bases_are_what_a_dockerfile_starts_from_and_copies_from():
    text = """\
# FROM comment
ARG VERSION=1
FROM --platform=linux/amd64 docker.test/golang:1.22 AS Build
from scratch as nothing
FROM $VARIABLE
FROM \\
  localhost/mizzen/python
COPY --from=build /x /x
COPY --chown=1 --from=docker.test/tools /y /y
COPY --from=0 /z /z
RUN --mount=type=bind,from=docker.test/m,target=/m true
"""
    assert dockerfile.bases(text) == (
        "docker.test/golang:1.22",
        "localhost/mizzen/python",
        "docker.test/tools",
        "docker.test/m",
    )


@given(st.text())
def test_any_text_is_survived(text):
    assert isinstance(dockerfile.bases(text), tuple)


def test_bases_are_told_with_the_variables_that_are_known():
    text = """\
ARG SUITE=bookworm
ARG IMAGE="docker.test/debian:${SUITE}"
ARG OTHER
FROM $IMAGE AS one
ARG LATE=x
FROM docker.test/${NAME:-busybox}
FROM docker.test/$OTHER
FROM docker.test/$LATE
"""
    assert dockerfile.bases(text) == ("docker.test/debian:bookworm", "docker.test/busybox")
    assert dockerfile.bases(text, {"SUITE": "trixie", "OTHER": "o"}) == (
        "docker.test/debian:trixie",
        "docker.test/busybox",
        "docker.test/o",
    )


STEPS = """\
# syntax
ARG X=1
FROM scratch AS a
RUN one && \\
    # in the middle

    two
FROM scratch

copy . /
RUN last \\"""


@pytest.mark.parametrize(
    ("stage", "step", "line", "text"),
    [
        (1, 1, 3, "FROM scratch AS a"),
        (1, 2, 4, "RUN one && two"),
        (2, 1, 8, "FROM scratch"),
        (2, 2, 10, "copy . /"),
        (2, 3, 11, "RUN last"),
    ],
)
def test_a_step_is_found_with_its_line(stage, step, line, text):
    found = dockerfile.located(STEPS, stage, step)
    assert (found.line, found.text.split()) == (line, text.split())
    assert found.word == text.split()[0].upper()


def test_a_step_that_is_not_there_is_not_found():
    assert dockerfile.located(STEPS, 3, 1) is None
    assert dockerfile.located(STEPS, 1, 3) is None
    assert dockerfile.located(STEPS, 0, 0) is None


@given(st.text(alphabet="FROM RUN#\\\n`$a{}"), st.integers(0, 3), st.integers(0, 3))
def test_steps_of_any_text_are_survived(text, stage, step):
    dockerfile.located(text, stage, step)
    dockerfile.bases(text)


def test_a_folder_may_have_no_dockerfile(tmp_path):
    assert dockerfile.find(tmp_path) is None
    (tmp_path / "Dockerfile").touch()
    assert dockerfile.find(tmp_path) == tmp_path / "Dockerfile"


def test_what_a_step_reads_is_no_step():
    text = "FROM a\nRUN <<ONE cat <<-TWO\nARG x\nONE\n\tRUN y\n\tTWO\nRUN 1 <<NONE\nRUN 1<<a\n"
    found = [(one.line, one.last) for one in dockerfile.instructions(text)]
    assert found == [(1, 1), (2, 6), (7, 7), (8, 8)]


MARKED = "ARG S=1\nFROM a\nARG V \\\n  W=2\nENV V=$V\nFROM b\nARG S\nRUN x\n"


def test_arguments_mark_the_steps_behind_them():
    marked = dockerfile.marked(MARKED, {"V": "1"})
    assert [line for line in marked.splitlines() if not line.startswith("LABEL")] == (
        MARKED.splitlines()
    )
    words = [instruction.word for instruction in dockerfile.instructions(marked)]
    assert words == ["ARG", "FROM", "ARG", "LABEL", "ENV", "FROM", "ARG", "LABEL", "RUN"]
    found = dockerfile.located(marked, 2, 4)
    assert found.text == "RUN x"
    assert dockerfile.original(marked, found.line) == 8


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"V": "2"}, [True, False]),
        ({"S": "2"}, [False, True]),
        ({"V": "1", "OTHER": "2"}, [False, False]),
        ("W=2", [True, False]),
        ("S=1", [False, True]),
    ],
)
def test_marks_change_with_the_values_that_count(change, changed):
    def marks(text, arguments):
        return [line for line in dockerfile.marked(text, arguments).splitlines() if "LABEL" in line]

    before = marks(MARKED, {"V": "1"})
    if isinstance(change, str):
        after = marks(MARKED.replace(change, f"{change}3"), {"V": "1"})
    else:
        after = marks(MARKED, {"V": "1"} | change)
    assert [one != other for one, other in zip(before, after, strict=True)] == changed


def test_a_dockerfile_without_arguments_stays_what_it_is():
    assert dockerfile.marked(STEPS.replace("ARG X=1\n", ""), {"X": "1"}).splitlines() == (
        STEPS.replace("ARG X=1\n", "").splitlines()
    )
