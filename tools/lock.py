"""Resolve requirements/*.in into *.lock: pinned versions with hashes, no index host.

Run by `make lock`, when a version should move. Uses uv in a throwaway environment, because
it resolves for every platform at once; installing needs only pip. A lock file that names a
host would tie every checkout to that host, so one that does is refused.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        subprocess.run([f"{scratch}/bin/pip", "install", "-q", "uv"], check=True)
        for source in sorted(REQUIREMENTS.glob("*.in")):
            target = source.with_suffix(".lock")
            subprocess.run(
                [
                    f"{scratch}/bin/uv", "pip", "compile", "-q", *sys.argv[1:],
                    "--universal", "--python-version", "3.11", "--generate-hashes",
                    "--no-emit-index-url", "--no-emit-find-links",
                    "--custom-compile-command", "make lock",
                    source.name, "-o", target.name,
                ],
                cwd=REQUIREMENTS,
                check=True,
            )
            if re.search(r"https?://", target.read_text()):
                sys.exit(f"{target.name} names a host; look for a URL in {source.name}.")
            print(f"lock: {target.name}")


if __name__ == "__main__":
    main()
