"""Setting a table right that is there already, as text."""

from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.network import Edge, Forward, Link, Publication, Transport
from mizzen.network import plan
from mizzen.network.plane import Parts
from mizzen.network.takeover import held, script

LINKS = tuple(
    Link(
        number,
        f"m{number}",
        f"m{number}",
        (f"10.77.0.{number}", f"fd77::{number}"),
        ("10.77.0.254", "fd77::ff"),
        f"02:00:00:00:00:0{number}",
    )
    for number in (1, 2, 3)
)
FORWARDS = st.builds(
    Forward,
    st.sampled_from(["", "192.0.2.1"]),
    st.integers(1, 65535),
    st.sampled_from(Transport),
    st.ip_addresses(v=4).map(str),
    st.integers(1, 65535),
)
PARTS = st.builds(
    Parts,
    st.sets(st.sampled_from(LINKS)).map(tuple),
    st.lists(FORWARDS, unique_by=lambda one: (one.address, one.port, one.transport)).map(
        lambda forwards: (Publication("any", tuple(forwards)),)
    ),
    st.just((Edge("m1", "m2", Transport.TCP, 80),)),
)


def listed(parts: Parts) -> str:
    """Return the table as nft lists it, which is how it is written, two lines in front."""
    lines = plan.table(parts).splitlines(keepends=True)
    return "".join(lines[2:])


@given(PARTS)
def test_elements_are_read_from_a_listing(parts: Parts) -> None:
    assert held(listed(parts)) == plan.elements(parts)


@given(PARTS, PARTS)
def test_a_table_of_this_shape_stays_and_its_elements_are_changed(old: Parts, new: Parts) -> None:
    made = script(listed(old), new)
    assert "delete table" not in made
    assert made.endswith(plan.change(old, new))
    assert all(f"flush chain inet mizzen {name}\n" in made for name in plan.CHAINS)
    assert plan.RULES in made


def test_elements_are_read_from_lines_that_nft_has_broken() -> None:
    text = listed(Parts(LINKS)).replace(", ", ",\n\t\t\t     ")
    assert held(text) == plan.elements(Parts(LINKS))


def test_a_table_of_another_shape_is_replaced() -> None:
    whole = plan.table(Parts(LINKS))
    right = listed(Parts(LINKS))
    for other in (
        "",
        "table inet mizzen {\n}\n",
        right.replace("\tset outward", "\tset inward"),
        right.replace("type ifname . ifname", "type ifname"),
        right.replace("\tchain sender {", "\tchain somebody {"),
        right.replace("\tchain sender {", "\tchain somebody {\n\t}\n\n\tchain sender {"),
    ):
        assert script(other, Parts(LINKS)) == whole
