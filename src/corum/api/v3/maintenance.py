"""The Maintenance service (rpc §8): alarms, status, hashes, defragmentation, snapshots."""

from __future__ import annotations

from typing import Any

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.pb import rpc
from corum.server.maintenance import check_views
from corum.server.operations import ALARM
from corum.server.space import CORRUPT, NOSPACE

_ALARM_NAMES = {NOSPACE: "NOSPACE", CORRUPT: "CORRUPT"}


class MaintenanceService(Service):
    """Alarm, Status, Defragment, Hash, HashKV, Snapshot, MoveLeader, Downgrade."""

    PATH = "/etcdserverpb.Maintenance/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {
            "Alarm": self.alarm,
            "Status": self.status,
            "Defragment": self.defragment,
            "Hash": self.hash,
            "HashKV": self.hash_kv,
            "Snapshot": self.snapshot,
            "MoveLeader": self.move_leader,
            "Downgrade": self.downgrade,
        }

    def alarm(self, call: int, message: bytes, meta: Any) -> None:
        """List, raise or clear alarms, through the log."""
        request = decoded(rpc.AlarmRequest, message)
        node = self.node
        node.check_open(meta)
        if request.action == rpc.AlarmRequest.GET:
            user = node.gate.any_user(meta)
        else:
            user = node.gate.admin(meta)
        node.propose(ALARM, message, request, call, prefix=user)

    def status(self, call: int, message: bytes, meta: Any) -> None:
        """What this member knows of itself; answered without leader and by learners too."""
        node = self.node
        node.gate.any_user(meta)
        me = node.members.me
        response = rpc.StatusResponse(
            version=node.config.server_version,
            dbSize=node.backend.size,
            leader=node.leader,
            raftIndex=node.committed,
            raftTerm=node.term,
            raftAppliedIndex=node.applied_index,
            dbSizeInUse=node.backend.size_in_use,
            isLearner=me is not None and me.is_learner,
            errors=self._errors(),
        )
        if node.config.reports_storage:
            response.storageVersion = node.config.cluster_version
            response.dbSizeQuota = node.space.quota_bytes
            target = node.members.downgrade_target
            response.downgradeInfo.SetInParent()
            if target:
                response.downgradeInfo.enabled = True
                response.downgradeInfo.targetVersion = target
        self._reply(call, response)

    def _errors(self) -> list[str]:
        node = self.node
        found = [] if node.leader else [errors.NO_LEADER.text]
        for member, alarm in node.alarms.get(0, 0):
            prefix = f"memberID:{member} " if member else ""
            found.append(f"{prefix}alarm:{_ALARM_NAMES.get(alarm, alarm)} ")
        return found

    def hash(self, call: int, message: bytes, meta: Any) -> None:
        """CRC-32C over the whole backend, by a worker."""
        node = self.node
        node.check_open(meta)
        node.gate.admin(meta)
        check_views(node)
        job = node.store.hash()
        revision = node.store.revision

        def done(result: Any) -> None:
            if isinstance(result, BaseException):
                node.out.error(call, result)
            else:
                body = rpc.HashResponse(hash=result).SerializeToString()
                node.out.replies.append((call, node.headers.at(revision) + body))

        node.ports.jobs.start(job.run, done)

    def hash_kv(self, call: int, message: bytes, meta: Any) -> None:
        """CRC-32C over the keys up to a revision, by a worker."""
        request = decoded(rpc.HashKVRequest, message)
        node = self.node
        node.check_open(meta)
        node.gate.admin(meta)
        check_views(node)
        job = node.store.hash_kv(request.revision)
        revision = node.store.revision

        def done(result: Any) -> None:
            if isinstance(result, BaseException):
                node.out.error(call, result)
                return
            response = rpc.HashKVResponse(
                hash=result.hash, compact_revision=result.compact_revision
            )
            if node.config.reports_storage:
                response.hash_revision = result.hash_revision
            body = response.SerializeToString()
            node.out.replies.append((call, node.headers.at(revision) + body))

        node.ports.jobs.start(job.run, done)

    def defragment(self, call: int, message: bytes, meta: Any) -> None:
        """Rewrite this member's backend without holes."""
        node = self.node
        node.check_open(meta)
        node.gate.admin(meta)
        node.defragmentation.start(lambda error: self._defragmented(call, error))

    def _defragmented(self, call: int, error: BaseException | None) -> None:
        if error is None:
            self.node.out.replies.append((call, b""))
        else:
            self.node.out.error(call, error)

    def snapshot(self, call: int, message: bytes, meta: Any) -> None:
        """The whole backend as a bbolt file in pieces, its SHA-256 last."""
        node = self.node
        node.check_open(meta)
        node.gate.admin(meta)
        node.downloads.send_to_client(call)

    def move_leader(self, call: int, message: bytes, meta: Any) -> None:
        """Hand leadership to another voter; only the leader can."""
        request = decoded(rpc.MoveLeaderRequest, message)
        node = self.node
        node.check_open(meta)
        node.gate.admin(meta)
        if not node.is_leader:
            raise errors.NOT_LEADER()
        target = node.members.by_id.get(request.targetID)
        if target is None or target.is_learner:
            raise errors.BAD_LEADER_TRANSFEREE()
        node.transfer_leadership(request.targetID, lambda error: self._moved(call, error))

    def _moved(self, call: int, error: BaseException | None) -> None:
        if error is None:
            self.node.out.replies.append((call, b""))
        else:
            self.node.out.error(call, error)

    def downgrade(self, call: int, message: bytes, meta: Any) -> None:
        """Validate, begin or end a downgrade of the whole cluster by one minor version."""
        request = decoded(rpc.DowngradeRequest, message)
        node = self.node
        node.check_open(meta)
        node.gate.admin(meta)

        def done(result: Any) -> None:
            if isinstance(result, BaseException):
                node.out.error(call, result)
            else:
                self._reply(call, rpc.DowngradeResponse(version=result))

        node.reads.add(lambda *_: node.versions.downgrade(request, done), call, request)

    def _reply(self, call: int, response: Any) -> None:
        header = self.node.headers.at(self.node.store.revision)
        self.node.out.replies.append((call, header + response.SerializeToString()))
