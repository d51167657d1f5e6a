"""The recipes for asyncio, and the source of the synchronous ones (see `tools/unasync.py`).

`runtime` holds what the two colours do not share. Change this package, never the copy.
"""
