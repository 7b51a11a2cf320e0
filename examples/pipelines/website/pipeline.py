"""A website: every commit on main is built, started beside the one that serves, and takes over.

Make its repository first: ./prepare
"""

from pathlib import Path

from mizzen import pipeline
from mizzen.steps import docker, git, http, machines, network, publish

REPOSITORY = Path(__file__).parent / "website.git"


@pipeline
def website():
    """Keep the newest commit served at port 8080 of this host."""
    source = git.head(str(REPOSITORY), branch="main")
    image = docker.build(source, build_args={"VERSION": source.short})
    spec = machines.spec(
        "website",
        image,
        memory="256M",
        network="mizzen0",
        args=lambda ip: [f"--listen={ip}:80"],
    )
    ip = network.address(spec, prefix="10.70.0.0/24", exclude=["10.70.0.1"])
    vm = machines.deploy(spec, ip)
    live = publish.port("website", vm, {8080: 80}, ready=http("/healthz"))
    machines.monitor(vm)
    publish.collect([live])
