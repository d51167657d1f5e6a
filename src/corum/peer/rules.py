"""Who may talk to whom: headers of peer requests, reasons to refuse them (peer-wire §4). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from corum.values import value
from corum.versions import CORUM_VERSION

MIN_VERSION: Final = "3.0.0"
"""The oldest cluster that we understand."""
OLDEST: Final = "2.0.0"
"""What somebody is taken for who names no version."""

INCOMPATIBLE: Final = "incompatible version"
OTHER_CLUSTER: Final = "cluster ID mismatch"
OTHER_MEMBER: Final = "to field mismatch"
REMOVED: Final = "removed member"

REFUSED: Final = {
    INCOMPATIBLE: "request sent was ignored by remote peer due to server version incompatibility",
    OTHER_CLUSTER: "request sent was ignored by remote peer due to cluster ID mismatch",
}
"""What an operator is told when another member refuses us for this."""

Headers = list[tuple[str, str]]
Refusal = tuple[int, str]


@value
class Identity:
    """Who we are to other members."""

    local: int
    cluster: int
    server_version: str

    @property
    def versions(self) -> Headers:
        """What we run. Ours says so: it takes v2 requests whatever its version."""
        return [("X-Server-Version", self.server_version), ("X-Corum-Version", CORUM_VERSION)]

    def headers(self, peer_urls: Sequence[str], to: int | None = None) -> Headers:
        """Of every raft request; `to` of streams."""
        found = [
            ("X-Server-From", f"{self.local:x}"),
            *self.versions,
            ("X-Min-Cluster-Version", MIN_VERSION),
            ("X-Etcd-Cluster-ID", f"{self.cluster:x}"),
            ("X-PeerURLs", ",".join(peer_urls)),
        ]
        if to is not None:
            found.append(("X-Raft-To", f"{to:x}"))
        return found

    def refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Why a raft request with these (lower-case) headers is not served."""
        theirs = minor(headers.get("x-server-version", OLDEST))
        needed = minor(headers.get("x-min-cluster-version", OLDEST))
        if theirs < minor(MIN_VERSION) or needed > minor(self.server_version):
            return 412, INCOMPATIBLE
        if headers.get("x-etcd-cluster-id") != f"{self.cluster:x}":
            return 412, OTHER_CLUSTER
        return None


def minor(version: str) -> tuple[int, int]:
    """(major, minor) of `3.5.1`-like text; (0, 0) for what is none."""
    parts = version.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0


def member_id(text: str) -> int:
    """An id in a header or path; 0 for what is none."""
    try:
        return int(text, 16)
    except ValueError:
        return 0


def urls(text: str) -> list[str]:
    """The URLs of an X-PeerURLs header."""
    return [url for url in text.split(",") if url.startswith(("http://", "https://", "unix"))]
