"""What the table holds, as text."""

import pytest

from mizzen.model.network import Edge, Forward, Link, Publication, Transport
from mizzen.network.plan import Element, change, elements, link_local, table
from mizzen.network.plane import Parts


def link(number: int, label: str, *, outward: bool = True) -> Link:
    return Link(
        number=number,
        machine=f"{label}-{number}",
        label=label,
        addresses=(f"10.77.0.{number}", f"fd77::{number}"),
        gateways=("10.77.0.254", "fd77::ff"),
        mac=f"02:00:00:00:00:0{number}",
        outward=outward,
    )


def web(target: str, address: str = "") -> Publication:
    return Publication("web", (Forward(address, 80, Transport.TCP, target, 8080),))


WEB = link(1, "web")
DB = link(2, "db", outward=False)


def test_a_link_may_send_from_its_addresses_only() -> None:
    assert elements(Parts((DB,))) == {
        Element("sources4", '"mizzen-2" . 02:00:00:00:00:02 . 10.77.0.2'),
        Element("sources6", '"mizzen-2" . 02:00:00:00:00:02 . fd77::2'),
        Element("sources6", '"mizzen-2" . 02:00:00:00:00:02 . fe80::ff:fe00:2'),
        Element("gateways4", '"mizzen-2" . 10.77.0.254'),
        Element("gateways6", '"mizzen-2" . fd77::ff'),
        Element("selves", '"mizzen-2" . "mizzen-2"'),
    }


def test_a_link_that_may_go_out_is_listed_by_its_interface() -> None:
    assert Element("outward", '"mizzen-1"') in elements(Parts((WEB,)))


def test_an_edge_joins_every_pair_of_its_labels_links() -> None:
    links = (link(1, "web"), link(2, "web"), link(3, "db"))
    found = elements(Parts(links, edges=(Edge("web", "db", Transport.TCP, 5432),)))
    assert {one.key for one in found if one.place == "edges4"} == {
        "10.77.0.1 . 10.77.0.3 . tcp . 5432",
        "10.77.0.2 . 10.77.0.3 . tcp . 5432",
    }
    assert {one.key for one in found if one.place == "edges6"} == {
        "fd77::1 . fd77::3 . tcp . 5432",
        "fd77::2 . fd77::3 . tcp . 5432",
    }


def test_an_edge_within_a_label_joins_no_link_with_itself() -> None:
    links = (link(1, "raft"), link(2, "raft"))
    found = elements(Parts(links, edges=(Edge("raft", "raft", Transport.UDP, 7),)))
    assert {one.key for one in found if one.place == "edges4"} == {
        "10.77.0.1 . 10.77.0.2 . udp . 7",
        "10.77.0.2 . 10.77.0.1 . udp . 7",
    }


@pytest.mark.parametrize(
    ("forward", "place", "key", "value"),
    [
        (
            Forward("", 80, Transport.TCP, "10.77.0.1", 8080),
            "anywhere4",
            "tcp . 80",
            "10.77.0.1 . 8080",
        ),
        (
            Forward("192.0.2.1", 53, Transport.UDP, "10.77.0.1", 53),
            "published4",
            "192.0.2.1 . udp . 53",
            "10.77.0.1 . 53",
        ),
        (
            Forward("", 80, Transport.TCP, "fd77::1", 8080),
            "anywhere6",
            "tcp . 80",
            "fd77::1 . 8080",
        ),
        (
            Forward("2001:db8::1", 80, Transport.TCP, "fd77::1", 8080),
            "published6",
            "2001:db8::1 . tcp . 80",
            "fd77::1 . 8080",
        ),
    ],
)
def test_a_forward_leads_from_address_and_port_to_a_target(
    forward: Forward, place: str, key: str, value: str
) -> None:
    found = elements(Parts(publications=(Publication("any", (forward,)),)))
    assert found == {Element(place, key, value)}


def test_a_switch_replaces_an_element_and_touches_no_other() -> None:
    before = Parts((WEB,), (web("10.77.0.1"),))
    after = Parts((WEB,), (web("10.77.0.2"),))
    assert change(before, after) == (
        "delete element inet mizzen anywhere4 { tcp . 80 }\n"
        "add element inet mizzen anywhere4 { tcp . 80 : 10.77.0.2 . 8080 }\n"
    )


def test_elements_of_one_set_go_in_one_statement() -> None:
    edge = Edge("web", "db", Transport.TCP, 5432)
    assert change(Parts((WEB, DB)), Parts((WEB, DB), edges=(edge,))) == (
        "add element inet mizzen edges4 { 10.77.0.1 . 10.77.0.2 . tcp . 5432 }\n"
        "add element inet mizzen edges6 { fd77::1 . fd77::2 . tcp . 5432 }\n"
    )
    two = (Edge("web", "db", Transport.TCP, 1), Edge("web", "db", Transport.TCP, 2))
    assert change(Parts((WEB, DB), edges=two), Parts((WEB, DB))).splitlines()[0] == (
        "delete element inet mizzen edges4 "
        "{ 10.77.0.1 . 10.77.0.2 . tcp . 1, 10.77.0.1 . 10.77.0.2 . tcp . 2 }"
    )


def test_nothing_to_change_is_no_script() -> None:
    everything = Parts((WEB, DB), (web("10.77.0.1"),))
    assert not change(everything, everything)


def test_a_new_link_joins_the_edges_of_its_label() -> None:
    edge = Edge("web", "db", Transport.TCP, 5432)
    script = change(Parts((DB,), edges=(edge,)), Parts((DB, WEB), edges=(edge,)))
    assert "add element inet mizzen edges4 { 10.77.0.1 . 10.77.0.2 . tcp . 5432 }\n" in script


def test_the_table_is_replaced_by_one_script() -> None:
    script = table(Parts((DB,), (web("10.77.0.2"),)))
    assert script.startswith(
        "table inet mizzen\ndelete table inet mizzen\ntable inet mizzen {\n\tset sources4 {\n"
        "\t\ttype ifname . ether_addr . ipv4_addr\n"
        '\t\telements = { "mizzen-2" . 02:00:00:00:00:02 . 10.77.0.2 }\n\t}\n'
    )
    assert (
        "\tmap anywhere4 {\n\t\ttype inet_proto . inet_service : ipv4_addr . inet_service\n"
        "\t\telements = { tcp . 80 : 10.77.0.2 . 8080 }\n\t}\n"
    ) in script
    assert "\tset outward {\n\t\ttype ifname\n\t}\n" in script


def test_a_link_local_address_is_made_of_the_mac() -> None:
    assert link_local("52:54:00:12:34:56") == "fe80::5054:ff:fe12:3456"
