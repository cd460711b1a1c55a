"""A server with a simulated lease: the doors, the push, activity and the kernel's side."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import requests
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tests.lab.lab_server import Kernel, LabServer, block_piece, lease_text, wait_for

LEASE = lease_text(
    block_piece("GPU-sim-0", 30, 24467, "NVIDIA H100 80GB HBM3"),
    kind="blocks",
    by="simulated",
    memory="none",
    compute="none",
    simulated=True,
    notes=["note.simulated"],
)


@pytest.fixture(scope="module")
def server(start_module_server) -> LabServer:
    return start_module_server(LEASE)


@pytest.fixture(scope="module")
def kernel(server) -> Iterator[Kernel]:
    """A kernel at rest, for the tests that leave it so."""
    kernel = server.start_kernel()
    yield kernel
    kernel.end()


def open_stream(server: LabServer, **parameters: Any) -> Any:
    return websocket_connect(HTTPRequest(server.stream_url(**parameters), headers=server.headers))


def test_figures_are_live_and_called_simulated(server):
    usage = server.usage_when(lambda usage: usage["sequence"] >= 2)

    assert (usage["version"], usage["state"], usage["simulated"]) == (1, "live", True)
    assert usage["age_seconds"] < 3
    assert usage["sampled_at"].endswith("Z")
    told = json.loads(LEASE)
    assert {**usage["lease"], "notes": told["notes"]} == told
    assert usage["lease"]["notes"] == [
        "The GPUs of this machine are simulated: nothing is computed on them, "
        "and nothing is enforced."
    ]
    (device,) = usage["devices"]
    assert (device["name"], device["piece"], device["scope"]) == (
        "H100 80GB", "30 blocks", "share",
    )  # fmt: skip
    assert device["memory_limit_mib"] == 24467
    assert device["busy_source"] == "simulated"
    assert device["power_watts"] is None
    assert device["card_reason"] == "Simulated GPUs have no card to measure."


def test_figures_follow_what_the_kernel_really_does(server, kernel_of):
    before = server.usage_when(lambda usage: usage["sequence"] >= 2)["devices"][0]
    kernel = kernel_of(server)
    kernel.run_on("held = bytearray(300 * 2**20)\nwhile True: pass")

    during = server.usage_when(
        lambda usage: (
            (usage["devices"][0]["busy_percent"] or 0) >= 10
            and usage["devices"][0]["memory_used_mib"] >= before["memory_used_mib"] + 300
        )
    )["devices"][0]

    assert during["busy_percent"] <= 100
    assert any(process["memory_mib"] >= 300 for process in during["processes"])


def test_history_holds_the_rows_after_the_one_that_the_reader_has(server):
    first = server.usage_when(lambda usage: usage["sequence"] >= 3)
    rows = first["history"]
    assert [row["sequence"] for row in rows] == list(range(1, first["sequence"] + 1))

    later = server.usage_when(lambda usage: usage["sequence"] > first["sequence"])
    resumed = server.usage(since=first["sequence"])

    assert resumed["sequence"] >= later["sequence"]
    assert [row["sequence"] for row in resumed["history"]] == list(
        range(first["sequence"] + 1, resumed["sequence"] + 1)
    )
    assert server.usage(since=10**9)["history"], "a sequence of an earlier server starts over"
    assert server.usage(since="x")["history"][0]["sequence"] == 1


def test_sentences_come_in_the_reader_s_language(server):
    assert server.usage(lang="ko-KR")["devices"][0]["piece"] == "30 블록"
    assert server.receipt(lang="ko")["reason"] == "시뮬레이션 GPU: 확인할 것이 없습니다."


def test_nobody_reads_without_the_server_s_login(server):
    for name in ("usage", "receipt"):
        answer = requests.get(f"{server.base}aliquot/api/{name}", timeout=5)
        assert answer.status_code == 403


async def test_nobody_streams_without_the_server_s_login(server):
    with pytest.raises(HTTPClientError) as refused:
        await websocket_connect(server.stream_url())

    assert refused.value.code == 403


async def test_a_page_of_another_site_does_not_get_the_stream(server):
    signed_in = requests.Session()
    signed_in.get(server.base, params={"token": server.token}, timeout=5)
    cookies = "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())

    def connect(origin: str) -> Any:
        headers = {"Cookie": cookies, "Origin": origin}
        return websocket_connect(HTTPRequest(server.stream_url(), headers=headers))

    with pytest.raises(HTTPClientError) as refused:
        await connect("https://elsewhere.example")
    assert refused.value.code == 403

    own = await connect(server.base.rstrip("/"))
    assert json.loads(await own.read_message())["version"] == 1
    own.close()


async def test_the_stream_ticks_and_sends_history_once(server):
    server.usage_when(lambda usage: usage["sequence"] >= 2)
    stream = await open_stream(server, lang="ko")
    messages = [json.loads(await stream.read_message()) for _ in range(4)]
    stream.close()

    assert messages[0]["history"]
    assert [message["history"] for message in messages[1:]] == [[], [], []]
    sequences = [message["sequence"] for message in messages[1:]]
    assert sequences == list(range(sequences[0], sequences[0] + 3))
    assert messages[0]["devices"][0]["piece"] == "30 블록"


async def test_looking_at_figures_is_no_activity(server):
    before = server.get("api/status")["last_activity"]

    stream = await open_stream(server)
    for _ in range(4):
        await stream.read_message()
        server.usage()
        server.receipt()
    await stream.write_message("hello")
    await stream.read_message()
    stream.close()

    assert server.get("api/status")["last_activity"] == before
    # The same server does notice somebody at work, or the line above would prove nothing.
    server.get("api/contents")
    assert datetime.fromisoformat(server.get("api/status")["last_activity"]) > (
        datetime.fromisoformat(before)
    )


def test_figures_tick_while_a_cell_holds_the_interpreter_lock(server, kernel_of):
    kernel = kernel_of(server)
    kernel.run("import ctypes; libc = ctypes.PyDLL(None)")
    kernel.run_on("libc.sleep(5)")
    end_at = time.monotonic() + 4
    sequences, slowest_seconds = set(), 0.0
    while time.monotonic() < end_at:
        asked_at = time.monotonic()
        sequences.add(server.usage()["sequence"])
        slowest_seconds = max(slowest_seconds, time.monotonic() - asked_at)
        time.sleep(0.2)

    assert len(sequences) >= 3
    assert slowest_seconds < 1


def test_gpu_prints_the_figures_after_the_import(kernel):

    text = kernel.run("import aliquot_lab\n%gpu")["text"]
    korean = kernel.run("%gpu ko")["text"]
    unknown = kernel.run("%gpu faster")["text"]

    first, device, figures, enforced, note = text.strip().splitlines()
    assert first.startswith("Simulated GPU: ")
    assert device == "H100 80GB · 30 blocks"
    assert "of 23.9 GiB (this share)" in figures
    assert enforced == "Memory and compute simulated, not enforced."
    assert note.startswith("The GPUs of this machine are simulated")
    assert "23.9 GiB 중" in korean
    assert unknown.strip() == ("%gpu does not know 'faster'. Write %gpu, %gpu en or %gpu ko.")


def test_gpu_comes_also_by_load_ext(kernel):
    assert "23.9 GiB" in kernel.run("%load_ext aliquot_lab\n%gpu")["text"]


def test_the_widget_leaves_figures_in_a_saved_notebook(kernel):
    pytest.importorskip("anywidget")

    shown = kernel.run("from aliquot_lab import Usage\nUsage()")["displays"][-1]

    assert "application/vnd.jupyter.widget-view+json" in shown
    assert "H100 80GB · 30 blocks" in shown["text/plain"]
    assert "of 23.9 GiB" in shown["text/html"]
    assert "Figures of 20" in shown["text/html"]


def test_the_kernel_sends_figures_only_while_the_page_asks(kernel):
    pytest.importorskip("anywidget")
    kernel.run(
        "import time\nfrom aliquot_lab import Usage\nusage = Usage()\nseen = []\n"
        "usage.observe(lambda change: seen.append(change.new['sequence']), 'sample')",
    )

    quiet = kernel.run("time.sleep(1.5); print(len(seen))")["text"]
    asked = kernel.run(
        "usage._answer(usage, {'type': 'pump', 'seconds': 2}, [])\ntime.sleep(4); print(len(seen))",
    )["text"]
    over = kernel.run("n = len(seen); time.sleep(1.5); print(len(seen) - n)")["text"]
    nonsense = kernel.run(
        "for m in (None, {}, {'type': 'pump', 'seconds': 'x'}, "
        "{'type': 'pump', 'seconds': 1e9}, {'type': 'pump', 'seconds': float('nan')}):\n"
        "    usage._answer(usage, m, [])\n"
        "n = len(seen); time.sleep(1.5); print(len(seen) - n)",
    )["text"]

    assert int(quiet) == 0
    assert 2 <= int(asked) <= 4
    assert int(over) == 0
    assert int(nonsense) == 0


def test_the_server_imports_neither_widgets_nor_the_driver_s_binding(kernel):

    loaded = kernel.run(
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', "
        '\'import aliquot_lab.extension, sys; print(sorted({"anywidget", "ipywidgets", '
        '"pynvml", "psutil"} & set(sys.modules)))\'], capture_output=True, '
        "text=True).stdout)",
    )["text"]

    assert loaded.strip() == "[]"


def test_a_simulated_receipt_verifies_nothing_and_says_so(server):
    receipt = server.receipt_when_made()

    assert (receipt["verdict"], receipt["simulated"]) == ("not_verifiable", True)
    assert receipt["reason"] == "Simulated GPUs: there is nothing to verify."
    assert receipt["lease_id"] == "0123456789abcdef0123456789abcdef"


def test_several_pieces_share_the_memory_in_proportion(start_server):
    server = start_server(
        lease_text(
            {**block_piece("GPU-a", 100, 80000, "NVIDIA H100 80GB HBM3"), "whole": True},
            block_piece("GPU-b", 10, 8000, "NVIDIA H100 80GB HBM3"),
            kind="mixed",
            by="simulated",
            memory="none",
            compute="none",
            simulated=True,
        )
    )
    server.start_kernel()

    whole, share = server.usage_when(
        lambda usage: len(usage["devices"]) == 2 and usage["devices"][0]["memory_used_mib"] > 30
    )["devices"]

    assert (whole["piece"], share["piece"]) == ("whole GPU", "10 blocks")
    assert share["memory_used_mib"] == pytest.approx(whole["memory_used_mib"] / 10, abs=1)


def test_a_server_without_a_lease_has_no_gpu_and_samples_nothing(start_server):
    server = start_server(None)

    usage = wait_for(server.usage, lambda usage: True, 5)

    assert (usage["state"], usage["state_reason"]) == ("no_gpu", "This server has no GPU.")
    assert (usage["devices"], usage["history"], usage["lease"]) == ([], [], None)
    assert server.receipt()["verdict"] == "not_verifiable"
    assert "GPU figures" not in server.log()


def test_a_broken_lease_is_a_sentence_and_the_server_runs(start_server):
    server = start_server("{not json")

    usage = server.usage()

    assert usage["state"] == "unavailable"
    assert usage["state_reason"].startswith("This server's GPU lease cannot be read")
    assert server.log().count("ALIQUOT_LEASE is not JSON") == 1
