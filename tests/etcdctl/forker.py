"""Runs many etcdctl commands in children of one process, which has imported everything already.

A line of JSON in: words, environment, files for input, output and complaints. A line out: the exit
status. It saves the start of an interpreter per command; nothing else differs, as each child has
its own memory, environment and descriptors.
"""

import io
import json
import os
import sys


def child(order: dict[str, object]) -> int:
    words, environment = order["words"], order["environment"]
    assert isinstance(words, list)
    assert isinstance(environment, dict)
    modes = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
    for number, (name, mode) in enumerate(zip(("stdin", "stdout", "stderr"), modes, strict=True)):
        file = os.open(str(order[name]), mode)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["etcdctl", *words]
    stdin, stdout, stderr = (os.fdopen(n, mode) for n, mode in enumerate(("rb", "wb", "wb")))
    sys.stdin = io.TextIOWrapper(stdin, errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(stdout, errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(stderr, errors="backslashreplace", line_buffering=True)
    from corum.cli.etcdctl import command_line

    status = command_line()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def serve() -> None:
    import corum._transport
    import corum.cli.etcdctl.commands
    import corum.cli.etcdctl.kv
    import corum.cli.etcdctl_v2.commands
    import corum.client._sync.session  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(child(order))
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(70)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
