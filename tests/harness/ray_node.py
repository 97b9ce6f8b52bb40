"""A further node of a local Ray cluster: ``python -m tests.harness.ray_node ADDRESS CPUS [OFFER]``.

As ``ray.cluster_utils`` adds one. ``ray start --address`` takes 127.0.0.1 for the machine's other
address, where nobody listens.
"""

from __future__ import annotations

import signal
import sys

OBJECT_STORE_BYTES = 150_000_000
UP = "the node is up"


def main() -> None:
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    address, cpus, *offers = sys.argv[1:]
    wanted = RayParams(
        gcs_address=address,
        node_ip_address="127.0.0.1",
        num_cpus=int(cpus),
        resources=dict.fromkeys(offers, 1.0),
        object_store_memory=OBJECT_STORE_BYTES,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        dashboard_agent_listen_port=None,
        include_log_monitor=False,
    )
    Node(wanted, head=False, shutdown_at_exit=True, spawn_reaper=False)
    print(UP, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
