"""Entry points: what ``ray job submit`` and ``raylake run`` start."""

from raylake.client.environment import prepare_ray

prepare_ray()
