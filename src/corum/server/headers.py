"""ResponseHeader bytes, made once per term and spliced in front of every answer (rpc §3)."""

from __future__ import annotations

from corum.pb.varints import varint


class Headers:
    """Field 1 of every response: cluster, member, revision, term."""

    def __init__(self, cluster: int, member: int) -> None:
        self._ids = b"\x08" + varint(cluster) + b"\x10" + varint(member)
        self._tail = b""
        self._heads: list[bytes] = []
        self.term: int = -1
        self.bare = b""
        """The header without a revision, as the Cluster service sends it."""
        self.set_term(0)

    def set_term(self, term: int) -> None:
        """A new term; cheap when it is the old one."""
        if term == self.term:
            return
        self.term = term
        self._tail = b"\x20" + varint(term) if term else b""
        fixed = len(self._ids) + len(self._tail) + 1
        self._heads = [b"\x0a" + varint(fixed + size) + self._ids + b"\x18" for size in range(11)]
        body = self._ids + self._tail
        self.bare = b"\x0a" + varint(len(body)) + body

    def at(self, revision: int) -> bytes:
        """The whole field, tag and length included."""
        number = varint(revision)
        return self._heads[len(number)] + number + self._tail


def revision_only(revision: int) -> bytes:
    """The header of an operation inside a transaction: only the revision is set."""
    number = varint(revision)
    return b"\x0a" + varint(len(number) + 1) + b"\x18" + number
