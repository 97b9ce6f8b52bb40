"""How many read by a consumer group now; kafka-python hands over the broker's errors as text."""

from __future__ import annotations

import re
from typing import Final

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

_ERROR: Final = re.compile(r"\[Error (-?\d+)\]")
_NO_MEMBERS: Final = ("", "Empty", "Dead")


def group_members(admin: KafkaAdminClient, group_id: str) -> int:
    """At least so many members a group has; 0 for one without members, and for no group.

    A group of the newer protocol (KIP-848) is not found by the question for a classic group's
    members, and kafka-python has no other one. The list of groups shows its state: 1 stands for
    any number of members.

    Raises:
        kafka.errors.KafkaError: The broker did not answer: no right, or the group's coordinator
            is loading or elsewhere.
    """
    found = admin.describe_groups([group_id])[group_id]
    error = _error(found["error"])
    if error is None and (found["members"] or found["group_state"] != "Dead"):
        return len(found["members"])
    if error not in (None, kafka_errors.GroupIdNotFoundError):
        raise error(group_id)
    states = {one["group_id"]: one.get("group_state") or "" for one in admin.list_groups()}
    return int(states.get(group_id, "") not in _NO_MEMBERS)


def _error(text: str | None) -> type[kafka_errors.KafkaError] | None:
    if not text:
        return None
    number = _ERROR.match(text)
    kind: type[kafka_errors.KafkaError] = kafka_errors.for_code(int(number[1]) if number else -1)
    return kind
