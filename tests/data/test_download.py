import hashlib
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jaxlessons.data.download import NoNetworkError, Source, cache_dir, check_file, fetch
from jaxlessons.errors import UserError

CONTENT = bytes(range(256)) * 700


class Handler(BaseHTTPRequestHandler):
    """Each address answers in its own way, good or broken."""

    def do_GET(self):
        self.server.asked.append(self.path)
        getattr(self, self.path[1:].split(".")[0])()

    def answer(self, body, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def good(self):
        self.answer(CONTENT)

    def short(self):
        self.answer(CONTENT[:-1])

    def altered(self):
        self.answer(CONTENT[:-1] + b"!")

    def long(self):
        self.answer(CONTENT * 100)

    def closed(self):
        self.answer(CONTENT[:1000], length=len(CONTENT))

    def reset(self):
        self.answer(CONTENT[:1000], length=len(CONTENT))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def chunks(self):
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"ff\r\n" + CONTENT[:100])

    def nonsense(self):
        self.wfile.write(b"this is no HTTP\r\n\r\n")

    def missing(self):
        self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.handle_error = lambda *args: None  # a client that hangs up is what some tests want
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def source_at(server, name):
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    return Source(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_file_is_fetched_once(server, tmp_path):
    source = source_at(server, "good.bin")
    path = fetch(source, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "good.bin"
    assert path.read_bytes() == CONTENT
    assert fetch(source, path.parent) == path
    assert server.asked == ["/good.bin"]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_address_works_without_a_server(tmp_path):
    (tmp_path / "here.bin").write_bytes(CONTENT)
    url = (tmp_path / "here.bin").as_uri()
    source = Source(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert fetch(source, tmp_path / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short.bin", "179,199 bytes where 179,200 were published"),
        ("altered.bin", "does not have the published checksum"),
        ("long.bin", "bytes where 179,200 were published"),
        ("closed.bin", "1,000 bytes where 179,200 were published"),
        ("reset.bin", "could not be reached"),
        ("chunks.bin", "could not be reached"),
        ("nonsense.bin", "could not be reached"),
        ("missing.bin", "could not be reached (Not Found)"),
    ],
)
def test_a_broken_download_is_told_by_name_and_leaves_nothing(name, message, server, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as told:
        fetch(source_at(server, name), tmp_path)
    assert name in str(told.value)
    assert ".part" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_never_ends_is_cut_off(server, tmp_path):
    with pytest.raises(UserError, match="bytes where") as told:
        fetch(source_at(server, "long.bin"), tmp_path)
    received = int(re.search(r"([\d,]+) bytes where", str(told.value))[1].replace(",", ""))
    assert len(CONTENT) < received <= len(CONTENT) + (1 << 20)


@pytest.mark.parametrize("damage", [CONTENT[:-5], CONTENT[:-1] + b"!"])
def test_a_damaged_copy_is_told_and_not_replaced_behind_ones_back(damage, server, tmp_path):
    path = tmp_path / "good.bin"
    path.write_bytes(damage)
    with pytest.raises(UserError, match=r"good\.bin .*delete it and run again"):
        fetch(source_at(server, "good.bin"), tmp_path)
    assert path.read_bytes() == damage
    assert server.asked == []


def test_a_good_copy_survives_a_source_that_has_broken(server, tmp_path):
    (tmp_path / "altered.bin").write_bytes(CONTENT)
    assert fetch(source_at(server, "altered.bin"), tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_an_unreachable_source_is_its_own_error(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file.bin"
        with pytest.raises(NoNetworkError, match=re.escape(f"{url} could not be reached (")):
            fetch(Source(url, 1, "0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checked_file_must_have_size_and_hash(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"abc")
    good = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_file(path, Source("http://x/file.bin", 3, good))
    with pytest.raises(UserError, match=r"file\.bin has 3 bytes where 4 were published"):
        check_file(path, Source("http://x/file.bin", 4, good))
    with pytest.raises(UserError, match=r"sha256 ba7816bf8f01\.\.\., expected 000000000000"):
        check_file(path, Source("http://x/file.bin", 3, "0" * 64))


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("JAXLESSONS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "jaxlessons"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "jaxlessons"
