import pytest

from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Publication, Transport
from mizzen.model.service import Release, ReleaseState, Service, ServicePort
from mizzen.publish import routes

TCP, UDP = Transport.TCP, Transport.UDP


def release(number=1, addresses=("10.70.0.2", "fd70::2"), ports=()):
    return Release("web", number, ReleaseState.LIVE, 0.0, addresses=addresses, ports=ports)


def service(*ports: ServicePort) -> Service:
    return Service("web", ports)


def test_a_port_leads_to_the_release_in_each_family():
    made = routes.publication(service(ServicePort(443, 8443), ServicePort(53, 53, UDP)), release())
    assert made == Publication(
        "web",
        (
            Forward("", 443, TCP, "10.70.0.2", 8443),
            Forward("", 443, TCP, "fd70::2", 8443),
            Forward("", 53, UDP, "10.70.0.2", 53),
            Forward("", 53, UDP, "fd70::2", 53),
        ),
    )


def test_a_hosts_address_leads_to_the_address_of_its_family():
    made = routes.publication(service(ServicePort(80, 80, address="fd00::1")), release())
    assert made.forwards == (Forward("fd00::1", 80, TCP, "fd70::2", 80),)
    with pytest.raises(Failure, match=r"it has no IPv6 address for fd00::1"):
        routes.publication(
            service(ServicePort(80, 80, address="fd00::1")), release(addresses=("10.70.0.2",))
        )


def test_ports_that_answer_elsewhere_are_led_there():
    moved = release(addresses=("127.0.0.1",), ports=((80, 41000, TCP), (53, 41001, UDP)))
    both = service(ServicePort(8080, 80), ServicePort(53, 53, UDP))
    made = routes.publication(both, moved)
    assert [forward.target_port for forward in made.forwards] == [41000, 41001]
    assert routes.endpoints(both, moved) == ("127.0.0.1:41000", "127.0.0.1:41001")


def test_endpoints_of_ipv6_are_in_brackets_and_each_is_there_once():
    twice = service(
        ServicePort(80, 80, address="10.0.0.1"), ServicePort(80, 80, address="10.0.0.2")
    )
    assert routes.endpoints(twice, release()) == ("10.70.0.2:80", "[fd70::2]:80")


def test_a_publication_makes_one_release_live():
    web = service(ServicePort(80, 80))
    published = routes.publication(web, release())
    backwards = Publication("web", tuple(reversed(published.forwards)))
    assert routes.leads_to(backwards, web, release())
    assert not routes.leads_to(published, web, release(addresses=("10.70.0.3",)))
    assert not routes.leads_to(published, web, release(addresses=()))
    assert not routes.leads_to(None, web, release())


def test_another_service_may_use_a_release_by_another_of_its_ports():
    other = Publication("admin", (Forward("", 9000, TCP, "10.70.0.2", 9000),))
    assert routes.uses(other, release())
    moved = release(addresses=("127.0.0.1",), ports=((80, 41000, TCP),))
    at = Publication("admin", (Forward("", 9000, TCP, "127.0.0.1", 41000),))
    beside = Publication("admin", (Forward("", 9000, TCP, "127.0.0.1", 41001),))
    assert routes.uses(at, moved)
    assert not routes.uses(beside, moved)


@pytest.mark.parametrize(
    ("port", "taken", "free"),
    [
        (ServicePort(80, 1), Forward("", 80, TCP, "10.70.0.9", 80), False),
        (ServicePort(80, 1), Forward("10.0.0.1", 80, TCP, "10.70.0.9", 80), False),
        (ServicePort(80, 1, address="10.0.0.1"), Forward("", 80, TCP, "10.70.0.9", 80), False),
        (ServicePort(80, 1, address="10.0.0.1"), Forward("", 80, TCP, "fd70::9", 80), True),
        (ServicePort(80, 1, address="10.0.0.1"), Forward("10.0.0.2", 80, TCP, "10.0.0.9", 8), True),
        (ServicePort(80, 1, UDP), Forward("", 80, TCP, "10.70.0.9", 80), True),
        (ServicePort(81, 1), Forward("", 80, TCP, "10.70.0.9", 80), True),
    ],
)  # fmt: skip
def test_a_port_that_another_service_has_is_refused(port, taken, free):
    published = {"api": Publication("api", (taken,))}
    if free:
        routes.check_free(service(port), published)
    else:
        with pytest.raises(Failure, match="is published by api"):
            routes.check_free(service(port), published)
    routes.check_free(Service("api", (port,)), published)
