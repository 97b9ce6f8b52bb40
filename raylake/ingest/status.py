"""The status document: one small JSON file per pipeline in the lake (DESIGN §9).

``status``, notebooks and pages read it when they cannot reach the supervisor; it also tells why a
dead pipeline died. It never decides where to resume (I2) and holds no secret and no payload.
"""

from __future__ import annotations

import json
import os
from typing import Any

from raylake.errors import ConfigError, Refused
from raylake.storage.place import Place, make_folder, write_whole

FORMAT = 1


def write_status(path: Place, document: dict[str, Any]) -> None:
    """Replace the document at ``path``; a reader sees the old one or the new one, whole."""
    make_folder(path.parent)
    text = json.dumps({"format": FORMAT, **document}, indent=1, default=str)
    write_whole(path, text, scratch=f".{path.name}.{os.getpid()}")


def read_status(path: Place) -> dict[str, Any]:
    """Read the document.

    Raises:
        ConfigError: There is none: the pipeline never ran with this lake.
        Refused: It is not a status document, or of a newer format.
        OSError: It cannot be read.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"no status at {path}: this pipeline has not run with this lake",
            hint="`raylake run FILE` starts it; is `lake` the right folder?",
        ) from None
    except ValueError as error:
        raise Refused(f"{path} is not a status document: {error}", hint="remove it") from error
    if not isinstance(document, dict) or "format" not in document:
        raise Refused(f"{path} is not a status document", hint="remove it")
    if int(document["format"]) > FORMAT:
        raise Refused(
            f"{path} has format {document['format']}, this release reads up to {FORMAT}",
            hint="upgrade raylake",
        )
    return document
