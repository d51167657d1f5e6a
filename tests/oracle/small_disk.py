"""A disk with room for little, in a mount namespace of its own."""

import os
import subprocess
from pathlib import Path

DISK_MIB = 192  # one preallocated WAL segment of 64 MiB, the next one, and a database


class SmallDisk:
    """A tmpfs in a mount namespace of its own; servers enter it with `wrapper`.

    `works` is False where this user may have no namespace. Raises FileNotFoundError without
    util-linux.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.enter_user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        mount = (
            f"mount -t tmpfs -o size={DISK_MIB}m none {folder} && echo mounted && exec sleep 600"
        )
        self.holder = subprocess.Popen(
            ["unshare", *own_user, "--mount", "sh", "-c", mount],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.holder.stdout is not None
        self.works = self.holder.stdout.readline().strip() == "mounted"

    def wrapper(self) -> list[str]:
        """Words that start a program inside; the program keeps the process id."""
        return ["nsenter", f"--target={self.holder.pid}", *self.enter_user, "--mount", "--"]

    def grow(self, mib: int) -> None:
        mount = ["mount", "-o", f"remount,size={mib}m", str(self.folder)]
        subprocess.run([*self.wrapper(), *mount], check=True)

    def close(self) -> None:
        assert self.holder.stdout is not None
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
