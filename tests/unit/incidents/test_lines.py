import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.incidents.lines import level_name, parse_logfmt, understand

KEYS = st.from_regex(r'[^\s="]+', fullmatch=True).filter(lambda key: key.isprintable())
VALUES = st.one_of(st.none(), st.text())


def written(pairs: list[tuple[str, str | None]]) -> str:
    """Logfmt as Go's libraries write it."""
    return " ".join(key if value is None else f"{key}={quoted(value)}" for key, value in pairs)


def quoted(value: str) -> str:
    if re.fullmatch(r'[^\s"=\\]+', value) and value.isprintable():
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + escaped.replace("\t", "\\t").replace("\x1b", "\\x1b") + '"'


@given(st.lists(st.tuples(KEYS, VALUES)))
def test_logfmt_reads_what_was_written(pairs):
    assert parse_logfmt(written(pairs)) == pairs


@given(st.text())
def test_any_line_can_be_understood(text):
    understand(text)
    parse_logfmt(text)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a=1 b= c", [("a", "1"), ("b", ""), ("c", None)]),
        (r'm="a \"b\" \\ \n\t\u00e9\x41\U0001F600\q"', [("m", 'a "b" \\ \n\té' + "A😀q")]),
        ("url=http://x/?a=b", [("url", "http://x/?a=b")]),
        ('m="no end', None),
        ('m="a"b', None),
        ("=value", None),
        ('"text" a=1', None),
    ],
)
def test_logfmt_grammar(text, pairs):
    assert parse_logfmt(text) == pairs


@given(
    st.sampled_from(["level", "severity", "lvl", "log.level", "levelname", "LEVEL"]),
    st.sampled_from(["error", "ERROR", "Err", "50"]),
    st.sampled_from(["msg", "message", "event", "error"]),
    st.text(min_size=1).filter(str.strip),
)
def test_json_tells_level_and_message_under_any_usual_key(level_key, level, message_key, text):
    value = int(level) if level.isdigit() else level
    seen = understand(json.dumps({"a": [1], level_key: value, message_key: text}))
    assert (seen.level, seen.text) == ("error", text)


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("ERROR: some periodic error", "error", "ERROR: some periodic error"),
        ("CRITICAL:root:boom", "critical", "CRITICAL:root:boom"),
        ("[error] hi", "error", "[error] hi"),
        ("2026-01-31 12:00:00,123 - app.db - ERROR - msg", "error", "- app.db - ERROR - msg"),
        ("[2026-01-31 12:00:00 +0000] [7] [ERROR] Exception", "error", "[7] [ERROR] Exception"),
        ("2026/01/31 12:00:00 [error] 7#7: *1 open()", "error", "[error] 7#7: *1 open()"),
        ("[Sat Nov 21 12:00:00.1 2026] [core:error] [pid 1] x", "error", "[core:error] [pid 1] x"),
        ("12:00:00.000 [main] ERROR com.foo - m", "error", "[main] ERROR com.foo - m"),
        ("2026-01-31 12:00:00.000 | ERROR    | m:f:1 - x", "error", "| ERROR    | m:f:1 - x"),
        ("2026-01-31 12:00:00.000 UTC [1] FATAL:  no role", "fatal", "[1] FATAL:  no role"),
        ("E0131 12:00:00.123456       7 f.go:1] boom", "error", "      7 f.go:1] boom"),
        ("<3>disk on fire", "error", "disk on fire"),
        ("error: no such file", "error", "error: no such file"),
        ('{"log": {"level": "error"}, "message": "m"}', "error", "m"),
        ('{"level": 50, "err": {"message": "deep"}}', "error", "deep"),
        ('time="2026-01-31T12:00:00Z" level=error msg="a b" vmID=2', "error", "a b"),
        ("2026-01-31 12:00:00 INFO retry after ERROR", "info", "INFO retry after ERROR"),
        ("no ERROR here", "", "no ERROR here"),
        ("ERRORS: 0", "", "ERRORS: 0"),
        ("a=b x", "", "a=b x"),
        ("{not json}", "", "{not json}"),
        ("<3>" * 5000, "error", None),
        ("[" * 100_000, "", "[" * 4096),
        ("{" + '"a":{' * 5000 + "}" * 5001, "", None),
    ],
)
def test_usual_shapes(line, level, text):
    seen = understand(line)
    assert seen.level == level
    assert text is None or seen.text == text


def test_time_is_read_in_seconds_and_finer():
    for told in (1_700_000_000, 1_700_000_000_000, "2023-11-14T22:13:20Z", 1.7e18):
        assert understand(json.dumps({"msg": "m", "time": told})).time == 1_700_000_000


def test_levels_of_syslog_and_bunyan():
    assert [level_name(told) for told in ("3", "50", "60", "30", "²", "9" * 50)][:4] == [
        "error",
        "error",
        "fatal",
        "info",
    ]
