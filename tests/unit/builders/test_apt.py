from pathlib import Path

import pytest

from mizzen.builders import apt
from mizzen.model.errors import Failure

TARGETS = """\
Debian bookworm-security http://mirror.test/debian-security/
Debian bookworm-updates http://mirror.test/debian/
Docker bookworm https://download.test/linux/debian/
Debian bookworm http://mirror.test/debian/
"""


def test_the_hosts_mirror_serves_other_suites_too():
    mirrors = apt.parse_targets(TARGETS, "trixie")
    assert mirrors == apt.Mirrors("http://mirror.test/debian", "http://mirror.test/debian-security")


def test_without_lists_debians_own_name_is_used():
    assert apt.parse_targets("", "trixie") == apt.Mirrors(apt.DEFAULT_MIRROR, apt.DEFAULT_SECURITY)


def test_a_cdrom_is_no_mirror():
    rows = "Debian bookworm cdrom:[Debian]/\nDebian bookworm-updates http://m.test/debian/\n"
    assert apt.parse_targets(rows, "bookworm").main == apt.DEFAULT_MIRROR


def test_sources_are_signed_and_have_updates_and_security():
    mirrors = apt.Mirrors("http://m.test/debian", "http://m.test/security")
    assert apt.source_lines(mirrors, "trixie", Path("/k.gpg")) == [
        "deb [signed-by=/k.gpg] http://m.test/debian trixie main",
        "deb [signed-by=/k.gpg] http://m.test/debian trixie-updates main",
        "deb [signed-by=/k.gpg] http://m.test/security trixie-security main",
    ]
    for alone in ("sid", "trixie-backports"):
        assert len(apt.source_lines(mirrors, alone, Path("/k.gpg"))) == 1


def test_configuration_keeps_the_hosts_proxy_and_nothing_else_of_it():
    dump = 'Acquire::http::Proxy "http://proxy.test";\nDPkg::Post-Invoke:: "rm -rf";\n'
    text = apt.configuration(Path("/cache"), dump)
    assert 'Acquire::http::Proxy "http://proxy.test";' in text
    assert "Post-Invoke" not in text
    assert 'Dir::Etc::parts "/dev/null";' in text


def test_the_hosts_suite_is_its_codename():
    assert apt.host_suite('ID=debian\nVERSION="13 (trixie)"\nVERSION_CODENAME=trixie\n') == "trixie"
    assert apt.host_suite("ID=ubuntu\nVERSION_CODENAME=noble\n") == apt.DEFAULT_SUITE
    assert apt.host_suite("") == apt.DEFAULT_SUITE


@pytest.mark.parametrize("suite", ["../etc", "Trixie", "a b", ""])
def test_what_names_no_suite_is_refused(suite):
    with pytest.raises(Failure):
        apt.check_suite(suite)


def test_apts_complaints_become_one_line_and_advice():
    stderr = "W: noise\nE: Failed to fetch http://m.test Could not resolve 'm.test'\nE: more\n"
    why, fix = apt.explain(stderr)
    assert why == "Failed to fetch http://m.test Could not resolve 'm.test'"
    assert "network" in fix
