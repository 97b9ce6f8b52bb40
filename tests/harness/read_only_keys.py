"""Keys of a user of the tests' store who may read everything and write nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from raylake.config.stores import StoreAccess
from raylake.storage.access import use_stores
from raylake.storage.dev import StoreInfo
from tests.harness.store import access_to

VARIABLE = "RAYLAKE_TEST_READER_KEY"
_READS = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
Access = dict[str, Any]


@pytest.fixture
def reader_keys(
    store: StoreInfo, store_lake: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Access]]:
    """From its call on this process may only read; gives the entry for a pipeline file."""
    users: Any = boto3.client(
        "iam",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=store.access_key_id,
        aws_secret_access_key=store.secret_access_key,
        config=Config(parameter_validation=False),
    )
    user = f"reader-{uuid.uuid4().hex[:8]}"
    users.create_user(UserName=user)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [_READS]})
    users.put_user_policy(UserName=user, PolicyName="reads", PolicyDocument=policy)
    key = users.create_access_key(UserName=user)["AccessKey"]
    monkeypatch.setenv(VARIABLE, key["SecretAccessKey"])

    def only_reads() -> Access:
        entry = access_to(
            store, access_key_id=key["AccessKeyId"], secret_access_key=f"env:{VARIABLE}"
        )
        told = StoreAccess.model_validate({**entry, "allow_http": True})
        use_stores({f"s3://{store.bucket}": told})
        return entry

    yield only_reads
    users.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    users.delete_user_policy(UserName=user, PolicyName="reads")
    users.delete_user(UserName=user)
