from __future__ import annotations

import pytest

from mizzen.host import sockets


def test_socket_on_a_path_longer_than_an_address(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "socket"
    with sockets.listen(path), sockets.connect(path) as client:
        client.send(b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConnectionRefusedError):
        sockets.connect(path)
    with sockets.listen(path), sockets.connect(path):
        pass
