import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.control import services
from mizzen.model.errors import UsageError
from mizzen.model.network import Transport
from mizzen.model.service import Probe, ProbeKind, ServicePort


def test_ports_are_read_on_each_address():
    read = services.parse_ports(["443:8443", "53:53/udp"], ["10.0.0.1", "FD00:0::1"])
    assert read == (
        ServicePort(443, 8443, Transport.TCP, "10.0.0.1"),
        ServicePort(443, 8443, Transport.TCP, "fd00::1"),
        ServicePort(53, 53, Transport.UDP, "10.0.0.1"),
        ServicePort(53, 53, Transport.UDP, "fd00::1"),
    )


@given(st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["", "/tcp", "/udp"]))
def test_every_port_can_be_written(host, guest, suffix):
    (read,) = services.parse_ports([f"{host}:{guest}{suffix}"], [])
    assert (read.port, read.target_port) == (host, guest)
    assert f"/{read.transport}" == (suffix or "/tcp")


@pytest.mark.parametrize("text", ["", "80", "0:80", "80:65536", "80:80/sctp", "٣:80", "a:b"])
def test_what_names_no_ports_is_refused(text):
    with pytest.raises(UsageError, match="names no ports"):
        services.parse_ports([text], [])


@given(st.text())
def test_any_text_is_ports_or_refused(text):
    try:
        services.parse_ports([text], [text])
    except UsageError as refused:
        assert len(str(refused).splitlines()) == 1


def test_a_port_that_is_named_twice_is_refused():
    services.parse_ports(["80:80", "80:81/udp"], [])
    with pytest.raises(UsageError, match="80/tcp: it is named twice"):
        services.parse_ports(["80:80", "80:81"], [])


@pytest.mark.parametrize(
    ("text", "probe"),
    [
        ("http:/healthz?x=1", Probe(ProbeKind.HTTP, path="/healthz?x=1")),
        ("tcp", Probe(ProbeKind.TCP)),
        ("none", Probe(ProbeKind.NONE)),
        ("command:a $B:8", Probe(ProbeKind.COMMAND, command="a $B:8")),
    ],
)  # fmt: skip
def test_probes_are_read(text, probe):
    assert services.parse_probe(text, Probe()) == probe


@pytest.mark.parametrize(
    "text", ["", "http", "http:x", "http:/a b", "http:/\r\n", "command:", "tcp:1"]
)
def test_what_is_no_probe_is_refused(text):
    with pytest.raises(UsageError, match="write http:/PATH"):
        services.parse_probe(text, Probe())


@given(st.text())
def test_a_path_never_ends_a_requests_first_line(text):
    try:
        read = services.parse_probe(f"http:{text}", Probe())
    except UsageError:
        return
    assert not set(read.path) & set(" \r\n")


@pytest.mark.parametrize(
    "probe",
    [
        Probe(port=65536),
        Probe(status=99),
        Probe(attempts=0),
        Probe(interval=-1),
        Probe(interval=float("nan")),
        Probe(timeout=0),
    ],
)
def test_a_probe_that_cannot_be_done_is_refused(probe):
    assert services.check_probe(Probe()) == Probe()
    with pytest.raises(UsageError):
        services.check_probe(probe)


def test_targets_are_read_by_service():
    read = services.parse_targets(["web=./app", "api=10.70.0.3", "x=docker.io/a/b:1=2"])
    assert read == {"web": "./app", "api": "10.70.0.3", "x": "docker.io/a/b:1=2"}


@pytest.mark.parametrize("texts", [[], ["web"], ["web="], ["=x"], ["web=a", "web=b"], ["W=a"]])
def test_targets_without_a_service_or_two_of_one_are_refused(texts):
    with pytest.raises(UsageError):
        services.parse_targets(texts)


def test_a_service_has_room_for_its_releases_number():
    assert services.check_name("a" * services.NAME_MAX)
    with pytest.raises(UsageError):
        services.check_name("a" * (services.NAME_MAX + 1))


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), 1e6])
def test_a_drain_that_never_ends_is_refused(seconds):
    assert services.check_drain(0) == 0
    with pytest.raises(UsageError):
        services.check_drain(seconds)
