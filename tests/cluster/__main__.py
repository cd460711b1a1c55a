"""`make cluster`: one control plane in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster import binaries, control_plane


def main() -> int:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    folder = Path(tempfile.mkdtemp(prefix="aliquot-cluster-"))
    try:
        binaries.find_binaries()
        began = time.monotonic()
        cluster = control_plane.start(folder)
    except BaseException as failure:
        shutil.rmtree(folder)
        if isinstance(failure, KeyboardInterrupt):
            return 130
        if isinstance(failure, binaries.CannotBuild | control_plane.StartFailed):
            print(f"cluster: {failure}", file=sys.stderr)
            return 1
        raise
    try:
        version = cluster.api.get("/version")["gitVersion"]
        print(f"cluster: Kubernetes {version} at {cluster.url}, ready in "
              f"{time.monotonic() - began:.1f} s. Logs: {folder}/*.log")
        print(f"export KUBECONFIG={cluster.kubeconfig}")
        print("cluster: no node yet. Ctrl-C ends it and removes its folder.", flush=True)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print("cluster: ending", flush=True)
        return 0
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
