"""A member in a process: threads, sockets and files around a `server.Node`.

`runtime` owns the loop thread and the transport; `daemon` is the process around it (signals,
service manager, exit codes); `embed` starts one inside somebody else's program.
"""
