"""Record Go etcd's side of the scenario: `python -m tests.v2store.record` in the repository's root.

Writes golden/answers.json (every step with its answer) and golden/store.json (the store as Go saved
it in a `.snap` a little later). Our own code has no part in what is written.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from oracle import servers

from .scenario import SCENARIO, SLEEP
from .steps import step, theirs

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    program = servers.go35()
    assert program is not None
    flags = ("--enable-v2", "--snapshot-count=250")
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.running(program, Path(folder), *flags) as server,
    ):
        answers = []
        for each in SCENARIO:
            if each is SLEEP:
                time.sleep(1.2)
                continue
            timeout_s = 0.5 if each.form.get("wait") else 10
            answers.append(vars(theirs(server.client_port, each, timeout_s)))
        filler = 0
        while not (found := sorted(server.data_dir.glob("member/snap/*.snap"))):
            theirs(server.client_port, step("PUT", "/filler", value=filler))
            filler += 1
        time.sleep(0.5)
        data = found[-1].read_bytes()
    text = data[data.index(b'{"Root"') :].decode("utf-8", "replace")
    _, end = json.JSONDecoder().raw_decode(text)
    (GOLDEN / "store.json").write_text(text[:end])
    (GOLDEN / "answers.json").write_text(json.dumps(answers, indent=0))


if __name__ == "__main__":
    main()
