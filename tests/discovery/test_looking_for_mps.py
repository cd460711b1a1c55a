"""Whether an MPS control daemon serves the machine, and how many clients it may have."""

from __future__ import annotations

import os
import socket

import pytest

from aliquot.discovery.mps import (
    ask_default_thread_percentage,
    clients_per_gpu,
    default_pipe_directory,
    look_for_daemon,
)

PID_FILE = "nvidia-cuda-mps-control.pid"


def why_not(directory) -> str:
    """The sentence; the daemon is not reachable."""
    state = look_for_daemon(str(directory))
    assert state.why_not is not None
    return state.why_not


def test_a_running_daemon_is_reachable(mps_daemon):
    state = look_for_daemon(str(mps_daemon.pipe_directory))

    assert state.is_reachable
    assert state.why_not is None


def test_a_stopped_daemon_is_told_by_its_missing_pid_file(mps_daemon):
    mps_daemon.stop()

    assert (mps_daemon.pipe_directory / "control").is_socket()
    assert "it was stopped, its socket is left behind" in why_not(mps_daemon.pipe_directory)


def test_a_killed_daemon_is_told_by_its_process(mps_daemon):
    mps_daemon.kill()

    reason = f"its process {mps_daemon.process.pid} is gone"
    assert reason in why_not(mps_daemon.pipe_directory)


def test_a_process_that_took_over_the_pid_is_not_taken_for_the_daemon(mps_daemon):
    mps_daemon.kill()
    (mps_daemon.pipe_directory / PID_FILE).write_text(f"{os.getpid()}\n")

    assert f"its process {os.getpid()} is gone" in why_not(mps_daemon.pipe_directory)


def test_a_daemon_with_process_ids_of_another_container_is_asked_itself(mps_daemon, monkeypatch):
    (mps_daemon.pipe_directory / PID_FILE).write_text("4194300\n")
    assert "its process 4194300 is gone" in why_not(mps_daemon.pipe_directory)

    monkeypatch.setenv("PATH", mps_daemon.path)
    assert look_for_daemon(str(mps_daemon.pipe_directory)).is_reachable


def test_a_missing_directory_is_told_with_what_to_do(tmp_path):
    assert why_not(tmp_path / "mps") == (
        f"MPS control daemon not reachable at {tmp_path}/mps: no such directory. Start it on "
        "this machine ('nvidia-cuda-mps-control -d'), or set 'c.Aliquot.mps_pipe_directory' to "
        "where it listens."
    )


def test_an_empty_directory_has_no_socket(tmp_path):
    assert "no such socket" in why_not(tmp_path)


def test_a_plain_file_is_no_socket(tmp_path):
    (tmp_path / "control").write_text("")

    assert "'control' there is no socket" in why_not(tmp_path)


def test_a_pid_file_that_holds_no_number_is_told(mps_daemon):
    (mps_daemon.pipe_directory / PID_FILE).write_text("soon\n")

    assert "its files cannot be read" in why_not(mps_daemon.pipe_directory)


def test_looking_starts_nothing_and_changes_nothing(mps_daemon, monkeypatch):
    monkeypatch.setenv("PATH", mps_daemon.path)
    mps_daemon.stop()
    before = sorted(os.listdir(mps_daemon.pipe_directory))

    assert why_not(mps_daemon.pipe_directory)
    assert sorted(os.listdir(mps_daemon.pipe_directory)) == before


def test_the_daemon_tells_the_percentage_it_gives_to_everybody(mps_daemon, monkeypatch):
    assert ask_default_thread_percentage(str(mps_daemon.pipe_directory)) is None

    monkeypatch.setenv("PATH", mps_daemon.path)
    assert ask_default_thread_percentage(str(mps_daemon.pipe_directory)) == 100.0


def test_a_daemon_that_is_silent_is_not_waited_for_long(mps_daemon, monkeypatch):
    monkeypatch.setenv("PATH", mps_daemon.path)
    mps_daemon.stop()
    (mps_daemon.pipe_directory / "control").unlink()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(mps_daemon.pipe_directory / "control"))
        silent.listen()

        directory = str(mps_daemon.pipe_directory)
        assert ask_default_thread_percentage(directory, timeout_seconds=0.5) is None


def test_the_default_place_is_where_cuda_would_look(monkeypatch):
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    assert default_pipe_directory() == "/tmp/nvidia-mps"

    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/run/nvidia-mps")
    assert default_pipe_directory() == "/run/nvidia-mps"


@pytest.mark.parametrize(
    "cuda_version, capability, clients",
    [
        (13010, (9, 0), 60),
        (13020, (7, 0), 60),
        (13000, (9, 0), 48),
        (12080, (7, 0), 48),
        (13010, (6, 1), 16),
    ],
)
def test_the_driver_limits_the_clients_of_a_gpu(cuda_version, capability, clients):
    assert clients_per_gpu(cuda_version, capability) == clients
