"""Receipts: what a child of the server saw of its binding, over the CUDA stand-in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from aliquot_lab.lease import Lease, parse_lease
from aliquot_lab.receipt import Receipt, judge
from tests.lab.lab_server import block_piece, lease_text, slice_piece, whole_piece

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
H100 = "NVIDIA H100 80GB HBM3"
FIRST = "GPU-b1000000-0000-4000-8000-000000000000"
SECOND = "GPU-b1000000-1000-4000-8000-000000000000"
A100 = "NVIDIA A100-SXM4-80GB"
A100_UUID = "GPU-a1000000-0000-4000-8000-000000000000"
SLICE = "MIG-a1000000-0003-5000-8000-000000000000"
OTHER_SLICE = "MIG-a1000000-0004-5000-8000-000000000000"

A_SLICE = lease_text(
    slice_piece(A100_UUID, SLICE, "1g.10gb", 9856, A100),
    kind="slice",
    by="mig",
    memory="hardware",
    compute="hardware",
)
THIRTY_BLOCKS = lease_text(
    block_piece(FIRST, 30, 24467, H100),
    kind="blocks",
    by="mps",
    memory="soft",
    compute="soft",
    thread_percentage=30,
)
BOUND_TO_THIRTY_BLOCKS = {
    "CUDA_VISIBLE_DEVICES": FIRST,
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=24467M",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
}

PROBE = """
import json, subprocess, sys
done = subprocess.run([sys.executable, "-P", "-m", "aliquot_lab.cuda_probe", *{cards!r}],
                      capture_output=True, text=True)
assert done.returncode == 0, done.stderr
result = json.loads(done.stdout)
"""


def receipt_of(machine: Any, written: str, **environment: str) -> Receipt:
    """Probe the machine as a server with this lease and environment would, and judge."""
    lease = parse_lease(written)
    assert isinstance(lease, Lease)
    cards = sorted({piece.gpu_uuid for piece in lease.pieces})
    return judge(lease, machine.python(PROBE.format(cards=cards), **environment), NOW)


def results(receipt: Receipt) -> list[str]:
    return [check.result for check in receipt.checks]


def reasons(receipt: Receipt) -> list[str]:
    return [check.reason.text("en") for check in receipt.checks if check.reason]


def test_a_slice_that_cuda_shows_alone_is_verified(nvml_scenario):
    receipt = receipt_of(nvml_scenario("a100-mig-mixed"), A_SLICE, CUDA_VISIBLE_DEVICES=SLICE)

    assert (receipt.verdict, results(receipt)) == ("verified", ["pass", "pass"])
    document = receipt.document("en")
    assert document["checked_at"] == "2026-11-23T05:00:00.000Z"
    assert document["checks"][0] == {
        "what": "devices visible",
        "expected": SLICE,
        "seen": SLICE,
        "result": "pass",
        "reason": None,
        "enforced_by": "mig",
    }
    assert document["checks"][1]["what"] == f"memory cap on A100 80GB ({SLICE})"
    assert document["checks"][1]["expected"] == "at most 9856 MiB"
    assert document["checks"][1]["seen"] == "9856 MiB"
    assert receipt.document("ko")["checks"][0]["what"] == "보이는 장치"


def test_blocks_whose_limit_shows_as_the_free_memory_are_verified(nvml_scenario):
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), THIRTY_BLOCKS, **BOUND_TO_THIRTY_BLOCKS)

    assert (receipt.verdict, results(receipt)) == ("verified", ["pass", "pass", "pass"])
    # The limit, less the context of the process that looks.
    assert receipt.checks[1].seen.text("en") == "24444 MiB"
    # A setting that was seen is not an effect that was measured, and the receipt says so.
    assert reasons(receipt) == ["The setting is there; its effect was not measured."]


def test_a_whole_gpu_is_verified_by_its_whole_memory(nvml_scenario):
    lease = lease_text(
        whole_piece(SECOND, 81559, H100), kind="whole", by="driver",
        memory="hardware", compute="hardware",
    )  # fmt: skip
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), lease, CUDA_VISIBLE_DEVICES=SECOND)

    assert receipt.verdict == "verified"
    assert {check.enforced_by for check in receipt.checks} == {"driver"}


def test_a_wrong_device_is_a_mismatch(nvml_scenario):
    receipt = receipt_of(nvml_scenario("a100-mig-mixed"), A_SLICE, CUDA_VISIBLE_DEVICES=OTHER_SLICE)

    assert (receipt.verdict, results(receipt)) == ("mismatch", ["fail"])
    assert reasons(receipt) == ["CUDA shows a device that the lease does not name."]
    assert OTHER_SLICE.removeprefix("MIG-") in receipt.checks[0].seen.text("en")


def test_a_device_too_many_is_a_mismatch(nvml_scenario):
    bound = {**BOUND_TO_THIRTY_BLOCKS, "CUDA_VISIBLE_DEVICES": f"{FIRST},{SECOND}"}
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), THIRTY_BLOCKS, **bound)

    assert (receipt.verdict, results(receipt)) == ("mismatch", ["fail", "pass", "pass"])


def test_no_device_at_all_is_a_mismatch(nvml_scenario):
    bound = {**BOUND_TO_THIRTY_BLOCKS, "CUDA_VISIBLE_DEVICES": ""}
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), THIRTY_BLOCKS, **bound)

    assert receipt.verdict == "mismatch"
    assert receipt.checks[0].seen.text("en") == "none"


def test_a_cap_above_the_lease_is_a_mismatch(nvml_scenario):
    bound = {**BOUND_TO_THIRTY_BLOCKS, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=40G"}
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), THIRTY_BLOCKS, **bound)

    assert (receipt.verdict, results(receipt)) == ("mismatch", ["pass", "fail", "pass"])
    assert receipt.checks[1].seen.text("en") == "40937 MiB"
    assert "more memory than the lease grants" in reasons(receipt)[0]


def test_a_limit_that_mps_does_not_hold_is_a_mismatch(nvml_scenario):
    machine = nvml_scenario("h100-mps-blocks")
    machine.edit("mps on", "mps off")

    assert receipt_of(machine, THIRTY_BLOCKS, **BOUND_TO_THIRTY_BLOCKS).verdict == "mismatch"


def test_another_thread_percentage_is_a_mismatch(nvml_scenario):
    bound = {**BOUND_TO_THIRTY_BLOCKS, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100"}
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), THIRTY_BLOCKS, **bound)

    assert (receipt.verdict, results(receipt)) == ("mismatch", ["pass", "pass", "fail"])


def test_a_slice_much_smaller_than_leased_is_a_mismatch(nvml_scenario):
    machine = nvml_scenario("a30")
    lease = lease_text(
        slice_piece(
            "GPU-a3000000-0000-4000-8000-000000000000",
            "MIG-a3000000-0002-5000-8000-000000000000", "2g.12gb", 11672, "NVIDIA A30",
        ),
        kind="slice", by="mig", memory="hardware", compute="hardware",
    )  # fmt: skip
    receipt = receipt_of(
        machine, lease, CUDA_VISIBLE_DEVICES="MIG-a3000000-0002-5000-8000-000000000000"
    )

    assert (receipt.verdict, results(receipt)) == ("mismatch", ["pass", "fail"])
    assert "clearly less memory" in reasons(receipt)[0]


def test_a_card_that_others_have_filled_hides_the_cap(nvml_scenario):
    machine = nvml_scenario("h100-mps-blocks")
    machine.edit("mps on", "mps off")
    machine.edit("used_mib 21000-24000/30", "used_mib 70000")
    receipt = receipt_of(machine, THIRTY_BLOCKS, **BOUND_TO_THIRTY_BLOCKS)

    # 11,008 MiB are free with or without a cap of 24,467: nothing was seen of the cap.
    assert (receipt.verdict, results(receipt)) == ("not_verifiable", ["pass", "unknown", "pass"])


def test_an_advisory_share_is_never_verified(nvml_scenario):
    lease = lease_text(
        block_piece(FIRST, 30, 24467, H100),
        kind="blocks",
        by="advisory",
        memory="none",
        compute="none",
    )
    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), lease, CUDA_VISIBLE_DEVICES=FIRST)

    assert (receipt.verdict, results(receipt)) == ("not_verifiable", ["pass", "unknown"])
    assert reasons(receipt) == ["Nothing enforces a memory limit here: shares are only counted."]


def test_of_two_slices_cuda_shows_one_and_the_other_stays_unverified(nvml_scenario):
    lease = lease_text(
        slice_piece(A100_UUID, SLICE, "1g.10gb", 9856, A100),
        slice_piece(A100_UUID, OTHER_SLICE, "1g.10gb", 9856, A100),
        kind="slice",
        by="mig",
        memory="hardware",
        compute="hardware",
    )
    receipt = receipt_of(
        nvml_scenario("a100-mig-mixed"), lease, CUDA_VISIBLE_DEVICES=f"{SLICE},{OTHER_SLICE}"
    )

    assert (receipt.verdict, results(receipt)) == ("not_verifiable", ["unknown", "pass"])


def test_cuda_that_does_not_start_verifies_nothing(nvml_scenario):
    machine = nvml_scenario("h100-mps-blocks")
    machine.add("fail cuInit UNKNOWN")
    receipt = receipt_of(machine, THIRTY_BLOCKS, **BOUND_TO_THIRTY_BLOCKS)

    assert (receipt.verdict, receipt.checks) == ("not_verifiable", ())
    assert receipt.document("en")["reason"] == (
        "CUDA did not start (CUDA_ERROR_UNKNOWN), so the binding could not be looked at."
    )


def test_memory_that_cuda_does_not_tell_is_unknown(nvml_scenario):
    machine = nvml_scenario("h100-mps-blocks")
    machine.add("fail cuMemGetInfo UNKNOWN")
    receipt = receipt_of(machine, THIRTY_BLOCKS, **BOUND_TO_THIRTY_BLOCKS)

    assert (receipt.verdict, results(receipt)) == ("not_verifiable", ["pass", "unknown", "pass"])


def test_a_mixed_lease_names_who_enforces_each_piece(nvml_scenario):
    lease = lease_text(
        whole_piece(SECOND, 81559, H100),
        block_piece(FIRST, 10, 8156, H100),
        kind="mixed",
        by="mps",
        memory="soft",
        compute="none",
    )
    receipt = receipt_of(
        nvml_scenario("h100-mps-blocks"),
        lease,
        CUDA_VISIBLE_DEVICES=f"{SECOND},{FIRST}",
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=81559M,1=8156M",
    )

    assert receipt.verdict == "verified"
    assert [check.enforced_by for check in receipt.checks[1:]] == ["driver", "mps"]


def in_a_pod(profile: str = "1g.10gb", mib: int = 9856) -> str:
    """A slice of a device plugin, which tells no UUID: the ledger has a name of its own."""
    name = f"gpu-1/{profile}/3"
    piece = slice_piece("gpu-1/gpu/0", name, profile, mib, "A100-80GB")
    return lease_text(piece, kind="slice", by="mig", memory="hardware", compute="hardware")


def test_a_slice_in_a_pod_is_verified_by_its_profile_and_memory(nvml_scenario):
    machine = nvml_scenario("a100-mig-mixed")

    receipt = receipt_of(machine, in_a_pod(), CUDA_VISIBLE_DEVICES=SLICE)

    assert (receipt.verdict, results(receipt)) == ("verified", ["pass", "pass"])
    assert receipt.checks[0].seen.text("en") == f"{A100} MIG 1g.10gb"
    assert receipt.seen["cuda"]["devices"][0]["uuid"] == SLICE.removeprefix("MIG-")


def test_another_slice_in_a_pod_is_a_mismatch(nvml_scenario):
    machine = nvml_scenario("a100-mig-mixed")

    receipt = receipt_of(machine, in_a_pod("2g.20gb", 19968), CUDA_VISIBLE_DEVICES=SLICE)

    assert (receipt.verdict, results(receipt)) == ("mismatch", ["fail"])
    assert reasons(receipt) == [
        "CUDA shows a device of another model or profile than the lease names."
    ]


def test_limits_of_hami_are_read_from_its_variables(nvml_scenario):
    """The stand-in has no libvgpu.so, so the card shows whole, and that is a mismatch."""
    lease = lease_text(
        block_piece(FIRST, 30, 24467, H100),
        kind="blocks", by="hami", memory="soft", compute="soft",
    )  # fmt: skip
    environment = {
        "CUDA_VISIBLE_DEVICES": FIRST,
        "CUDA_DEVICE_MEMORY_LIMIT_0": "24467m",
        "CUDA_DEVICE_MEMORY_LIMIT_1": "2g",
        "CUDA_DISABLE_CONTROL": "true",
    }

    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), lease, **environment)

    assert receipt.seen["hami"] == {"is_off": True, "limits_mib": {"0": 24467, "1": 2048}}
    assert receipt.verdict == "mismatch"
    assert "more memory than the lease grants" in reasons(receipt)[0]
    assert "CUDA_DISABLE_CONTROL" in reasons(receipt)[1]
    assert [check.result for check in receipt.checks] == ["pass", "fail", "fail", "fail"]


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_hami_that_is_not_switched_off_is_nothing_to_tell(nvml_scenario, value):
    environment = {**BOUND_TO_THIRTY_BLOCKS, "CUDA_DISABLE_CONTROL": value}

    receipt = receipt_of(nvml_scenario("h100-mps-blocks"), THIRTY_BLOCKS, **environment)

    assert receipt.seen["hami"] is None
    assert receipt.verdict == "verified"


class Service:
    """The Hub's service as far as receipts go: refuses once, then takes them."""

    def __init__(self) -> None:
        self.puts: list[tuple[str, str, dict[str, Any]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.puts.append((self.path, self.headers["Authorization"], body))
                self.send_response(503 if len(service.puts) == 1 else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/aliquot/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def test_a_server_makes_its_receipt_and_posts_it_until_the_service_takes_it(
    nvml_scenario, start_server, service
):
    machine = nvml_scenario("h100-mps-blocks")
    server = start_server(
        THIRTY_BLOCKS,
        {
            **machine.env,
            **BOUND_TO_THIRTY_BLOCKS,
            "ALIQUOT_SERVICE_URL": service.url,
            "JUPYTERHUB_API_TOKEN": "a-token-of-this-test",
        },
    )
    assert server.receipt()["reason"] == "The check inside this server has not finished yet."

    receipt = server.receipt_when_made()
    assert receipt["verdict"] == "verified"

    server.usage_when(lambda usage: len(service.puts) >= 2)
    path, authorization, posted = service.puts[-1]
    assert path == "/services/aliquot/api/receipts/0123456789abcdef0123456789abcdef"
    assert authorization == "token a-token-of-this-test"
    assert posted == receipt
    assert "was not posted" not in server.log()
    assert "a-token-of-this-test" not in server.log()


def test_a_mismatch_is_in_the_server_s_log(nvml_scenario, start_server):
    machine = nvml_scenario("a100-mig-mixed")
    server = start_server(A_SLICE, {**machine.env, "CUDA_VISIBLE_DEVICES": OTHER_SLICE})

    assert server.receipt_when_made()["verdict"] == "mismatch"
    assert "does not match what CUDA shows: CUDA shows a device that" in server.log()


def test_a_machine_without_cuda_verifies_nothing_and_serves_on(start_server):
    server = start_server(THIRTY_BLOCKS, {"LD_LIBRARY_PATH": "", **BOUND_TO_THIRTY_BLOCKS})

    receipt = server.receipt_when_made()

    assert (receipt["verdict"], receipt["checks"]) == ("not_verifiable", [])
    assert server.usage()["state"] == "unavailable"
