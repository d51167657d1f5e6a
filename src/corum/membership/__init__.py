"""Membership: who belongs to the cluster, and how a cluster comes to be.

`members.py` is the replicated list that configuration changes and attribute updates act on;
`bootstrap.py` turns flags and what lies on the disk into ids and a first list.
Both are pure: what has to be stored is returned as data.
"""
