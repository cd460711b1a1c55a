"""``aliquot check`` and ``aliquot report``, as an admin runs them: without a running Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aliquot.allocator import Allocator
from aliquot.cli.report import age
from aliquot.domain.currency import ONE_GPU, cost_of_blocks
from aliquot.domain.leases import Person, Server
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks, Slice
from aliquot.domain.uncertain import Doubt, GrantDoubt
from aliquot.settings import Settings
from aliquot.storage import Store

CONFIG = """
from aliquot.setup import setup_aliquot
c = get_config()
c.Aliquot.database_url = "sqlite:///books.sqlite"
c.Aliquot.gpu_source = "simulated"
c.Authenticator.allow_all = True
setup_aliquot(c, spawner="aliquot-simple")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a Hub was configured: its configuration and its ledger with one group."""
    (tmp_path / "jupyterhub_config.py").write_text(CONFIG)
    store = Store.open(f"sqlite:///{tmp_path}/books.sqlite")
    groups = [
        ResourceGroup("lab", Quota(ONE_GPU * 4)),
        ResourceGroup("vision", Quota(cost_of_blocks(150)), parent="lab"),
    ]
    store.save_groups(groups, {}, actor="tests", why="the case")
    store.close()
    return tmp_path


def aliquot(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aliquot.cli.main", *words],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


def check(cwd: Path, *words: str, **env: str) -> tuple[int, list[dict[str, str]]]:
    done = aliquot("check", "--json", *words, cwd=cwd, **env)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] == (done.returncode == 0)
    return done.returncode, document["findings"]


def of(findings: list[dict[str, str]], area: str) -> list[tuple[str, str]]:
    return [(f["level"], f["message"]) for f in findings if f["area"] == area]


def hold(folder: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{folder}/books.sqlite", gpu_source="simulated")
    allocator = Allocator.from_settings(settings)
    ada = Person(1, "ada", frozenset({"vision"}))
    for number, share in enumerate((Blocks(30), Slice("1g.10gb"))):
        allocator.reserve(Ask(share), ada, Server(number, "ab"[number]), f"{number:032x}", {})
    allocator.store.close()


# -- check ------------------------------------------------------------------------------


def test_a_sound_deployment_has_no_problem_and_each_line_says_what_was_found(folder):
    done = aliquot("check", cwd=folder)

    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warn") for line in lines[:-1])
    assert any("simulated: 4 GPUs that do not exist" in line for line in lines)
    assert any("jupyterhub 6." in line for line in lines)
    assert any("the ledger answers" in line for line in lines)
    assert any("2 groups: lab, vision" in line for line in lines)
    assert any("service 'aliquot' with the scopes that it needs" in line for line in lines)
    assert lines[-1].startswith("Nothing to solve")


def test_a_configuration_elsewhere_is_read_in_its_own_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    status, found = check(elsewhere, "-f", str(folder / "jupyterhub_config.py"))

    assert status == 0
    assert ("ok", "2 groups: lab, vision") in of(found, "groups")


def test_a_hub_without_our_spawner_and_service_is_a_problem_with_the_line_to_add(folder):
    (folder / "jupyterhub_config.py").write_text(
        'c = get_config()\nc.Aliquot.database_url = "sqlite:///books.sqlite"\n'
    )

    status, found = check(folder)

    hub = [f for f in found if f["area"] == "hub"]
    assert status == 1
    assert [f["level"] for f in hub] == ["problem", "problem"]
    assert all("setup_aliquot(c)" in f["remedy"] for f in hub)


def test_a_role_without_a_scope_is_a_problem_that_names_the_scope(folder):
    (folder / "jupyterhub_config.py").write_text(
        CONFIG + 'next(r for r in c.JupyterHub.load_roles if r["name"] == "aliquot-service")'
        '["scopes"] = ["list:users!group=vision", "read:servers"]\n'
    )

    status, found = check(folder)

    assert status == 1
    problems = [message for level, message in of(found, "hub") if level == "problem"]
    # A scope for one group only would make all other servers look gone.
    assert problems == [
        "the service's role lacks list:users, admin:server_state: it cannot see which servers live"
    ]


def test_a_ledger_that_is_not_made_yet_is_no_problem_and_checking_does_not_make_it(tmp_path):
    (tmp_path / "jupyterhub_config.py").write_text(CONFIG)

    status, found = check(tmp_path)

    assert status == 0
    assert [level for level, _ in of(found, "database")] == ["warn"]
    assert not (tmp_path / "books.sqlite").exists()


def test_a_ledger_in_a_folder_that_is_not_there_is_a_problem(tmp_path):
    status, found = check(tmp_path, "--database", f"sqlite:///{tmp_path}/no/books.sqlite")

    assert status == 1
    assert [level for level, _ in of(found, "database")] == ["problem"]


def test_a_database_server_that_does_not_answer_is_a_problem_without_its_password(tmp_path):
    url = "postgresql+psycopg://aliquot:geheim@127.0.0.1:1/aliquot"

    status, found = check(tmp_path, "--database", url)

    [(level, message)] = of(found, "database")
    assert (status, level) == (1, "problem")
    assert "the server does not answer" in message
    assert "geheim" not in json.dumps(found)


def test_a_ledger_that_others_may_read_is_told(folder):
    (folder / "books.sqlite").chmod(0o644)

    _, found = check(folder)

    assert any("other users of this machine" in message for _, message in of(found, "database"))


def test_a_file_that_is_no_ledger_is_a_problem(folder):
    (folder / "books.sqlite").write_bytes(b"this is a text, and a long one: " * 64)

    status, found = check(folder)

    assert status == 1
    assert any("not a readable SQLite database" in message for _, message in of(found, "database"))


def test_no_group_with_quota_is_a_problem_with_the_command_that_gives_it(folder):
    store = Store.open(f"sqlite:///{folder}/books.sqlite")
    store.save_groups([], {}, actor="tests", why="the case")
    store.close()

    status, found = check(folder)

    groups = next(f for f in found if f["area"] == "groups")
    assert (status, groups["level"]) == (1, "problem")
    assert "aliquot apply" in groups["remedy"]


def test_a_configuration_that_fails_is_told_in_one_sentence(tmp_path):
    (tmp_path / "jupyterhub_config.py").write_text("c.Aliquot.database_url = 1 / 0\n")

    done = aliquot("check", cwd=tmp_path)

    assert done.returncode == 1
    assert "jupyterhub_config.py cannot be read: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "scenario, area, level, words",
    [
        ("h200", "driver", "ok", "NVML answers"),
        ("a100-mig-mixed", "mig", "ok", "1g.10gb"),
        ("h200", "mps", "warn", "no MPS control daemon"),
    ],
)
def test_what_the_driver_tells_is_said(nvml_scenario, folder, scenario, area, level, words):
    machine = nvml_scenario(scenario)
    config = CONFIG.replace('"simulated"', '"nvml"')
    (folder / "jupyterhub_config.py").write_text(config)

    _, found = check(folder, **machine.env)

    assert any(is_level == level and words in text for is_level, text in of(found, area)), found


@pytest.mark.parametrize("scenario", ["driver-lost", "nvml-denied"])
def test_a_driver_that_cannot_be_read_is_a_problem(nvml_scenario, folder, scenario):
    machine = nvml_scenario(scenario)
    config = CONFIG.replace('"simulated"', '"nvml"')
    (folder / "jupyterhub_config.py").write_text(config)

    status, found = check(folder, **machine.env)

    [(level, _)] = of(found, "driver")
    assert (status, level) == (1, "problem")


# -- report -----------------------------------------------------------------------------


def test_a_report_says_who_holds_what_and_what_is_left(folder):
    hold(folder)

    done = aliquot("report", "--json", cwd=folder)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["simulated"] is True
    held = [(lease["user"], lease["server"], lease["share"]) for lease in found["leases"]]
    assert held == [("ada", "a", "30 blocks"), ("ada", "b", "1g.10gb")]
    groups = {group["name"]: group for group in found["groups"]}
    # 1g.10gb is 1/7 of an A100's compute: 200 of 1400 units, 15 blocks rounded up.
    assert groups["vision"]["held_blocks"] == 45
    assert groups["vision"]["free_blocks"] == 105
    assert groups["lab"]["held_blocks"] == 45
    assert sorted(gpu["held_blocks"] for gpu in found["gpus"] if gpu["mode"] == "blocks") == [0, 30]
    slices = [s for gpu in found["gpus"] for s in gpu["slices"] if s["profile"] == "1g.10gb"]
    assert sum(s["held"] for s in slices) == 1


def test_a_report_for_people_is_tables_that_say_simulated(folder):
    hold(folder)

    done = aliquot("report", cwd=folder)

    assert "Leases (simulated)" in done.stdout
    assert "30 blocks, 23.9 GiB" in done.stdout
    assert "under a minute" in done.stdout
    assert "30 of 100 blocks" in done.stdout


def test_a_report_tells_of_a_grant_that_could_not_be_booked(folder):
    hold(folder)
    store = Store.open(f"sqlite:///{folder}/books.sqlite")
    doubt = GrantDoubt(Doubt.GRANT_CONTRADICTED, "node: gpu-1 → gpu-2")
    store.put_granted(f"{0:032x}", None, datetime.now(UTC), doubt)
    store.close()

    (told,) = json.loads(aliquot("report", "--json", cwd=folder).stdout)["findings"]

    assert (told["kind"], told["lease_id"]) == ("grant_contradicted", f"{0:032x}")
    assert "node: gpu-1 → gpu-2" in told["message"]


def test_a_report_of_empty_books_says_so(folder):
    done = aliquot("report", cwd=folder)

    assert done.returncode == 0
    assert "Nobody holds a GPU." in done.stdout


def test_a_report_without_a_ledger_says_where_it_looked_and_what_to_do(tmp_path):
    done = aliquot("report", cwd=tmp_path)

    assert done.returncode == 1
    assert f"There is no ledger at {tmp_path}/aliquot.sqlite (the defaults)." in done.stderr
    assert "aliquot report -f" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_names_with_markup_are_shown_as_they_are(folder):
    store = Store.open(f"sqlite:///{folder}/books.sqlite")
    groups = [ResourceGroup("[red]vision[/red]", Quota(ONE_GPU))]
    store.save_groups(groups, {}, actor="tests", why="the case")
    store.close()

    done = aliquot("report", cwd=folder)

    assert "[red]vision[/red]" in done.stdout


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "under a minute"),
        (59, "under a minute"),
        (60, "1 min"),
        (3 * 3600 + 5 * 60, "3 h 5 min"),
        (2 * 86400 + 3 * 3600 + 60, "2 d 3 h"),
        (86400, "1 d"),
    ],
)
def test_an_age_is_told_in_its_two_largest_units(seconds, words):
    assert age(seconds) == words


def test_the_report_carries_the_time_that_it_is_of(folder):
    before = datetime.now(UTC)

    at = json.loads(aliquot("report", "--json", cwd=folder).stdout)["at"]

    assert at.endswith("Z")
    assert before <= datetime.fromisoformat(at) <= datetime.now(UTC)


def test_every_command_explains_itself(tmp_path):
    for command in ("check", "report", "demo", "apply"):
        done = aliquot(command, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Usage:" in done.stdout
