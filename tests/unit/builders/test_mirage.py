"""The Dockerfiles of MirageOS unikernels, as text."""

from __future__ import annotations

import pytest

from mizzen.builders.dockerfile import bases
from mizzen.builders.mirage import Mirage, dockerfile
from mizzen.model.errors import Failure

COMMIT = "0123456789abcdef0123456789abcdef01234567"

PLAIN = """\
FROM ocaml/opam:debian-12-ocaml-4.14 AS build
RUN sudo ln -sf /usr/bin/opam-2.1 /usr/bin/opam
ENV OPAMYES=1 OPAMCONFIRMLEVEL=unsafe-yes
ENV DUNE_CACHE=enabled DUNE_CACHE_STORAGE_MODE=copy
RUN {caches} opam install 'mirage>=4.0.0'
RUN mkdir -p /home/opam/source
WORKDIR /home/opam/source
COPY --chown=opam:opam config.ml ./
RUN {caches} opam exec -- mirage configure -f config.ml -t virtio
RUN {caches} opam exec -- make depend
COPY --chown=opam:opam . /home/opam/source
RUN {caches} opam exec -- mirage configure -f config.ml -t virtio
RUN {caches} opam exec -- make build
RUN cp dist/*.virtio /home/opam/unikernel

FROM scratch
COPY --from=build /home/opam/unikernel /unikernel
""".replace(
    "{caches}",
    "--mount=type=cache,target=/home/opam/.opam/download-cache,uid=1000,gid=1000"
    " --mount=type=cache,target=/home/opam/.cache/dune,uid=1000,gid=1000",
)

EVERYTHING = """\
FROM example/opam:3 AS build
RUN sudo ln -sf /usr/bin/opam-2.1 /usr/bin/opam
ENV OPAMYES=1 OPAMCONFIRMLEVEL=unsafe-yes
ENV DUNE_CACHE=enabled DUNE_CACHE_STORAGE_MODE=copy
RUN git -C ~/opam-repository fetch origin {commit} \
&& git -C ~/opam-repository reset --hard {commit}
RUN --mount=type=cache,target=/kept,uid=1000,gid=1000 opam update
RUN --mount=type=cache,target=/kept,uid=1000,gid=1000 opam install 'mirage<4.0.0'
RUN mkdir -p /home/opam/source/unikernels/dns
WORKDIR /home/opam/source/unikernels/dns
COPY --chown=opam:opam unikernels/dns/config.ml ./
RUN opam pin add -n dns 6.0.0
COPY --chown=opam:opam dns.opam ./
RUN --mount=type=cache,target=/kept,uid=1000,gid=1000 opam exec -- mirage configure -f config.ml \
-t virtio --dhcp=false '--hello=it'"'"'s me'
RUN --mount=type=cache,target=/kept,uid=1000,gid=1000 opam exec -- make depend
COPY --chown=opam:opam . /home/opam/source
RUN --mount=type=cache,target=/kept,uid=1000,gid=1000 opam exec -- mirage configure -f config.ml \
-t virtio --dhcp=false '--hello=it'"'"'s me'
RUN --mount=type=cache,target=/kept,uid=1000,gid=1000 opam exec -- make build
RUN cp *.virtio /home/opam/unikernel

FROM scratch
COPY --from=build /home/opam/unikernel /unikernel
""".replace("{commit}", COMMIT)


def test_mirage_4():
    assert dockerfile(Mirage(), "cannot") == PLAIN
    assert bases(PLAIN, {}) == ("ocaml/opam:debian-12-ocaml-4.14",)


def test_mirage_3_with_everything_there_is():
    mirage = Mirage(
        version=3,
        config_file="unikernels/dns/config.ml",
        extra_flags=("--dhcp=false", "--hello=it's me"),
        extra_instructions=(
            "RUN opam pin add -n dns 6.0.0",
            "COPY --chown=opam:opam dns.opam ./",
        ),
        caches=("/kept",),
        base="example/opam:3",
        opam_repository=COMMIT,
    )
    assert dockerfile(mirage, "cannot") == EVERYTHING


def test_without_caches_nothing_is_mounted():
    assert "--mount" not in dockerfile(Mirage(caches=()), "cannot")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"target": "hvt"}, "what is made for hvt does not boot on QEMU; build it for virtio"),
        ({"target": "xen"}, "what is made for xen does not boot on QEMU"),
        ({"target": "a;b"}, "is no target"),
        ({"config_file": "../config.ml"}, "names no file of the source"),
        ({"config_file": "/config.ml"}, "names no file of the source"),
        ({"config_file": "a b.ml"}, "names no file of the source"),
        ({"config_file": "a\nRUN b"}, "names no file of the source"),
        ({"opam_repository": "0123abc"}, "is no commit"),
        ({"base": "a\nRUN b"}, "base holds"),
        ({"base": "a AS b"}, "base holds"),
        ({"caches": ["/a,source=/"]}, "caches holds"),
        ({"extra_flags": ["--a\nRUN b"]}, "extra_flags holds"),
        ({"extra_instructions": ["RUN a\nRUN b"]}, "extra_instructions holds"),
    ],
)
def test_what_would_break_out_of_its_line_is_refused(fields, why):
    with pytest.raises(Failure, match=why):
        dockerfile(Mirage(**fields), "cannot build it")
