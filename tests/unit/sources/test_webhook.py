import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.sources import webhook

GITHUB = {"repository": {"clone_url": "https://f.test/a/b.git", "ssh_url": "git@f.test:a/b.git",
                         "html_url": "https://f.test/a/b", "private": False, "id": 1},
          "ref": "refs/heads/main", "commits": []}  # fmt: skip
GITLAB = {"project": {"git_http_url": "https://g.test/a/b.git", "web_url": "https://g.test/a/b"},
          "repository": {"git_ssh_url": "git@g.test:a/b.git", "homepage": None}}  # fmt: skip


def digest(secret, body):
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@given(st.text(min_size=1), st.binary(), st.sampled_from(webhook.SIGNATURES))
def test_who_knows_the_secret_is_believed_and_nobody_else(secret, body, header):
    good = digest(secret, body)
    assert webhook.signed({header.title(): good}, body, secret)
    assert webhook.signed({header: f"sha256={good}"}, body, secret)
    assert not webhook.signed({header: good}, body + b"x", secret)
    assert not webhook.signed({header: digest(secret + "x", body)}, body, secret)
    assert not webhook.signed({header: good[:-1]}, body, secret)
    assert not webhook.signed({}, body, secret)
    assert not webhook.signed({header: digest("", body)}, body, "")


@given(st.text(min_size=1), st.text())
def test_gitlabs_token_is_the_secret_itself(secret, other):
    assert webhook.signed({"X-Gitlab-Token": secret}, b"", secret)
    assert webhook.signed({"X-Gitlab-Token": other}, b"", secret) == (other == secret)
    assert not webhook.signed({"X-Gitlab-Token": ""}, b"", "")


def test_pushes_name_all_urls_of_their_repository():
    body = json.dumps(GITHUB).encode()
    urls = ("https://f.test/a/b.git", "git@f.test:a/b.git", "https://f.test/a/b")
    assert webhook.pushed({"X-GitHub-Event": "push"}, body) == urls
    assert webhook.pushed({"X-Forgejo-Event": "push", "X-Other": "1"}, body) == urls
    form = {"X-GitHub-Event": "push", "Content-Type": "application/x-www-form-urlencoded"}
    assert webhook.pushed(form, urlencode({"payload": body}).encode()) == urls
    for event in ("Push Hook", "Tag Push Hook"):
        told = webhook.pushed({"x-gitlab-event": event}, json.dumps(GITLAB).encode())
        assert told == ("git@g.test:a/b.git", "https://g.test/a/b.git", "https://g.test/a/b")


def test_other_events_name_nothing():
    assert webhook.pushed({"X-GitHub-Event": "ping"}, b"{}") == ()
    assert webhook.pushed({}, b"") == ()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"repository": 1}', b"[" * 9999])
def test_what_is_no_push_is_refused(body):
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        with pytest.raises(Failure, match="cannot read the webhook"):
            webhook.pushed({"X-GitHub-Event": "push", "Content-Type": kind}, body)


@given(st.binary(), st.sampled_from(["application/json", "application/x-www-form-urlencoded"]))
def test_any_body_is_read_or_refused(body, kind):
    try:
        webhook.pushed({"X-Gitea-Event": "push", "Content-Type": kind}, body)
    except Failure as failure:
        assert failure.fix
