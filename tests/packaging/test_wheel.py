"""The wheel holds both packages whole, with their built pages, and works without node."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"aliquot": ROOT / "spawner" / "aliquot", "aliquot_lab": ROOT / "extension/aliquot_lab"}
# What of extension/aliquot_lab goes to the environment's share and etc instead.
DATA_FILES = ("labextension", "jupyter-config", "install.json")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel_names(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def files_on_disk(name: str, folder: Path) -> set[str]:
    """A package's files as the wheel should name them."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.relative_to(folder).parts[0] not in DATA_FILES
    }


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_wheel_carries_every_file_of_the_package_and_no_other(package, wheel_names):
    shipped = {name for name in wheel_names if name.startswith(f"{package}/")}

    assert shipped == files_on_disk(package, PACKAGES[package])


@pytest.mark.parametrize(
    "name",
    [
        "aliquot/spawners/static/picker.js",
        "aliquot/spawners/static/picker.css",
        "aliquot_lab/static/usage.js",
        "aliquot/domain/mig_models.json",
    ],
)
def test_the_wheel_carries_the_built_pages_and_the_data(name, wheel, wheel_names):
    assert name in wheel_names
    assert zipfile.ZipFile(wheel).getinfo(name).file_size > 0


def test_the_wheel_carries_the_labextension_where_jupyter_looks(wheel, wheel_names):
    share = "aliquot-0.1.0.data/data/share/jupyter/labextensions/@aliquot/lab/"
    lab = json.loads(zipfile.ZipFile(wheel).read(share + "package.json"))
    entry = lab["jupyterlab"]["_build"]["load"]

    assert lab["name"] == "@aliquot/lab"
    assert share + entry in wheel_names
    assert share + "install.json" in wheel_names


def test_the_wheel_carries_migrations_with_a_first_revision(wheel_names):
    versions = [n for n in wheel_names if n.startswith("aliquot/storage/migrations/versions/")]

    assert "aliquot/storage/migrations/env.py" in wheel_names
    assert versions


def test_the_wheel_carries_no_page_sources_tests_or_configuration(wheel_names):
    roots = {name.split("/")[0] for name in wheel_names}

    assert roots == {"aliquot", "aliquot_lab", "aliquot-0.1.0.data", "aliquot-0.1.0.dist-info"}
    assert not [name for name in wheel_names if name.endswith((".ts", ".tsx"))]


def test_the_sdist_carries_the_built_pages_so_that_it_builds_without_node(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}

    assert "extension/aliquot_lab/labextension/package.json" in names
    assert "spawner/aliquot/spawners/static/picker.js" in names
    assert "LICENSE" in names
    assert not [name for name in names if name.startswith(("tests/", "extension/ui/"))]


def test_installed_jupyterlab_has_the_extension_enabled(installed):
    listed = installed.run("python", "-m", "jupyterlab.labextensions", "list")

    line = next(line for line in listed.stdout.splitlines() if "@aliquot/lab" in line)
    assert "v0.1.0" in line
    assert "enabled" in line
    assert "OK" in line


def test_installed_jupyter_server_has_the_extension_enabled(installed):
    listed = installed.run("python", "-m", "jupyter_server.extension.serverextension", "list")

    assert "aliquot_lab enabled" in listed.stdout.replace("\x1b[32m", "").replace("\x1b[0m", "")
    after = listed.stdout.split("aliquot_lab", 1)[1]
    assert "OK" in after.splitlines()[1] or "OK" in after.splitlines()[2], listed.stdout


def test_installed_code_is_the_wheels_and_not_the_checkouts(installed):
    where = installed.run(
        "python", "-c", "import aliquot, aliquot_lab; print(aliquot.__file__, aliquot_lab.__file__)"
    )

    assert where.returncode == 0, where.stdout
    assert where.stdout.count(str(installed.folder)) == 2


def test_the_command_line_answers_where_only_the_wheel_is_installed(installed):
    helped = installed.run("aliquot", "--help")

    assert helped.returncode == 0, helped.stdout
    for command in ("demo", "check", "report"):
        assert command in helped.stdout


def test_every_entry_point_of_the_wheel_can_be_loaded(installed):
    script = (
        "from importlib.metadata import distribution\n"
        "for point in distribution('aliquot').entry_points:\n"
        "    print(point.group, point.name, point.load() and point.attr)\n"
    )
    loaded = installed.run("python", "-c", script)

    assert loaded.returncode == 0, loaded.stdout
    assert "jupyterhub.spawners aliquot-local LocalShareSpawner" in loaded.stdout
    assert "console_scripts aliquot" in loaded.stdout
