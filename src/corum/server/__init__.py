"""The node: wires the cores, and drives them from batches of calls to batches of answers.

Reading order: `node` (one member), `proposals` and `reads` (what waits), `drive` (Raft's
obligations),
`apply` (committed entries become state), `ranges` (serving reads), `commits` (state to disk),
`snapshotting`, `leases`, `space`. Ports to the world are injected, so the simulator runs the same
code.
"""
