import asyncio
import json

from stepping import Stepper, Watch, told, world
from web import receiving

from mizzen.engine.states import Failed, Ok
from mizzen.engine.step import step
from mizzen.host.paths import Folders
from mizzen.steps import notify


def bodies(server):
    return [json.loads(body) for _, _, body in server.received]


async def until(engine, term, condition):
    await engine.until(lambda: condition(term.state))


def test_a_message_is_sent_when_it_is_another_and_not_again_after_a_restart(tmp_path):
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = {}

    async def scenario(server):
        def website():
            text = step(Watch, name="main").map(lambda value: f"at {value}")
            seen["sent"] = notify.webhook(server.url("/hook"), text)

        def at(value):
            return lambda state: isinstance(state, Ok) and state.value.text == f"at {value}"

        async with stepper.running(website) as engine:
            for value in ("1", "1", "2"):
                world.see("main", value)
                await until(engine, seen["sent"], at(value))
        async with stepper.running(website) as engine:
            world.see("main", "2")
            await until(engine, seen["sent"], at("2"))
        assert [body["text"] for body in bodies(server)] == ["at 1", "at 2"]
        assert bodies(server)[0] == {
            "text": "at 1", "pipeline": "website", "name": "", "value": None,
        }  # fmt: skip
        assert server.received[0][1]["Content-Type"] == "application/json"

    world.clear()
    with receiving() as server:
        asyncio.run(scenario(server))


def test_a_value_and_an_error_are_sent_along(tmp_path):
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = {}

    async def scenario(server):
        def website():
            watched = step(Watch, name="main")
            seen["good"] = notify.webhook(server.url("/"), "moved", of=watched, name="moves")
            seen["bad"] = notify.webhook(server.url("/"), of=watched.catch(), name="trouble")

        async with stepper.running(website) as engine:
            world.see("main", "1")
            for term in seen.values():
                await until(engine, term, lambda state: isinstance(state, Ok))
            world.see("main", ValueError("it broke"))
            await until(engine, seen["bad"], lambda state: state == Ok(notified("it broke", 204)))
        told = {(body["name"], body["text"], body["value"]) for body in bodies(server)}
        assert told == {
            ("moves", "moved", "1"), ("trouble", "1", "1"), ("trouble", "it broke", "it broke"),
        }  # fmt: skip

    world.clear()
    with receiving() as server:
        asyncio.run(scenario(server))


def notified(text, status):
    return notify.Notification(text=text, status=status)


def test_a_server_in_trouble_is_asked_again_and_one_that_refuses_is_not(tmp_path):
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = {}

    async def scenario(server):
        def website():
            seen["sent"] = notify.webhook(server.url("/secret"), "hello")

        server.statuses = [503, 429, 404]
        async with stepper.running(website) as engine:
            for _ in range(2):
                await until(engine, seen["sent"], lambda state: "again in" in told(state))
                before = seen["sent"].state
                stepper.clock.pass_(4)
                await until(engine, seen["sent"], lambda state, before=before: state != before)
            await until(engine, seen["sent"], lambda state: isinstance(state, Failed))
            line = told(seen["sent"].state)
            assert "cannot notify 127.0.0.1: it answered with status 404" in line
            assert "secret" not in line + seen["sent"].label
        assert len(server.received) == 3

    world.clear()
    with receiving() as server:
        asyncio.run(scenario(server))


def test_what_cannot_be_sent_is_told_at_its_step(tmp_path):
    stepper = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    seen = []

    def website():
        seen[:] = [
            notify.webhook("ftp://host.test/", "x"),
            notify.webhook("http://me:secret@host.test/", "x"),
            notify.webhook("http://host.test/"),
            notify.webhook("http://host.test/", 3),
            notify.webhook("http://127.0.0.1:1/", "first"),
            notify.webhook("http://127.0.0.1:1/", "second"),
        ]

    async def scenario():
        async with stepper.running(website) as engine:
            *wrong, first, second = seen
            await until(engine, second, lambda state: isinstance(state, Failed))
            assert all(isinstance(term.state, Failed) for term in wrong)
            await until(engine, first, lambda state: "again in" in told(state))
            assert "connection refused" in told(first.state)
            assert "says otherwise of the same name" in told(second.state)
            assert "secret" not in "".join(told(term.state) for term in seen)

    world.clear()
    asyncio.run(scenario())
