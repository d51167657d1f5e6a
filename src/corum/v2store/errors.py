"""What the v2 key space refuses, with etcd's codes, messages and JSON (errors.md §3).

Only the codes that a server from 2.0 on uses. An error is raised inside the room and is a value in
apply: every member reaches the same one.
"""

from __future__ import annotations

from typing import Final

from corum.v2store.gojson import quote

KEY_NOT_FOUND: Final = 100
TEST_FAILED: Final = 101
NOT_FILE: Final = 102
NOT_DIR: Final = 104
NODE_EXISTS: Final = 105
ROOT_READ_ONLY: Final = 107
DIR_NOT_EMPTY: Final = 108
UNAUTHORIZED: Final = 110
PREV_VALUE_REQUIRED: Final = 201
TTL_NOT_A_NUMBER: Final = 202
INDEX_NOT_A_NUMBER: Final = 203
INVALID_FIELD: Final = 209
INVALID_FORM: Final = 210
REFRESH_VALUE: Final = 211
REFRESH_TTL_REQUIRED: Final = 212
RAFT_INTERNAL: Final = 300
LEADER_ELECT: Final = 301
WATCHER_CLEARED: Final = 400
EVENT_INDEX_CLEARED: Final = 401

MESSAGES: Final = {
    KEY_NOT_FOUND: "Key not found",
    TEST_FAILED: "Compare failed",
    NOT_FILE: "Not a file",
    NOT_DIR: "Not a directory",
    NODE_EXISTS: "Key already exists",
    ROOT_READ_ONLY: "Root is read only",
    DIR_NOT_EMPTY: "Directory not empty",
    UNAUTHORIZED: "The request requires user authentication",
    PREV_VALUE_REQUIRED: "PrevValue is Required in POST form",
    TTL_NOT_A_NUMBER: "The given TTL in POST form is not a number",
    INDEX_NOT_A_NUMBER: "The given index in POST form is not a number",
    INVALID_FIELD: "Invalid field",
    INVALID_FORM: "Invalid POST form",
    REFRESH_VALUE: "Value provided on refresh",
    REFRESH_TTL_REQUIRED: "A TTL must be provided on refresh",
    RAFT_INTERNAL: "Raft Internal Error",
    LEADER_ELECT: "During Leader Election",
    WATCHER_CLEARED: "watcher is cleared due to etcd recovery",
    EVENT_INDEX_CLEARED: "The event in requested index is outdated and cleared",
}

_STATUS: Final = {
    KEY_NOT_FOUND: 404,
    TEST_FAILED: 412,
    NOT_FILE: 403,
    NODE_EXISTS: 412,
    DIR_NOT_EMPTY: 403,
    UNAUTHORIZED: 401,
    RAFT_INTERNAL: 500,
    LEADER_ELECT: 500,
}


class V2Error(Exception):
    """A v2 answer with an errorCode. `index` is the store's index when it was refused."""

    def __init__(self, code: int, cause: str = "", index: int = 0) -> None:
        super().__init__(code, cause, index)
        self.code = code
        self.cause = cause
        self.index = index

    def __str__(self) -> str:
        return f"{self.code}: {self.message} ({self.cause}) [{self.index}]"

    @property
    def message(self) -> str:
        return MESSAGES[self.code]

    @property
    def http_status(self) -> int:
        return _STATUS.get(self.code, 400)

    def to_json(self, prefix: str = "") -> str:
        """The body (etcd adds a newline), the cause without the internal `prefix`."""
        cause = self.cause.removeprefix(prefix)
        middle = f',"cause":{quote(cause)}' if cause else ""
        return (
            f'{{"errorCode":{self.code},"message":{quote(self.message)}{middle}'
            f',"index":{self.index}}}'
        )
