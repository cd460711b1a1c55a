"""What a container runtime does of CDI: puts a claim's devices into a container.

    python -I claim_edits.py CLAIMS [runc's own words, with --bundle FOLDER]

Run by the node's `runc` (node_files.py) before a container is created, since Debian's
containerd 1.6 knows no CDI. ``CLAIMS/pods/NAMESPACE_NAME.json`` is what the DRA plugin of the
tests has prepared for a pod: ``env`` and ``mounts`` for every container of it. Of a pod that
has no such file nothing is touched. Nothing is imported but Python's own: it runs for every
container.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_CRI = "io.kubernetes.cri"


def edit(spec: dict[str, Any], claims: Path) -> bool:
    """Change an OCI specification; False when there is nothing to add."""
    notes = spec.get("annotations", {})
    if notes.get(f"{_CRI}.container-type") != "container":
        return False
    pod = f"{notes[f'{_CRI}.sandbox-namespace']}_{notes[f'{_CRI}.sandbox-name']}"
    prepared = claims / "pods" / f"{pod}.json"
    if not prepared.exists():
        return False
    edits = json.loads(prepared.read_text())
    added = edits["env"]
    kept = [line for line in spec["process"]["env"] if line.partition("=")[0] not in added]
    spec["process"]["env"] = kept + [f"{name}={value}" for name, value in added.items()]
    spec["mounts"] += [
        {"destination": inside, "source": outside, "type": "bind", "options": ["rbind", "ro"]}
        for inside, outside in edits["mounts"].items()
    ]
    return True


if __name__ == "__main__":
    words = sys.argv[2:]
    place = Path(words[words.index("--bundle") + 1]) / "config.json"
    written = json.loads(place.read_text())
    if edit(written, Path(sys.argv[1])):
        place.write_text(json.dumps(written))
