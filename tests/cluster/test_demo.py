"""`make demo-kubernetes CHECK=1`: the whole trip on a real cluster, and what a machine lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster import images, real_node
from tests.fixtures.control_plane import skip_without_programs

# A minute on an idle machine; two busy cores take several times that.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """pytest's own folders have names that are too long for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def demo(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster.demo", *words],
        cwd=images.ROOT,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=590,
    )


def test_the_trip_gives_out_slices_and_blocks_refuses_the_rest_and_leaves_nothing(short_folder):
    skip_without_programs()
    try:
        real_node.check_machine()
    except real_node.CannotRun as reason:
        pytest.skip(str(reason))

    done = demo(short_folder, "--check")

    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory 0.1 of 9.6 GiB (this slice)" in done.stdout
    assert "memory 0.0 of 23.9 GiB (this share)" in done.stdout
    assert "nvidia.com/gpucores: 30" in done.stdout
    assert "no HAMi node here" in done.stdout
    assert "No free 1g.10gb: 0 of 7 slices that would do are free. Take " in done.stdout
    assert "0 leases, 0 pods, 0 claims, 0 templates" in done.stdout
    assert not list(short_folder.iterdir())
    left = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert not [words for words in left if str(short_folder) in words]


def test_a_folder_with_a_long_name_is_told_before_anything_fails_for_it(control_plane, tmp_path):
    folder = tmp_path / "in-which-sockets-have-too-long-names"
    folder.mkdir()

    with pytest.raises(real_node.CannotRun, match="set TMPDIR to a folder with a short name"):
        real_node.RealNode(control_plane, folder).start()

    assert not list(folder.iterdir())


def test_a_machine_without_the_programs_is_told_in_one_sentence_what_to_install(short_folder):
    done = demo(short_folder, PATH="/nonexistent")

    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    if os.geteuid() == 0:
        assert sentence.startswith("demo-kubernetes: A real node needs containerd ")
        assert sentence.endswith("`.")
    assert not list(short_folder.iterdir())
