"""Chains of steps in Dagster, executed in its own process, told which steps are to be run."""

import logging
import sys
import time

from dagster import DependencyDefinition, GraphDefinition, NodeInvocation, OpDefinition, op


def main(chains: int, depth: int) -> None:
    """Serve changes; see the package."""
    logging.disable(logging.CRITICAL)
    values = [0] * chains

    def source(chain: int) -> OpDefinition:
        @op(name=f"s{chain}_0")
        def read() -> int:
            return values[chain]

        return read

    @op
    def increase(value: int) -> int:
        return value + 1

    job = GraphDefinition(
        name="chains",
        node_defs=[*map(source, range(chains)), increase],
        dependencies={
            NodeInvocation("increase", alias=f"s{chain}_{step}"): {
                "value": DependencyDefinition(f"s{chain}_{step - 1}")
            }
            for chain in range(chains)
            for step in range(1, depth)
        },
    ).to_job()
    print("ready", flush=True)
    for line in sys.stdin:
        chain, value = map(int, line.split())
        values[chain] = value
        began = time.perf_counter()
        done = job.execute_in_process(op_selection=[f"s{chain}_{step}" for step in range(depth)])
        took = time.perf_counter() - began
        print(took, done.output_for_node(f"s{chain}_{depth - 1}"), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
