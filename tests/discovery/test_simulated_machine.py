"""The simulated machine: the one that ships, and files of an admin's own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.discovery import GpuStateUnreadable
from aliquot.discovery.simulated import SimulatedSource, gpus_described
from aliquot.domain.inventory import BlocksBy
from aliquot.domain.mig_geometry import Placed, geometry_for

ONE_H100 = '[[gpu]]\nproduct = "NVIDIA H100 80GB HBM3"\nmemory_mib = 81559\n'


@pytest.fixture
def machine(tmp_path):
    """Writes a file and returns its source."""

    def write(text):
        path = tmp_path / "machine.toml"
        path.write_text(text, "utf-8")
        return SimulatedSource(path)

    return write


def test_the_machine_that_ships_has_two_cut_a100_and_two_h100_for_blocks():
    inventory = SimulatedSource().read()

    assert inventory.simulated
    assert inventory.source == "simulated"
    assert [gpu.model for gpu in inventory.gpus] == ["A100-80GB"] * 2 + ["H100-80GB"] * 2
    assert [[d.profile for d in gpu.mig_devices] for gpu in inventory.gpus] == [
        ["2g.20gb", "2g.20gb", "1g.10gb", "1g.10gb", "1g.10gb"],
        ["4g.40gb", "3g.40gb"],
        [],
        [],
    ]
    assert [gpu.blocks_by for gpu in inventory.gpus] == [None, None] + [BlocksBy.SIMULATED] * 2


def test_the_machine_that_ships_is_one_that_hardware_could_be():
    for gpu in SimulatedSource().read().gpus:
        geometry = geometry_for(gpu.product)
        assert geometry is not None
        layout = [Placed(d.profile, d.start or 0) for d in gpu.mig_devices]
        assert geometry.why_illegal(layout) is None


def test_uuids_are_the_same_at_every_reading_so_that_leases_outlive_the_hub():
    def uuids():
        gpus = SimulatedSource().read().gpus
        return [gpu.uuid for gpu in gpus] + [d.uuid for gpu in gpus for d in gpu.mig_devices]

    assert uuids() == uuids()
    assert len(set(uuids())) == 4 + 7


def test_a_changed_file_is_another_machine_at_the_next_reading(machine):
    source = machine(ONE_H100)
    assert len(source.read().gpus) == 1

    machine(ONE_H100 * 3)
    assert [gpu.index for gpu in source.read().gpus] == [0, 1, 2]


def test_a_gpu_may_be_given_out_whole_only(machine):
    gpu = machine(ONE_H100 + "blocks = false\n").read().gpus[0]

    assert gpu.blocks_by is None


def test_a_gpu_without_a_table_of_geometry_can_still_give_blocks(machine):
    (gpu,) = machine('[[gpu]]\nproduct = "NVIDIA L40S"\nmemory_mib = 46068\n').read().gpus

    assert (gpu.model, gpu.blocks_by) == ("L40S", BlocksBy.SIMULATED)


def test_an_empty_file_is_a_machine_without_gpus(machine):
    assert machine("# none\n").read().gpus == ()


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("[[gpu]]\nmemory_mib = 1\n", "GPU 0: product is a text, got None"),
        ('[[gpu]]\nproduct = "A30"\n', "GPU 0: memory_mib is a whole number, got None"),
        ('[[gpu]]\nproduct = "A30"\nmemory_mib = true\n', "memory_mib is a whole number, got True"),
        ('[[gpu]]\nproduct = "A30"\nmemory_mib = 1.5\n', "memory_mib is a whole number, got 1.5"),
        ('[[gpu]]\nproduct = "A30"\nmemory_mib = 0\n', "memory_mib is positive, got 0"),
        (ONE_H100 + "colour = 1\n", "GPU 0: unknown entry 'colour'"),
        (ONE_H100 + 'mig = "1g.10gb@0"\n', "GPU 0: mig is a list, got '1g.10gb@0'"),
        (
            ONE_H100 + 'mig = ["1g.10gb"]\n',
            "an instance is written like '1g.10gb@4', got '1g.10gb'",
        ),
        (ONE_H100 + "mig = [7]\n", "an instance is written like '1g.10gb@4', got 7"),
        (ONE_H100 + 'mig = ["9g.10gb@0"]\n', "GPU 0: H100-80GB has no profile 9g.10gb"),
        (ONE_H100 + 'mig = ["3g.40gb@1"]\n', "3g.40gb cannot start at slot 1 of H100-80GB"),
        (ONE_H100 + 'mig = ["3g.40gb@0", "2g.20gb@2"]\n', "2g.20gb at slot 2 overlaps another"),
        ('[[gpu]]\nproduct = "T4"\nmemory_mib = 1\nmig = []\n', "T4 has no MIG, or is not in the"),
        ((ONE_H100 + 'uuid = "GPU-1"\n') * 2, "two GPUs have one UUID"),
        ("[gpu]\nmemory_mib = 1\n", "a machine is a list of [[gpu]], with two brackets"),
        ("gpu = 3\n", "a machine is a list of [[gpu]], with two brackets"),
        ("gpu = [3]\n", "GPU 0: a GPU is a table under [[gpu]], got 3"),
        ("gpus = 1\n", "unknown entry 'gpus'; a machine is a list of [[gpu]]"),
        ("[[gpu\n", "Expected"),
    ],
)
def test_a_file_that_describes_no_machine_is_refused_with_what_is_wrong(machine, text, wrong):
    with pytest.raises(GpuStateUnreadable) as refused:
        machine(text).read()

    sentence = str(refused.value)
    assert wrong in sentence
    assert sentence.startswith("The simulated machine cannot be read: ")
    assert sentence.endswith(" Correct the file.")


def test_a_missing_file_is_told_with_the_setting_that_names_it(tmp_path):
    with pytest.raises(GpuStateUnreadable, match=r"No such file.*Set 'c\.Aliquot\.simulated_m"):
        SimulatedSource(tmp_path / "nowhere.toml").read()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "machine.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(GpuStateUnreadable, match="Correct the file"):
        SimulatedSource(tmp_path / "machine.toml").read()


TOML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ROW = st.fixed_dictionaries(
    {},
    optional={
        "product": st.sampled_from(["NVIDIA A30", "NVIDIA H100 80GB HBM3", "X"]) | TOML,
        "memory_mib": st.integers(1, 99999) | TOML,
        "mig": st.lists(st.sampled_from(["1g.6gb@0", "2g.12gb@2", "@", "1g.6gb@-1"])) | TOML,
        "blocks": TOML,
        "max_sharers": TOML,
        "uuid": TOML,
        "node": TOML,
    },
)


@settings(deadline=None)  # a busy machine is no fault of the parser
@given(st.fixed_dictionaries({"gpu": st.lists(ROW, max_size=3) | TOML}))
def test_any_parsed_file_is_a_machine_or_one_sentence(document):
    outcome = gpus_or_sentence(document)

    if isinstance(outcome, str):
        assert outcome.startswith(("GPU ", "a machine is", "two GPUs"))
    else:
        assert all(isinstance(gpu.uuid, str) and gpu.memory_mib >= 1 for gpu in outcome)


def gpus_or_sentence(document):
    try:
        return gpus_described(document)
    except (ValueError, TypeError) as wrong:
        return str(wrong)
