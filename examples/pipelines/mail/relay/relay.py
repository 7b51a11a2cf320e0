"""One link of a mail chain: takes mail by SMTP, adds a header, and hands it on, or keeps it.

NEXT: where to hand it on, as an address; without, it is printed. HEADER: what is added.
SECRET: what X-Signature is made with, if set.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import smtplib
from email import message_from_bytes, policy

NEXT = os.environ.get("NEXT", "")
HEADER = os.environ.get("HEADER", "")
SECRET = os.environ.get("SECRET", "").encode()
LINE_MAX = 4096
SIZE_MAX = 1 << 20


class RefusedError(Exception):
    """What the client is told instead of 250."""


def changed(data: bytes) -> bytes:
    """Return a message with this link's headers."""
    message = message_from_bytes(data, policy=policy.SMTP)
    if HEADER:
        message[f"X-{HEADER}"] = "yes"
    if SECRET:
        body = message.get_payload(decode=True) or b""
        message["X-Signature"] = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    return message.as_bytes()


def hand_on(sender: str, receivers: list[str], data: bytes) -> None:
    """Give a message to the next link, or print it where there is none."""
    if not NEXT:
        for line in data.decode("utf-8", "backslashreplace").splitlines():
            print(f"mail for {', '.join(receivers)}: {line}")
        return
    with smtplib.SMTP(NEXT, 25, timeout=20) as client:
        client.sendmail(sender, receivers, data)


class Session:
    """One client's conversation. Source: RFC 5321, the commands that a relay needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sender = ""
        self.receivers: list[str] = []

    async def run(self) -> None:
        self.say("220 relay ready")
        while line := await self.reader.readline():
            word, _, rest = line.decode("ascii", "replace").strip().partition(" ")
            if word.upper() == "QUIT":
                self.say("221 bye")
                return
            try:
                await self.obey(word.upper(), rest)
            except RefusedError as refused:
                self.say(str(refused))
            await self.writer.drain()

    async def obey(self, word: str, rest: str) -> None:
        if word in {"EHLO", "HELO", "NOOP"}:
            self.say("250 relay")
        elif word == "RSET":
            self.sender, self.receivers = "", []
            self.say("250 forgotten")
        elif word == "MAIL":
            self.sender, self.receivers = address(rest, "FROM:"), []
            self.say("250 sender noted")
        elif word == "RCPT":
            self.receivers.append(address(rest, "TO:"))
            self.say("250 receiver noted")
        elif word == "DATA":
            await self.take()
        else:
            raise RefusedError("502 unknown command")

    async def take(self) -> None:
        if not self.receivers:
            raise RefusedError("503 say RCPT first")
        self.say("354 end with a dot")
        data = b""
        while (line := await self.reader.readline()) not in {b".\r\n", b".\n", b""}:
            data += line[1:] if line.startswith(b"..") else line
            if len(data) > SIZE_MAX:
                raise RefusedError("552 too large")
        try:
            await asyncio.to_thread(hand_on, self.sender, self.receivers, changed(data))
        except OSError as error:
            print(f"cannot hand on to {NEXT}: {error}")
            raise RefusedError("451 the next link does not answer; try again later") from error
        self.say("250 taken")

    def say(self, line: str) -> None:
        self.writer.write(f"{line}\r\n".encode())


def address(rest: str, word: str) -> str:
    """Return the address in FROM:<...> or TO:<...>."""
    start, end = rest.find("<"), rest.find(">")
    if not rest.upper().startswith(word) or not 0 <= start < end:
        raise RefusedError(f"501 write {word}<ADDRESS>")
    return rest[start + 1 : end]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(300):
            await Session(reader, writer).run()
            await writer.drain()
    except (OSError, ValueError, TimeoutError) as error:
        print(f"a client was let go: {error}")
    finally:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default=":25", metavar="ADDRESS:PORT")
    host, _, port = parser.parse_args().listen.rpartition(":")
    server = await asyncio.start_server(serve, host or None, int(port), limit=LINE_MAX)
    print(f"{HEADER or 'relay'} listens at {host or '*'} port {port}, next is {NEXT or 'nobody'}")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
