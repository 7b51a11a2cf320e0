import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.builders import dockerfile
from mizzen.model.errors import Failure


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


def test_a_folder_without_dockerfile_is_refused(tmp_path):
    with pytest.raises(Failure, match="it holds no Dockerfile"):
        dockerfile.find(tmp_path)
