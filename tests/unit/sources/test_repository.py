import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.sources import repository

HERE = Path("/pipelines")


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("/srv/git/website.git", "/srv/git/website.git"),
        ("../website", "/website"),
        ("website:x/..", "website:x/.."),
        ("./host:path", "/pipelines/host:path"),
        ("https://host/website.git", "https://host/website.git"),
        ("git@host:website.git", "git@host:website.git"),
        ("ssh://[fd00::1]:22/website", "ssh://[fd00::1]:22/website"),
        ("file:///srv/git/website", "file:///srv/git/website"),
    ],
)
def test_paths_are_made_absolute_and_urls_stay(name, whole):
    assert repository.understood(name, HERE) == whole


@pytest.mark.parametrize(
    "name",
    [
        "", "-x", "--upload-pack=x", "ext::sh -c true", "fd::17", "x::https://host/x",
        "ftp://host/x", "://", "https://", "https:///path", "https://host/a b", "https://h:x/y",
        "https://host/a\nb", "a\0b",
    ],
)  # fmt: skip
def test_what_would_run_programs_or_is_no_name_is_refused(name):
    with pytest.raises(Failure):
        repository.understood(name, HERE)


@example("~0")  # a user that there is not
@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(name):
    try:
        whole = repository.understood(name, HERE)
    except Failure:
        return
    assert not whole.startswith("-")
    assert repository.understood(whole, Path("/other")) == whole
    repository.same(whole)


def test_the_urls_of_one_repository_are_the_same():
    names = [
        "https://Forge.test/Group/website.git",
        "https://me:secret@forge.test/group/website/",
        "http://forge.test:3000/group/website",
        "git@forge.test:group/website.git",
        "ssh://git@forge.test:2222/group/website.git",
        "git://forge.test/group/website.git/",
    ]
    assert {repository.same(name) for name in names} == {"forge.test/group/website"}
    others = ["https://forge.test/group/website2", "https://forge2.test/group/website"]
    assert not {"forge.test/group/website"} & {repository.same(name) for name in others}


def test_a_shown_name_has_no_password():
    assert repository.shown("https://me:secret@host/x@y") == "https://host/x@y"
    assert repository.shown("git@host:x") == "git@host:x"


@pytest.mark.parametrize(
    ("base", "url", "whole"),
    [
        ("https://host/a/b.git", "../c.git", "https://host/a/c.git"),
        ("https://host/a/b.git", "../../d/c.git", "https://host/d/c.git"),
        ("https://host/a/b.git/", "./c", "https://host/a/b.git/c"),
        ("git@host:a/b", "../c", "git@host:a/c"),
        ("git@host:b", "../c", "git@host:c"),
        ("/srv/git/b", "../c", "/srv/git/c"),
        ("/srv/git/b", "../x/../c", "/srv/git/c"),
        ("https://host/a", "ssh://other/c", "ssh://other/c"),
    ],
)
def test_a_submodule_is_found_from_where_it_is_named(base, url, whole):
    assert repository.submodule(base, url, path="sub") == whole


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://host/a", "../../c"),
        ("https://host/a", "/etc"),
        ("https://host/a", "file:///etc"),
        ("/srv/git/b", "../../private/c"),
        ("/srv/git/b", "/srv/c"),
        ("/srv/git/b", "../../../../c"),
        ("git@host:b", "../../c"),
        ("https://host/a", "ext::true"),
    ],
)
def test_a_submodule_leads_neither_out_of_its_host_nor_into_this_one(base, url):
    with pytest.raises(Failure):
        repository.submodule(base, url, path="sub")


PARTS = [
    ".",
    "..",
    "/",
    "//",
    "a",
    "lock",
    ".lock",
    "@",
    "{",
    "~",
    "*",
    " ",
    "-",
    "[",
    "\\",
    "\x7f",
    "\n",
    "é",
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PARTS), max_size=5).map("".join))
def test_names_of_branches_are_those_that_git_takes(name):
    git = ["git", "check-ref-format", f"refs/heads/{name}"]
    assert repository.is_ref(name) == (subprocess.run(git, check=False).returncode == 0)
