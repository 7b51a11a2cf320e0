"""Machines' names follow from their content, and what makes no machine is told where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploying import image_in

from mizzen.engine.graph import Graph
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.states import Failed, Ok, State
from mizzen.engine.terms import Term, constant
from mizzen.model.deployment import Address
from mizzen.model.image import Image
from mizzen.model.machine import Accel, Port
from mizzen.model.network import Transport
from mizzen.steps import machines
from mizzen.steps.specs import Spec, name_of


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return image_in(tmp_path)


def states(build: Callable[[], Term[Any]]) -> tuple[Term[Any], State[Any]]:
    """Return the term that a pipeline makes, settled."""
    made: list[Term[Any]] = []
    graph: Graph = Pipeline(lambda: made.append(build())).build()
    graph.settle()
    return made[0], made[0].state


def spec_of(build: Callable[[], Term[Spec]]) -> Spec:
    _, state = states(build)
    assert isinstance(state, Ok), state
    return state.value


def test_spec_reads_as_it_is_written(image):
    def build() -> Term[Spec]:
        return machines.spec(
            "website",
            constant(image),
            memory="1G",
            network="mizzen0",
            env={"MAIL": constant(Address("mail-00000001", "10.70.0.9"))},
            args=lambda ip: [f"--listen={ip}:80"],
            ports=[80, "53/udp"],
            accel="tcg",
        )

    term, _ = states(build)
    assert (term.label, name_of(term)) == ("machines spec website", "website")
    made = spec_of(build).deployment("10.70.0.2")
    assert made.machine == f"website-{made.version}"
    assert (made.memory, made.vcpus, made.label, made.accel) == (1024, 1, "mizzen0", Accel.TCG)
    assert made.arguments == ("--listen=10.70.0.2:80",)
    assert made.environment == ("MAIL=10.70.0.9",)
    assert made.ports == (Port(0, 80), Port(0, 53, Transport.UDP))


def test_arguments_can_be_texts_terms_and_functions_of_the_address(image):
    made = spec_of(
        lambda: machines.spec(
            "entry", image, args=["--fast", constant("--next=10.70.0.9"), lambda ip: f"--ip={ip}"]
        )
    )
    assert made.deployment("10.70.0.2").arguments == (
        "--fast",
        "--next=10.70.0.9",
        "--ip=10.70.0.2",
    )


def test_without_a_word_it_has_the_images_ports_and_its_own_label(image):
    made = spec_of(lambda: machines.spec("website", image)).deployment("x")
    assert made.ports == (Port(0, 80),)
    assert made.label == "website"
    assert (made.memory, made.outward, made.accel) == (256, None, None)


def test_unikernel_has_arguments_little_memory_and_no_environment(image):
    alone = replace(image, initramfs=None, process=None)
    made = spec_of(lambda: machines.spec("hello", alone, memory="16M", args=["--name=x"]))
    assert (made.memory, made.ports) == (16, ())
    _, state = states(lambda: machines.spec("hello", alone, env={"A": "1"}))
    assert isinstance(state, Failed)
    assert "a unikernel has no environment" in str(state.error)


def test_equal_content_is_one_machine_and_any_other_content_another(image):
    def version(of: Image = image, **more: Any) -> str:
        return spec_of(lambda: machines.spec("web", of, **more)).version

    versions = [
        version(),
        version(replace(image, digest="other")),
        version(memory=128),
        version(vcpus=2),
        version(network="else"),
        version(args=["--fast"]),
        version(args=lambda ip: [ip]),
        version(env={"A": "1"}),
        version(outward=False),
        version(ports=[81]),
    ]
    assert len(set(versions)) == len(versions)
    assert all(len(one) == 8 for one in versions)
    assert version() == version(replace(image, reference="elsewhere"), accel="tcg")
    assert version(args=["192.0.2.1"]) == version(args=lambda ip: [ip])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"name": "Web"}, "'Web' cannot name a machine"),
        ({"name": 7}, "expected string"),
        ({"network": ""}, "'' cannot name a machine"),
        ({"memory": "lots"}, "'lots' is no size such as 256M"),
        ({"memory": [256]}, "[256] is no size such as 256M"),
        ({"env": 5}, "not iterable"),
        ({"memory": "1M"}, "1 MiB of memory are too few"),
        ({"vcpus": 0}, "0 virtual CPUs"),
        ({"ports": ["http"]}, "'http' is no port"),
        ({"accel": "xen"}, "'xen' is not a valid Accel"),
        ({"image": 5}, "its image is of type int; give what docker.build returns"),
        ({"args": [5]}, "5 is no argument"),
        ({"args": "--fast"}, "a list is wanted: write ['--fast']"),
        ({"ports": "80"}, "a list is wanted"),
        ({"args": lambda _: [5]}, "their function returned 5"),
        ({"env": {"A=B": "1"}}, "'A=B' cannot be '1'"),
        ({"env": {"A": 5}}, "'A' cannot be 5"),
        ({"memory": "32M"}, "32 MiB of memory are too few"),
    ],
)
def test_what_makes_no_machine_fails_at_the_spec(image, arguments, why):
    given = {"name": "web", "image": image, **arguments}
    term, state = states(lambda: machines.spec(**given))
    assert isinstance(state, Failed)
    assert why in str(state.error)
    assert term.drawn


def test_function_that_fails_fails_the_spec(image):
    _, state = states(lambda: machines.spec("web", image, args=lambda ip: [ip.nothing]))
    assert isinstance(state, Failed)
    assert "nothing" in str(state.error)


def test_wrong_argument_names_the_users_line(image):
    _, state = states(lambda: machines.spec("web", image, memory="lots"))
    assert isinstance(state, Failed)
    assert f"mend {__file__}:" in str(state.error)
