import pytest

from mizzen.control.settings import Settings, read_settings, settings_path
from mizzen.model.errors import Failure


@pytest.fixture
def written(tmp_path, monkeypatch):
    path = tmp_path / "mizzen.toml"
    monkeypatch.setenv("MIZZEN_CONFIG", str(path))
    return path.write_text


def test_without_a_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.delenv("MIZZEN_CONFIG", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert read_settings() == Settings()
    assert settings_path() == tmp_path / "mizzen" / "mizzen.toml"


def test_a_file_is_read(written):
    written('[errors]\nmatch = ["a+"]\nignore = ["b"]\nlevels = ["warn"]\n')
    errors = read_settings().errors
    assert (errors.match, errors.ignore, errors.levels) == (("a+",), ("b",), ("warn",))


def test_prefixes_are_read(written):
    written('[network]\nprefixes = ["10.1.0.0/16"]\n')
    assert read_settings().network.prefixes == ("10.1.0.0/16",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[errors]\nmatches = []", r"there is no setting errors\.matches;"),
        ("[error]", "there is no setting error;"),
        ("[errors]\nmatch = 7", r"errors\.match: Expected `array`, got `int`"),
        ("[errors", "mizzen.toml"),
    ],
)
def test_what_is_no_setting_is_refused_in_one_line(written, text, words):
    written(text)
    with pytest.raises(Failure, match=words) as caught:
        read_settings()
    assert "mizzen.toml" in str(caught.value)


def test_a_file_that_was_named_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MIZZEN_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(Failure, match="No such file"):
        read_settings()
