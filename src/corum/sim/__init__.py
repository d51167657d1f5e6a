"""A whole member in one thread, with time, disk, network and chance under control (DESIGN D3).

`world` is time and dice; `disk` what a crash leaves; `log`, `jobs`, `calls` the ports of a node;
`member` the machine that boots, runs and crashes one; `workload` its clients; `model` and
`checkers` what they may see. A run is a seed: `python -m corum.sim --seed 7`.
"""
