"""Commands whose gateway does not answer, or not as it should."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.cli import admin
from headgate.cli.admin import NoGateway, Refused, try_admin


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "admin.token").write_text("hga-token\n")
    return tmp_path


@pytest.fixture
def server(data: Path) -> Iterator[type[http.server.BaseHTTPRequestHandler]]:
    class Answers(http.server.BaseHTTPRequestHandler):
        body: bytes | None = None

        def do_POST(self) -> None:
            if self.body is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(500)
            self.send_header("content-length", str(len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

        do_GET = do_POST  # noqa: N815 - the base class's names

        def log_message(self, *arguments: object) -> None:
            return

    found = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    (data / "admin.url").write_text(f"http://127.0.0.1:{found.server_port}\n")
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield Answers
    found.shutdown()
    thread.join()
    found.server_close()


def test_a_change_whose_answer_is_lost_is_never_made_a_second_time_on_the_store(data: Path, server: type) -> None:
    with pytest.raises(Refused, match="has not answered"):
        try_admin(data, "POST", "/keys", {"name": "k"})
    with pytest.raises(NoGateway):
        try_admin(data, "GET", "/keys")


def test_a_change_that_takes_too_long_is_not_made_a_second_time(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (data / "admin.url").write_text(f"http://127.0.0.1:{silent.getsockname()[1]}\n")
        with pytest.raises(Refused, match="has not answered"):
            try_admin(data, "POST", "/keys", {"name": "k"})


def test_where_nobody_listens_the_store_is_free(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    (data / "admin.url").write_text(f"http://127.0.0.1:{port}\n")
    with pytest.raises(NoGateway):
        try_admin(data, "POST", "/keys", {"name": "k"})


@pytest.mark.parametrize("body", [b"Internal Server Error", b"[]", b'{"error": "no"}', b""])
def test_an_answer_that_is_none_of_the_admin_apis_is_told_in_a_line(data: Path, server: type, body: bytes) -> None:
    server.body = body
    with pytest.raises(Refused, match="the admin API answers 500"):
        try_admin(data, "POST", "/keys", {"name": "k"})
