"""What is said when the programs of the cluster tests cannot be had."""

from __future__ import annotations

import pytest

from tests.cluster import binaries


def test_a_folder_without_a_program_is_named_with_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "kube-apiserver").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    with pytest.raises(binaries.CannotBuild) as refused:
        binaries.find_binaries()

    assert str(refused.value) == (
        f"KUBEBUILDER_ASSETS is {tmp_path}, which lacks kube-scheduler, "
        "kube-controller-manager, kubelet: put them there, or unset it to have them built."
    )


def test_a_folder_with_all_programs_is_taken_as_it_is(tmp_path, monkeypatch):
    for name in binaries.PROGRAMS:
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert binaries.find_binaries() == tmp_path


def test_without_go_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(binaries.CannotBuild, match=r"install Go 1\.26 or newer"):
        binaries.find_binaries()


def test_the_programs_are_built_anew_for_another_release(tmp_path, monkeypatch):
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_bytes((binaries.HERE / name).read_bytes())
    monkeypatch.setattr(binaries, "go_version", lambda: "go1.26.8")
    before = binaries.build_folder()
    monkeypatch.setattr(binaries, "HERE", tmp_path)
    assert binaries.build_folder() == before

    changed = (tmp_path / "go.mod").read_text().replace("v1.36.3", "v1.36.4")
    (tmp_path / "go.mod").write_text(changed)

    assert binaries.kubernetes_version() == "v1.36.4"
    assert binaries.build_folder() != before
