"""Programs are taken out of packages with the libraries they need."""

from __future__ import annotations

from mizzen.benches import debian


def test_a_library_is_the_first_of_its_alternatives():
    depends = "libc6 (>= 2.34), libz1 | zlib1g (>= 1:1.1.4), libgcc-s1:any, zlib1g"
    assert debian.libraries(depends) == ["libc6", "libz1", "libgcc-s1", "zlib1g"]
    assert debian.libraries("") == []


def test_what_is_no_library_is_not_needed_to_run_a_program():
    assert debian.libraries("adduser, libc6 (>= 2.4), nginx-common (= 1.22), perl") == ["libc6"]


def test_a_program_runs_on_the_libraries_beside_it(tmp_path):
    (tmp_path / debian.LIBRARIES[1]).mkdir(parents=True)
    linker = tmp_path / debian.LIBRARIES[1] / debian.LINKER
    linker.write_bytes(b"")
    command = debian.command(tmp_path, "usr/bin/wrk", "-v")
    places = ":".join(f"{tmp_path}/{folder}" for folder in debian.LIBRARIES)
    assert command == [str(linker), "--library-path", places, f"{tmp_path}/usr/bin/wrk", "-v"]
