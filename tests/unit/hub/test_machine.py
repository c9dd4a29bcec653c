from __future__ import annotations

import os

import pytest

from edgevit.machine import this_machine

XEON = "processor : 0\nmodel name : Xeon\nflags : avx2 fma\n\nprocessor : 1\nmodel name : Xeon\nflags : avx2 fma\n"
ARM = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd40\n"


@pytest.fixture
def read(tmp_path):
    def read(text: str):
        file = tmp_path / "cpuinfo"
        file.write_text(text)
        return this_machine(file)

    return read


def test_the_same_description_is_the_same_machine(read):
    assert read(XEON) == read(XEON)
    assert read(XEON).cpu == "Xeon"


def test_instruction_sets_tell_two_machines_of_one_model_apart_and_their_order_does_not(read):
    assert read(XEON) == read(XEON.replace("avx2 fma", "fma avx2"))
    assert read(XEON) != read(XEON.replace("avx2 fma", "avx2"))


def test_arm_has_no_model_name_but_numbers(read):
    assert read(ARM).cpu == "Arm implementer 0x41 part 0xd40"
    assert read(ARM).features != read(ARM.replace("asimd", "sve")).features


def test_a_system_without_that_file_still_has_an_answer(tmp_path):
    assert this_machine(tmp_path / "none").cpus >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to CPUs")
def test_only_the_cpus_that_this_process_may_use_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert this_machine().cpus == 1
    finally:
        os.sched_setaffinity(0, before)
    assert this_machine().cpus == len(before)
