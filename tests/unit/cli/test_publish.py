"""The commands as a user types them, without root's daemon and without machines."""

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.server.server_address[0].encode()
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Length", str(len(host)))
        self.end_headers()
        self.wfile.write(host)

    def log_request(self, code="-", size="-"):
        pass


def free_port() -> int:
    with socket.create_server(("", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def guest_port():
    """A port at which 127.0.0.2 and 127.0.0.3 answer with their addresses."""
    with contextlib.ExitStack() as stack:
        port = 0
        for address in ("127.0.0.2", "127.0.0.3"):
            server = stack.enter_context(http.server.HTTPServer((address, port), Handler))
            port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield port


@pytest.fixture
def mizzen(tmp_path):
    """Run a command; its status and output are returned."""
    (tmp_path / "mizzen.toml").touch()
    env = os.environ | {
        "MIZZEN_STATE": str(tmp_path / "state"),
        "MIZZEN_RUNTIME": str(tmp_path / "run"),
        "MIZZEN_CONFIG": str(tmp_path / "mizzen.toml"),
        "PYTHONPATH": "src",
        "COLUMNS": "200",
    }
    env.pop("MIZZEN_NET_SOCKET", None)
    command = [sys.executable, "-m", "mizzen"]
    with subprocess.Popen(
        [*command, "net", "daemon", "--user"], env=env, stderr=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stderr is not None
        assert "ready" in daemon.stderr.readline()

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *arguments], env=env, capture_output=True, text=True, check=False
            )

        yield run
        daemon.send_signal(signal.SIGTERM)


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return answer.read().decode()


def test_a_service_is_added_switched_rolled_back_and_removed(mizzen, guest_port):
    host = free_port()
    ports = f"{host}:{guest_port}"
    added = mizzen("publish", "add", "web", "127.0.0.2", "--port", ports, "--ready", "http:/")
    assert added.returncode == 0, added.stderr
    assert get(host) == "127.0.0.2"
    switched = mizzen("publish", "switch", "web=127.0.0.3", "--json")
    (one,) = json.loads(switched.stdout)["services"]
    assert (one["number"], one["before"], one["dropped"]) == (2, 1, 0)
    assert one["left_running"] == ["127.0.0.2"]
    assert get(host) == "127.0.0.3"
    back = mizzen("publish", "rollback", "web")
    assert "127.0.0.3 runs on: Mizzen did not start it" in back.stdout
    assert get(host) == "127.0.0.2"
    again = mizzen("publish", "rollback", "web")
    assert (again.returncode, "no release was live before web-3" in again.stderr) == (1, True)
    shown = json.loads(mizzen("publish", "show", "web", "--json").stdout)
    assert [each["state"] for each in shown["releases"]] == ["retired", "retired", "live"]
    assert "3 (127.0.0.2)" in mizzen("publish", "list").stdout
    assert "it is a service's" in mizzen("collect", "--dry-run").stdout
    assert mizzen("publish", "remove", "web").returncode == 0
    with pytest.raises(OSError, match="refused"):
        get(host)
    assert json.loads(mizzen("publish", "list", "--json").stdout) == []


def test_a_release_that_does_not_get_ready_is_current_and_what_was_live_stays(mizzen, guest_port):
    host = free_port()
    probe = ("--ready", "http:/", "--expect", "127.0.0.2", "--attempts", "2", "--interval", "0")
    mizzen("publish", "add", "web", "127.0.0.2", "--port", f"{host}:{guest_port}", *probe)
    failed = mizzen("publish", "switch", "web=127.0.0.3")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()[-1:]) == 1
    assert "answered without '127.0.0.2'; web-1 stays live" in failed.stderr
    (listed,) = json.loads(mizzen("publish", "list", "--json").stdout)
    assert (listed["live"]["number"], listed["current"]["number"]) == (1, 2)
    assert listed["current"]["state"] == "failed"
    assert get(host) == "127.0.0.2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "Web", "127.0.0.2", "--port", "1:1"), "cannot name a service"),
        (("add", "web", "127.0.0.2", "--port", "1"), "write HOST:GUEST"),
        (("add", "web", "127.0.0.2", "--port", "1:1", "--ready", "ping"), "write http:/PATH"),
        (("switch", "web"), "write NAME=TARGET"),
        (("switch",), "no service is named"),
    ],
)
def test_a_wrong_command_line_is_told_apart(mizzen, arguments, said):
    done = mizzen("publish", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("command", [("switch", "web=x"), ("rollback", "web"), ("show", "web")])
def test_a_service_that_is_not_there_is_told(mizzen, command):
    done = mizzen("publish", *command)
    assert done.returncode == 1
    assert "there is no such service; see: mizzen publish list" in done.stderr
