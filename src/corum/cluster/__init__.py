"""Local clusters: several members as processes of this machine, in one command or one `with`.

Reading order: `cluster` (what a user calls), `process` (one member), `network` (the relays between
them, which can be cut), `owners` (whose connection is this?), then for the command `commands`
(words to actions) and `control` (the same words from another terminal).

Members are etcd daemons, ours or Go's, that know nothing of this room; no server room is imported.
"""
