"""The kernel is found among what only looks like one, and whatever the guest put there."""

from __future__ import annotations

import struct

import pytest
from fuzz.memory import Mapping

from fuzz import guest
from mizzen.introspection.kernel import image
from mizzen.introspection.memory.physical import PAGE
from mizzen.model.errors import Failure

E820 = struct.pack("<QQI", *guest.E820[-1])


def changed(at: int, data: bytes) -> Mapping:
    ram = bytearray(guest.built())
    ram[at : at + len(data)] = data
    return Mapping(ram)


def without_ram() -> Mapping:
    """Its memory map tells of more RAM than there is."""
    more = struct.pack("<QQI", 1 << 20, 1 << 30, 1)
    return changed(guest.built().index(E820), more)


def without_direct_map() -> Mapping:
    return changed(guest.TOP + 8 * 273, struct.pack("<Q", 0x7FFF_FFFF_F003))


def with_a_directory_that_leads_nowhere() -> Mapping:
    return changed(guest.LEVEL2, struct.pack("<Q", 0x7FFF_FFFF_F003))


FALSE = [without_ram, without_direct_map, with_a_directory_that_leads_nowhere]


def test_a_kernel_is_found_with_its_image_and_direct_map():
    kernel = image.find([Mapping(bytearray(guest.built()))])
    assert kernel is not None
    assert kernel.release == "6.6.6"
    assert kernel.direct_map == guest.DIRECT_MAP
    assert [run.physical for run in kernel.image] == [guest.TEXT, guest.DATA]


def test_the_top_table_is_the_kernel_s_and_not_that_of_a_process():
    """Of the image, the gaps between its parts are freed, and a process's table may be in one."""
    table = guest.built()[guest.TOP : guest.TOP + PAGE]
    kernel = image.find([changed(guest.TEXT + (1 << 20), table)])
    assert kernel is not None
    assert kernel.tables.root == guest.TOP


@pytest.mark.parametrize("false", FALSE)
def test_what_only_looks_like_a_kernel_hides_none(false):
    own = Mapping(bytearray(guest.built()))
    kernel = image.find([false(), own])
    assert kernel is not None
    assert kernel.symbols.address("init_task")


@pytest.mark.parametrize("false", FALSE[1:])
def test_what_leads_out_of_ram_is_no_kernel(false):
    assert image.find([false()]) is None


def test_a_kernel_whose_ram_is_not_all_there_is_named():
    with pytest.raises(Failure, match="do not agree"):
        image.find([without_ram()])
