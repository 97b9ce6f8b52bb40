"""The process of the local S3-compatible store: ``python -m raylake.storage.dev_server``.

moto's server with one user, whose key must sign each request, and with writes one after the
other: between moto's look whether an object is there and its putting one, nobody comes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import botocore.auth
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

ACCOUNT = "123456789012"
USER = "raylake"
_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class OneWriteAtATime:
    """Lets requests that change something through one by one, bodies read before."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with self._lock:
            return list(self._app(environ, start_response))


def prepare(bucket: str, key_id: str, key: str) -> None:
    """A bucket, and a user with this key who may do everything."""
    iam = iam_backends[ACCOUNT]["aws"]
    iam.create_user(region_name="us-east-1", user_name=USER)
    iam.put_user_policy(USER, "all", json.dumps(_ALL))
    made = iam.create_access_key(USER)
    # Known by its name, so that it can be deleted as others can: keys are rotated.
    iam.access_keys[key_id] = iam.access_keys.pop(made.physical_resource_id)
    made.access_key_id, made.secret_access_key = key_id, key
    s3_backends[ACCOUNT]["aws"].create_bucket(bucket, "us-east-1")


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m raylake.storage.dev_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bucket", required=True)
    options = parser.parse_args()
    # moto reckons a signature with botocore, which leaves out headers that others sign: Java's do.
    botocore.auth.SIGNED_HEADERS_BLACKLIST.clear()
    prepare(options.bucket, os.environ["RAYLAKE_DEV_KEY_ID"], os.environ["RAYLAKE_DEV_KEY"])
    app = OneWriteAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", options.port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
