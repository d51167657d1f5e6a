"""What members see of each other: etcd's rafthttp, so that one of ours may sit among etcd's.

Read in this order: `codec` (bytes of messages and frames, pure), `rules` (headers and refusals,
pure), `stream` (the two long-lived streams of a pair), `links` (one other member: streams, posts,
probing), `transport` (all of them: who gets what, and what arrives).
"""
