"""The synchronous client: generated from `corum.client._async`, except `runtime`."""
