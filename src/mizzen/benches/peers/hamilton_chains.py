"""Chains of steps in Hamilton. MODE: "all" asks for every chain's end, "one" for the one's."""

import sys
import time
import types

from hamilton import driver


def main(chains: int, depth: int, mode: str) -> None:
    """Serve changes; see the package."""
    source = "\n".join(
        f"def s{chain}_{step}(s{chain}_{step - 1}: int) -> int:\n    return s{chain}_{step - 1} + 1"
        for chain in range(chains)
        for step in range(1, depth)
    )
    module = types.ModuleType("chains")
    sys.modules["chains"] = module
    exec(compile(source, "chains", "exec"), module.__dict__)
    graph = driver.Builder().with_modules(module).build()
    values = {f"s{chain}_0": 0 for chain in range(chains)}
    ends = [f"s{chain}_{depth - 1}" for chain in range(chains)]
    print("ready", flush=True)
    for line in sys.stdin:
        chain, value = map(int, line.split())
        values[f"s{chain}_0"] = value
        began = time.perf_counter()
        if mode == "all":
            found = graph.execute(ends, inputs=values)
        else:
            found = graph.execute([ends[chain]], inputs={f"s{chain}_0": value})
        took = time.perf_counter() - began
        print(took, found[ends[chain]], flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
