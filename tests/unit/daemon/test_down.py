"""``mizzen down`` beside ``mizzen up``: what it refuses, and what it says."""

from __future__ import annotations

from publishing import daemon_in_thread
from up_process import UpProcess

from mizzen.control import engine_lock

SITE = """
@pipeline
def site():
    put("site", make("site"))
"""
SHOP = """
@pipeline
def shop():
    put("shop", make("shop"))
"""


def make_site(up: UpProcess) -> None:
    """Have a ``mizzen up`` make the site, and end it."""
    up.write(SITE, "site")
    up.start()
    up.say("site", "v1")
    up.until("put site", "ok")
    assert up.end() == 0


def test_a_pipeline_that_runs_is_left_and_one_that_does_not_is_taken_down(up: UpProcess) -> None:
    up.write(SITE, "site", "shop")
    up.start()
    up.say("site", "v1")
    up.until("put site", "ok")
    refused = up.refused("down", "site")
    assert refused.startswith(
        f"error: cannot take down site: mizzen up runs it, pid {up.pid}; stop that first"
    )
    assert up.end() == 0
    up.write(SHOP)
    up.start()
    up.say("shop", "v1")
    up.until("put shop", "ok")
    with daemon_in_thread(up.folders.runtime):
        dry = up.mizzen("down", "site", "--dry-run")
        assert (dry.returncode, dry.stdout) == (0, "There is nothing left of it to free.\n")
        assert up.told("down", "site") == {"free": [], "keep": []}
        assert up.told("down", "shop", "--dry-run") == {"free": [], "keep": []}
    assert "it has made nothing here; there are: shop" in up.refused("down", "site")
    assert "mizzen up runs it" in up.refused("down", "shop")
    assert len(up.told("jobs", "list", "--pipeline", "site")) == 2


def test_under_a_new_name_nothing_is_left_to_the_old_one(up: UpProcess) -> None:
    make_site(up)
    up.write(SITE.replace("def site", "def shop"))
    assert [one["change"] for one in up.told("up", str(up.file), "--plan")] == ["stays", "stays"]
    up.start()
    up.until("put site", "ok")
    assert "it has made nothing here; there are: shop" in up.refused("down", "site")


def test_where_nothing_was_ever_made_jobs_are_named(up: UpProcess) -> None:
    line = up.refused("down", "site")
    assert line == "error: cannot take down site: it has made nothing here; see: mizzen jobs list"
    assert not up.folders.state.exists()


def test_no_mizzen_up_begins_meanwhile(up: UpProcess) -> None:
    make_site(up)
    with engine_lock.held(up.folders, "cannot hold it", "let go"):
        busy = f"a mizzen up or down runs with {up.folders.state}, {engine_lock.holder(up.folders)}"
        assert f"cannot start mizzen up: {busy}; stop that first" in up.refused("up", str(up.file))
        assert f"cannot take down site: {busy}; wait for it" in up.refused("down", "site")
