"""The client for asyncio, and the source of the synchronous one.

`tools/unasync.py` writes `corum.client._sync` from every module here except `runtime`, which holds
what the two colours do not share: sockets, locks, sleeping. Change this package, never the copy.
"""
