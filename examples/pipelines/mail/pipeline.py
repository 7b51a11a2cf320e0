"""A mail chain of three machines, of which all go live as one.

Mail comes to the entry, which hands it to the signer, which hands it to the forwarder; each is
given the next one's address. The forwarder prints what it gets: mizzen machines logs.
"""

from pathlib import Path

from mizzen import pipeline
from mizzen.steps import docker, local, machines, network, publish, tcp

PREFIX = "10.70.1.0/24"
RELAY = Path(__file__).parent / "relay"


def link(name, image, env):
    """Start one machine of the chain; return it and its address."""
    spec = machines.spec(name, image, memory="256M", env=env, args=lambda ip: [f"--listen={ip}:25"])
    ip = network.address(spec, prefix=PREFIX)
    return machines.deploy(spec, ip), ip


@pipeline
def mail():
    """Take mail at port 2525 of this host."""
    image = docker.build(local.path(RELAY))
    forwarder, forwarder_ip = link("mail-forwarder", image, {"HEADER": "Forwarded"})
    signer, signer_ip = link(
        "mail-signer", image, {"HEADER": "Signed", "SECRET": "change me", "NEXT": forwarder_ip}
    )
    entry, _ = link("mail-entry", image, {"HEADER": "Received", "NEXT": signer_ip})
    network.allow("mail-entry", "mail-signer", 25)
    network.allow("mail-signer", "mail-forwarder", 25)
    chain = publish.stage(
        "mail",
        [
            publish.service("mail-forwarder", forwarder, {"127.0.0.1:2527": 25}, ready=tcp()),
            publish.service("mail-signer", signer, {"127.0.0.1:2526": 25}, ready=tcp()),
            publish.service("mail-entry", entry, {2525: 25}, ready=tcp()),
        ],
    )
    for vm in (forwarder, signer, entry):
        machines.monitor(vm)
    publish.collect([chain])
