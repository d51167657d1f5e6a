"""The Python client of etcd.

In: keys, values and conditions as Python values. Out: typed results, iterators of events,
exceptions of `errors`. `Client` is synchronous and may be shared by threads; `AsyncClient` is for
asyncio; both are one source (`_async`, from which `tools/unasync.py` writes `_sync`).

Reading order: `methods` (what can be called), `balancer` and `retry` (the decisions), `options`,
`_async.session` (calls), then `_async.client` and the pure `watch_state` and `lease_clock`.
"""
