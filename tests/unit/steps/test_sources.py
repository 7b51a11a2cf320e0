"""The steps that pipelines begin with, in an engine, with real repositories."""

import asyncio

from repositories import Repository, serving
from stepping import Stepper, told

from mizzen.engine.pipeline import load
from mizzen.engine.states import Failed, Ok
from mizzen.engine.terms import constant
from mizzen.host.paths import Folders
from mizzen.sources.poke import poke
from mizzen.steps import git, local


def test_a_branchs_commit_and_what_it_consists_of_follow_it(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit("one\n\nbody", a="1")
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = {}

    def pipeline():
        source = git.head(website.path, constant("main"), every=5)
        seen["terms"] = [source.hash, source.short, source.subject, source.message]

    async def scenario():
        async with stepper.running(pipeline) as engine:
            terms = seen["terms"]
            await engine.until(lambda: isinstance(terms[0].state, Ok))
            values = [term.state.value for term in terms]
            assert values == [first, first[:12], "one", "one\n\nbody"]
            second = website.commit("two", a="2")
            await engine.until(lambda: terms[0].state == Ok(second))
            assert terms[2].state == Ok("two")

    asyncio.run(scenario())


def test_the_last_commit_stays_while_its_repository_cannot_be_reached(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit(a="1")
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = {}

    async def scenario(server):
        url = server.url("website")

        def pipeline():
            seen["hash"] = git.head(url).hash

        async with stepper.running(pipeline) as engine:
            await engine.until(lambda: isinstance(seen["hash"].state, Ok))
            server.status = 503
            website.commit(a="2")
            assert poke(url) == 1
            await asyncio.to_thread(server.refused.wait)
            while not stepper.clock.sleepers:  # until the engine waits to look again
                await stepper.quiet()
            assert seen["hash"].state == Ok(first)

    with serving(tmp_path) as server:
        asyncio.run(scenario(server))


def test_wrong_arguments_are_told_at_their_step_with_its_line(tmp_path):
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    (tmp_path / "inside").mkdir()

    def pipeline():
        git.head("ext::sh -c true")
        git.head("https://host.test/x", every="soon")
        git.head("https://host.test/x", branch=3)
        git.clone("https://me:secret@host.test/x")
        git.clone("https://host.test/x", commit="abc")
        local.path(tmp_path / "inside")

    async def scenario():
        async with stepper.running(pipeline) as engine:
            (graph,) = engine.graphs
            drawn = [term for term in graph.terms.values() if term.drawn]
            *wrong, right = drawn
            await engine.until(lambda: isinstance(right.state, Ok))
            for term in wrong:
                assert isinstance(term.state, Failed), term.label
                assert "mend " + __file__ in str(term.state.error)
            lines = "\n".join(f"{term.label}: {told(term.state)}" for term in wrong)
            assert "it would run the program git-remote-ext" in lines
            assert "'soon' is no length of time" in lines
            assert "branch: Expected `str`, got `int`" in lines
            assert "it takes either a tag or a commit" in lines
            assert "'abc' is no whole hash" in lines
            assert "secret" not in lines

    asyncio.run(scenario())


def test_a_clone_is_found_once_and_remembered(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit(a="1")
    website("tag", "v1")
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = {}

    def pipeline():
        seen["hash"] = git.clone(website.path, tag=constant("v1")).hash

    async def scenario():
        async with stepper.running(pipeline) as engine:
            await engine.until(lambda: seen["hash"].state == Ok(first))
        website.commit(a="2")
        website("tag", "--force", "v1")
        async with stepper.running(pipeline) as engine:
            await engine.until(lambda: isinstance(seen["hash"].state, Ok))
            assert seen["hash"].state == Ok(first)

    asyncio.run(scenario())


def test_a_folder_and_a_repository_are_looked_for_beside_the_pipelines_file(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit(a="1")
    (tmp_path / "site").mkdir()
    file = tmp_path / "pipelines" / "website.py"
    file.parent.mkdir()
    file.write_text(
        "from mizzen import pipeline\n"
        "from mizzen.steps import git, local\n"
        "@pipeline\n"
        "def website():\n"
        "    git.head('../website')\n"
        "    local.path('../site')\n"
    )
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))

    async def scenario():
        async with stepper.running() as engine:
            (graph,) = load(file)
            engine.add(graph)
            head, folder = [term for term in graph.terms.values() if term.drawn]
            await engine.until(lambda: isinstance(head.state, Ok) and isinstance(folder.state, Ok))
            assert (head.label, head.state.value.hash) == ("git head ../website main", first)
            assert (folder.label, folder.state.value.path) == (
                "local path ../site",
                tmp_path / "site",
            )

    asyncio.run(scenario())
