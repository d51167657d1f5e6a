"""Keys and revisions: the replicated key-value store, and watching it.

In: puts, deletes, transactions and compactions, in the order of the log. Out: ranges at any kept
revision, changes for watchers, hashes. Invariant: two members that applied the same entries hold
the same bytes in the `key` bucket, as Go etcd would.

Read `revision` (bytes), `index` (where a key's revisions are found), `reads` and `write`, `store`
(what the server uses), then `txn`, `compaction`, `hashing`, `rebuild`. Watching is in `watch*`.
"""
