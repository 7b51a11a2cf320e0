"""What others have for the same, run by a Python of their own; nothing here imports Mizzen.

Each script is told CHAINS and DEPTH, builds that many chains of that many steps, prints "ready",
and then for each line "CHAIN VALUE" on stdin gives that chain's input that value, brings its end
up to date, and prints the seconds that took and the end's value.
"""
