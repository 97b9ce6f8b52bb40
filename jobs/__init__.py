"""Entry points: what ``ray job submit`` and ``raylake run`` start."""

import sys

from raylake.client.environment import prepare_ray
from raylake.client.packages import check_packages
from raylake.errors import ConfigError

try:
    check_packages()
except ConfigError as error:
    if sys.argv[0] != "-m":  # so it is while `python -m jobs.ingest` looks for the module
        raise
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)

prepare_ray()
