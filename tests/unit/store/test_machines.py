from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from mizzen.model.image import ProcessConfig
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState, Port
from mizzen.model.network import Transport
from mizzen.store import database, machines

LINK = MachineNetwork(
    ("10.70.0.0/24",), "shop", outward=False, addresses=("10.70.0.2",), gateways=("10.70.0.1",)
)
SPEC = MachineSpec(
    "web",
    "x",
    Path("/k"),
    Path("/i"),
    None,
    ProcessConfig(("/x",)),
    publish=(Port(0, 53, Transport.UDP),),
    network=LINK,
)
MACHINE = Machine(SPEC, MachineState.RUNNING, 7, 8, 9.0, ports=(Port(5353, 53, Transport.UDP),))


@pytest.fixture
def connection(tmp_path):
    with closing(database.connect(tmp_path / "db")) as made:
        yield made


def test_machine_is_read_as_it_was_written(connection):
    machines.save(connection, MACHINE)
    assert machines.find(connection, "web") == MACHINE


def test_record_from_before_links_and_udp_is_read(connection):
    machines.save(connection, MACHINE)
    (text,) = connection.execute("SELECT record FROM machine").fetchone()
    record = json.loads(text)
    del record["spec"]["network"]
    record["spec"]["publish"] = [[8080, 80]]
    record["ports"] = [[8080, 80], [8443, 443]]
    connection.execute("UPDATE machine SET record = ?", (json.dumps(record),))
    old = machines.find(connection, "web")
    assert old is not None
    assert old.spec.network is None
    assert old.spec.publish == (Port(8080, 80),)
    assert old.ports == (Port(8080, 80), Port(8443, 443))
