"""The recipes for threads; generated, except `runtime`."""
