from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from sqlite3 import Connection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_daemon import opened

from mizzen.model.errors import Failure
from mizzen.network.addresses import Addresses, read_prefix


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with opened(tmp_path) as connection:
        yield connection


@pytest.fixture
def addresses(connection: Connection) -> Addresses:
    return Addresses(connection)


def ranges(connection: Connection) -> list[tuple[int, int, int]]:
    return [
        (family, int.from_bytes(first), int.from_bytes(last))
        for family, first, last in connection.execute("SELECT * FROM free ORDER BY family, last")
    ]


def test_a_tag_keeps_its_address_until_it_is_released(addresses: Addresses) -> None:
    first = addresses.request("a", "10.70.0.0/24")
    assert addresses.request("b", "10.70.0.0/24").address == "10.70.0.3"
    assert addresses.request("a", "10.70.0.0/24") == first
    assert first.address == "10.70.0.2"
    assert addresses.release("a") == ("10.70.0.2",)
    assert addresses.request("c", "10.70.0.0/24").address == "10.70.0.2"


def test_one_tag_holds_an_address_of_each_prefix(addresses: Addresses) -> None:
    four = addresses.request("a", "10.70.0.0/24")
    six = addresses.request("a", "FD70:0::/64")
    assert six.prefix == "fd70::/64"
    assert six.address == "fd70::2"
    assert addresses.held("a") == [four, six]
    assert addresses.held("a", "fd70:0:0::/64") == [six]
    assert addresses.release("a", "10.70.0.0/24") == ("10.70.0.2",)
    assert addresses.held("a") == [six]


@pytest.mark.parametrize(
    ("prefix", "given_out"),
    [
        ("10.0.0.0/30", ["10.0.0.2"]),
        ("10.0.0.8/29", ["10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"]),
        ("fd00::4/126", ["fd00::6", "fd00::7"]),
    ],
)
def test_all_but_the_hosts_and_the_networks_own_are_given_out(
    addresses: Addresses, prefix: str, given_out: list[str]
) -> None:
    found = [addresses.request(f"tag{n}", prefix).address for n in range(len(given_out))]
    assert found == given_out
    with pytest.raises(Failure, match="it is full"):
        addresses.request("more", prefix)


def test_excluded_addresses_and_prefixes_are_jumped_over(addresses: Addresses) -> None:
    exclude = ["10.70.0.6", "10.70.0.0/30", "10.70.0.4/31", "10.70.0.0/29", "fd70::/64"]
    assert addresses.request("a", "10.70.0.0/24", exclude).address == "10.70.0.8"
    assert addresses.request("b", "10.70.0.0/24").address == "10.70.0.2"
    with pytest.raises(Failure, match=r"full: nothing is free but what is excluded"):
        addresses.request("c", "10.70.0.0/24", ["10.70.0.0/25", "10.70.0.128/25"])
    with pytest.raises(Failure, match=r"a has 10\.70\.0\.8, which is excluded"):
        addresses.request("a", "10.70.0.0/24", ["10.70.0.8/30"])
    with pytest.raises(Failure, match="257 are excluded"):
        addresses.request("d", "10.70.0.0/24", ["10.1.1.1"] * 257)


def test_prefixes_that_overlap_share_what_is_free(addresses: Addresses) -> None:
    assert addresses.request("a", "10.0.0.0/8").address == "10.0.0.2"
    assert addresses.request("b", "10.0.0.0/24").address == "10.0.0.3"
    with pytest.raises(Failure, match="full"):
        addresses.request("c", "10.0.0.0/30")
    addresses.release("a")
    assert addresses.request("c", "10.0.0.0/30").address == "10.0.0.2"


def test_a_gateway_is_nobodys_address_while_its_prefix_has_leases(addresses: Addresses) -> None:
    addresses.request("inner", "10.0.0.4/30")
    got = [addresses.request(f"outer{n}", "10.0.0.0/28").address for n in range(3)]
    assert got == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert addresses.request("next", "10.0.0.0/28").address == "10.0.0.7"
    addresses.release("inner")
    assert addresses.request("then", "10.0.0.0/28").address == "10.0.0.5"
    with pytest.raises(Failure, match=r"its gateway 10\.0\.0\.5 is an address of then"):
        addresses.request("inner", "10.0.0.4/30")


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("10.0.0.0/7", "too short a prefix; give one from /8 to /30"),
        ("10.0.0.0/31", "too long a prefix; give one from /8 to /30"),
        ("8.0.0.0/7", "too short a prefix"),
        ("10.0.0.0", "10.0.0.0/32 is too long a prefix"),
        ("fd00::/63", "too short a prefix; give one from /64 to /126"),
        ("fd00::/127", "too long a prefix"),
        ("10.70.0.9/24", "write 10.70.0.0/24 if that is meant"),
        ("127.0.0.0/8", "is loopback"),
        ("224.0.0.0/8", "is multicast"),
        ("255.255.255.0/24", "is reserved"),
        ("169.254.0.0/24", "is link-local"),
        ("0.0.0.0/8", "is reserved"),
        ("::/64", "is reserved"),
        ("fe80::/64", "is link-local"),
        ("ff02::/64", "is multicast"),
        ("fe80::%1/64", "is no prefix"),
        ("10.0.0.0/255.0.0.0", "is no prefix"),
        ("10.0.0.0/99", "is no prefix"),
        ("", "is no prefix"),
        ("a" * 1000, "is no prefix"),
    ],
)
def test_prefixes_that_will_not_do_are_refused_by_name(prefix: str, why: str) -> None:
    with pytest.raises(Failure) as refused:
        read_prefix(prefix)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("tag", "why"),
    [("", "is empty"), ("a" * 256, "256 characters"), ("a\nb", "cannot be shown")],
)
def test_tags_that_will_not_do_are_refused_by_name(
    addresses: Addresses, tag: str, why: str
) -> None:
    with pytest.raises(Failure, match=why):
        addresses.request(tag, "10.0.0.0/24")
    with pytest.raises(Failure, match=why):
        addresses.release(tag)


def test_releasing_makes_ranges_whole_again(connection: Connection, addresses: Addresses) -> None:
    before = ranges(connection)
    for number in range(20):
        addresses.request(f"tag{number}", "10.70.0.0/24")
        addresses.request(f"tag{number}", "fd70::/64")
    for number in (*range(0, 20, 2), *range(19, 0, -2)):
        addresses.release(f"tag{number}")
    assert ranges(connection) == before
    assert connection.execute("SELECT count(*) FROM gateway").fetchone() == (0,)


def test_leases_are_listed_by_address_in_pages(addresses: Addresses) -> None:
    for tag, prefix in (("a", "fd70::/64"), ("b", "10.70.0.0/24"), ("c", "10.8.0.0/16")):
        addresses.request(tag, prefix)
    assert [lease.tag for lease in addresses.page("", 2)] == ["c", "b"]
    assert [lease.tag for lease in addresses.page("10.70.0.2", 2)] == ["a"]
    assert addresses.page("fd70::2", 2) == []
    assert addresses.count() == 3


PREFIXES = ("10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/29", "fd00::/124", "fd00::8/125", "10.0.0.4/30")

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.sampled_from(PREFIXES),
        st.sampled_from(("request", "release", "release all")),
        st.lists(st.sampled_from(("10.0.0.2", "10.0.0.8/30", "fd00::8/125")), max_size=2),
    ),
    max_size=60,
)


@given(actions=ACTIONS)
def test_it_gives_what_a_search_through_all_addresses_would(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, str, list[str]]]
) -> None:
    held: dict[tuple[str, str], IPv4Address | IPv6Address] = {}
    with opened(tmp_path_factory.mktemp("addresses")) as connection:
        addresses = Addresses(connection)
        whole = ranges(connection)
        for tag, prefix, action, exclude in actions:
            if action != "request":
                addresses.release(tag, prefix if action == "release" else "")
                gone = {prefix} if action == "release" else set(PREFIXES)
                held = {
                    key: one for key, one in held.items() if key[0] != tag or key[1] not in gone
                }
                continue
            expected = _search(held, tag, prefix, exclude)
            if expected is None:
                with pytest.raises(Failure):
                    addresses.request(tag, prefix, exclude)
            else:
                lease = addresses.request(tag, prefix, exclude)
                assert lease.address == str(expected)
                held[tag, prefix] = expected
        for tag in "abcdefgh":
            addresses.release(tag)
        assert ranges(connection) == whole


def _search(
    held: dict[tuple[str, str], IPv4Address | IPv6Address],
    tag: str,
    prefix: str,
    exclude: list[str],
) -> IPv4Address | IPv6Address | None:
    """Say which address a request gets; None if it is refused."""
    barred = [ip_network(one) for one in exclude]

    def excluded(address: IPv4Address | IPv6Address) -> bool:
        return any(address in one for one in barred if one.version == address.version)

    if (tag, prefix) in held:
        mine = held[tag, prefix]
        return None if excluded(mine) else mine
    taken = set(held.values())
    gateways = {ip_network(of)[1] for _, of in held}
    network = ip_network(prefix)
    if network[1] in taken:
        return None
    last = network[-2] if network.version == 4 else network[-1]
    for number in range(int(network[2]), int(last) + 1):
        address = ip_address(number)
        if network.version == 6:
            address = IPv6Address(number)
        if address not in taken | gateways and not excluded(address):
            return address
    return None


def steps(connection: Connection, act: Callable[[], object]) -> int:
    """Count the steps of SQLite's machine that something takes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 1)
    try:
        act()
    finally:
        connection.set_progress_handler(None, 0)
    return count


def fill(connection: Connection, count: int, apart: int) -> None:
    """Lease so many addresses of 10.0.0.0/8, as far apart, as if they had been asked for."""
    base = int(IPv4Address("10.0.0.2"))
    numbers = range(base, base + count * apart, apart)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO lease VALUES (4, ?, ?, '10.0.0.0/8')",
        ((number.to_bytes(4), f"tag{number}") for number in numbers),
    )
    connection.execute("INSERT INTO gateway VALUES (4, x'0a000001', ?)", (count,))
    connection.execute("DELETE FROM free WHERE family = 4")
    rows = [(0, base - 2), (numbers[-1] + 1, 0xFFFFFFFF)]
    if apart > 1:
        rows += [(number + 1, number + apart - 1) for number in numbers[:-1]]
    connection.executemany(
        "INSERT INTO free VALUES (4, ?, ?)",
        ((first.to_bytes(4), last.to_bytes(4)) for first, last in rows),
    )
    connection.execute("COMMIT")


def costs(folder: Path, count: int, apart: int) -> list[int]:
    """Count the steps of each kind of request beside so many leases."""
    folder.mkdir()
    last = str(IPv4Address("10.0.0.2") + (count - 1) * apart)
    exclude = [f"10.0.{n}.0/24" for n in range(3)]
    with opened(folder) as connection:
        fill(connection, count, apart)
        addresses = Addresses(connection)
        found = [
            steps(connection, lambda: addresses.request("new", "10.0.0.0/8")),
            steps(connection, lambda: addresses.request("new", "10.0.0.0/8")),
            steps(connection, lambda: addresses.request("other", "10.0.0.0/8", exclude)),
            steps(connection, lambda: addresses.release("new")),
            steps(connection, lambda: addresses.page(last, 10)),
        ]
        assert addresses.count() == count + 1
    return found


@pytest.mark.parametrize("apart", [1, 2])
def test_a_million_taken_cost_no_more_steps_than_a_thousand(tmp_path: Path, apart: int) -> None:
    few = costs(tmp_path / "few", 1_000, apart)
    assert few == costs(tmp_path / "many", 1_000_000, apart)
    assert all(few)
