"""The hub's image: its Dockerfile passes a linter, and its steps work.

No registry is needed. The steps are replayed in order: every stage gets a folder for its
WORKDIR and, where its base image is Python's, a clean virtual environment in place of the
image's own interpreter. COPY obeys .dockerignore. Two steps are not what a build would do:
`npm ci` takes the packages that `make setup` installed from the same lock file, and the
step that makes the user is left out, because it would make one on this machine.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "Dockerfile"

pytestmark = pytest.mark.timeout(900)


@dataclass(slots=True)
class Stage:
    """One FROM, with the folder its steps are replayed in."""

    image: str
    name: str
    root: Path
    steps: list[tuple[str, str]] = field(default_factory=list)
    workdir: str = "/"

    def place(self, path: str) -> Path:
        """Where a path of the image lies in the replay."""
        absolute = path if path.startswith("/") else f"{self.workdir}/{path}"
        return self.root / absolute.lstrip("/")

    def last(self, instruction: str) -> str | None:
        return next((value for name, value in reversed(self.steps) if name == instruction), None)


def read_stages(folder: Path) -> list[Stage]:
    parser = DockerfileParser(str(RECIPE), cache_content=True)
    stages: list[Stage] = []
    for step in parser.structure:
        if step["instruction"] == "FROM":
            image, _, name = step["value"].partition(" AS ")
            name = name or "final"
            stages.append(Stage(image, name, folder / name))
        elif step["instruction"] != "COMMENT":
            stages[-1].steps.append((step["instruction"], step["value"]))
    return stages


def is_ignored(relative: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a path, or a folder above it, out of the build."""
    parts = relative.split("/")
    for pattern in patterns:
        if pattern.startswith("**/"):
            if any(fnmatch.fnmatch(part, pattern[3:]) for part in parts):
                return True
        elif relative == pattern or relative.startswith(f"{pattern}/"):
            return True
    return False


def copy(stage: Stage, value: str, stages: list[Stage]) -> None:
    """COPY: one or more sources into a place of this stage."""
    words = value.split()
    from_stage = None
    if words[0].startswith("--from="):
        wanted = words.pop(0).removeprefix("--from=")
        from_stage = next(other for other in stages if other.name == wanted)
    *sources, target = words
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    def skipped(folder: str, names: list[str]) -> set[str]:
        if from_stage is not None:
            return set()
        here = Path(folder).relative_to(ROOT)
        return {name for name in names if is_ignored((here / name).as_posix(), patterns)}

    for source in sources:
        origin = from_stage.place(source) if from_stage else ROOT / source
        assert origin.exists(), f"COPY {source}: no such file or folder"
        assert from_stage or not is_ignored(source.rstrip("/"), patterns), f"{source} is ignored"
        place = stage.place(target)
        if origin.is_dir():
            shutil.copytree(origin, place, ignore=skipped, dirs_exist_ok=True)
        else:
            if target.endswith("/"):
                place = place / origin.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, place)


def run(stage: Stage, value: str) -> str:
    """RUN, in the stage's folder; returns what was done instead, if not this."""
    if value.startswith("useradd"):
        return "left out"
    if value.startswith("npm ci"):
        packages = stage.place("extension/ui/node_modules")
        packages.symlink_to(ROOT / "extension/ui/node_modules")
        return "packages of make setup"
    path = [os.environ["PATH"]]
    if stage.image.startswith("python:"):
        environment = stage.root / "environment"
        if not environment.exists():
            venv.create(environment, with_pip=True)
        path = [str(environment / "bin"), "/usr/bin", "/bin"]
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # A build in Docker has no pip cache; the replay may keep this machine's. Compiling what
    # is installed would take longer than the rest.
    done = subprocess.run(
        ["/bin/sh", "-c", value.replace("--no-cache-dir ", "")],
        cwd=stage.place("."),
        env={**kept, "PATH": os.pathsep.join(path), "PIP_NO_COMPILE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"RUN {value}\n{done.stdout[-4000:]}"
    return "run"


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> list[Stage]:
    return read_stages(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def replayed(stages) -> tuple[Stage, list[str]]:
    """The final stage after every step of every stage, and what became of each RUN."""
    done = []
    for stage in stages:
        stage.root.mkdir()
        for instruction, value in stage.steps:
            if instruction == "WORKDIR":
                stage.workdir = value
                stage.place(".").mkdir(parents=True)
            elif instruction == "COPY":
                copy(stage, value, stages)
            elif instruction == "RUN":
                done.append(run(stage, value))
    return stages[-1], done


def in_image(stage: Stage, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the replayed image, in its WORKDIR."""
    commands = stage.root / "environment" / "bin"
    return subprocess.run(
        [commands / command[0], *command[1:]],
        cwd=stage.place("."),
        env={"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(stage.root), "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_recipe_passes_the_linter():
    hadolint = ROOT / ".venv" / "bin" / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this kind of machine")

    done = subprocess.run([hadolint, "--no-color", RECIPE], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


def test_the_linter_would_have_spoken(tmp_path):
    hadolint = ROOT / ".venv" / "bin" / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this kind of machine")
    careless = tmp_path / "Dockerfile"
    careless.write_text(RECIPE.read_text().replace(":3.12-slim-bookworm", ":latest"))

    done = subprocess.run([hadolint, "--no-color", careless], capture_output=True, text=True)

    assert done.returncode == 1
    assert "DL3007" in done.stdout


def test_the_image_runs_as_a_numbered_user_that_is_not_root(stages):
    assert int(stages[-1].last("USER") or "0") > 0


@pytest.mark.slow
def test_every_step_of_the_image_works(replayed):
    _, done = replayed

    assert done == [
        "packages of make setup", "run",  # pages
        "run", "run",  # wheel
        "run", "run", "left out",  # the image
    ]


@pytest.mark.slow
def test_the_image_has_the_hub_and_the_spawner_from_locked_versions(replayed):
    image, _ = replayed
    locked = (ROOT / "requirements" / "hub.lock").read_text()

    hub = in_image(image, "jupyterhub", "--version")
    spawner = in_image(
        image, "python", "-c", "import aliquot.spawners.local as m; print(m.__file__)"
    )

    assert hub.returncode == 0
    assert f"jupyterhub=={hub.stdout.strip()} " in locked
    assert spawner.returncode == 0, spawner.stdout
    assert str(image.root) in spawner.stdout


@pytest.mark.slow
def test_the_image_carries_the_pages_that_its_first_stage_built(replayed):
    image, _ = replayed
    picker = next(image.root.glob("environment/lib/python3*/site-packages/aliquot/spawners/static"))

    assert (picker / "picker.js").stat().st_size > 0
    assert (image.root / "environment/share/jupyter/labextensions/@aliquot/lab").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [path.relative_to(ROOT) for path in sorted(ROOT.glob("hub_config/*/jupyterhub_config.py"))],
    ids=lambda path: path.parent.name,
)
def test_the_hub_of_the_image_can_read_the_configuration_it_carries(replayed, config):
    image, _ = replayed
    script = (
        "from jupyterhub.app import JupyterHub\n"
        "hub = JupyterHub()\n"
        f"hub.load_config_file({str(config)!r})\n"
        "print(hub.spawner_class.__module__, [service['name'] for service in hub.services])\n"
    )

    loaded = in_image(image, "python", "-c", script)

    assert json.loads(image.last("CMD") or "[]") == ["jupyterhub"]
    assert loaded.returncode == 0, loaded.stdout
    assert loaded.stdout.splitlines()[-1].startswith("aliquot.spawners")
    assert "'aliquot'" in loaded.stdout
