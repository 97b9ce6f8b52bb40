"""``ray start`` without processes that nobody asks: ``python -m tests.harness.ray_head start …``.

``ray start --block`` ends the node with the first process that ends. A server for ``ray://``, and a
dashboard's server where there is no dashboard, are two more that could end it.
"""

from __future__ import annotations

import sys
from typing import Any


def _nothing(_node: Any, **_options: Any) -> None:
    """It is not started."""


def main() -> None:
    from ray._private.node import Node
    from ray.scripts.scripts import main as ray

    Node.start_ray_client_server = _nothing
    if "--include-dashboard=false" in sys.argv:
        Node.start_api_server = _nothing
    ray()


if __name__ == "__main__":
    main()
