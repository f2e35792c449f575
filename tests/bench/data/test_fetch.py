"""Downloads against a real server on this machine that breaks off, lies and refuses on demand."""

import contextlib
import re
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.data.fetch import fetch
from bench.data.pins import PAPER, Pin, blob_id, pins_for
from bench.errors import DataError, Unavailable, UnknownName

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes, eight chunks


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.break_after = {}  # path: bytes to send before the line is cut, one entry a request
        self.answers = {}  # path: status codes to give first
        self.asked = Counter()
        self.ranges = []
        self.knows_ranges = True
        self.lengths = {}  # path: what is announced instead of the true length
        self.drips = 0.0  # seconds before each piece of a slow answer

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def do_GET(self):
        server = self.server
        server.asked[self.path] += 1
        if server.answers.get(self.path):
            return self.send_error(server.answers[self.path].pop(0))
        if self.path not in server.files:
            return self.send_error(404)
        body, status = server.files[self.path], 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.knows_ranges:
            server.ranges.append(int(wanted[1]))
            if int(wanted[1]) >= len(body):
                return self.send_error(416)
            body, status = body[int(wanted[1]) :], 206
        self.send_response(status)
        self.send_header("Content-Length", server.lengths.get(self.path, str(len(body))))
        self.end_headers()
        while server.drips and body:
            time.sleep(server.drips)
            try:
                self.wfile.write(body[:1000])
            except OSError:
                return None
            body = body[1000:]
        cuts = server.break_after.get(self.path)
        with contextlib.suppress(ConnectionError):  # a client may have enough before the end
            self.wfile.write(body[: cuts.pop(0)] if cuts else body)
        return None


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def pin(server, target="book/train.csv", content=CONTENT, served=None):
    made = Pin(target, "someone/data", "c0ffee", f"data dir/{target}", blob_id(content))
    server.files[made.url("")] = content if served is None else served
    return made


def url_path(made):
    return made.url("")


def test_blob_ids_are_those_of_git():
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_files_come_whole_in_parallel_and_only_once(server, tmp_path):
    pins = [pin(server, f"toy/{i}.csv", CONTENT[i:]) for i in range(9)]
    lines = []
    paths = fetch(pins, tmp_path, base=server.base, say=lines.append)
    assert [p.read_bytes() for p in paths] == [CONTENT[i:] for i in range(9)]
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == [f"{i}.csv" for i in range(9)]
    assert len(lines) == 9 and lines[-1].startswith("[9/9] toy/")
    fetch(pins, tmp_path, base=server.base, say=lines.append)
    assert lines[-1].endswith("already here")
    assert set(server.asked.values()) == {1}


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    made = pin(server)
    server.break_after[url_path(made)] = [100_000, 50_000]
    lines = []
    fetch([made], tmp_path, base=server.base, pauses=(0, 0), say=lines.append)
    assert (tmp_path / made.target).read_bytes() == CONTENT
    assert server.ranges == [100_000, 150_000]


def test_the_next_run_goes_on_after_a_run_that_gave_up(server, tmp_path):
    made = pin(server)
    server.break_after[url_path(made)] = [123_456]
    with pytest.raises(Unavailable, match="same command again to go on"):
        fetch([made], tmp_path, base=server.base, pauses=())
    assert not (tmp_path / made.target).exists()
    lines = []
    fetch([made], tmp_path, base=server.base, pauses=(), say=lines.append)
    assert (tmp_path / made.target).read_bytes() == CONTENT
    assert server.ranges == [123_456]
    assert "taken up" in lines[0]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    made = pin(server)
    server.knows_ranges = False
    server.break_after[url_path(made)] = [99_999]
    fetch([made], tmp_path, base=server.base, pauses=(0,))
    assert (tmp_path / made.target).read_bytes() == CONTENT


@pytest.mark.parametrize("junk", [b"junk", CONTENT + b"longer than the file"])
def test_a_wrong_beginning_is_thrown_away(server, tmp_path, junk):
    made = pin(server)
    part = tmp_path / f"book/.train.csv.{made.blob[:12]}.part"
    part.parent.mkdir()
    part.write_bytes(junk)
    fetch([made], tmp_path, base=server.base, pauses=())
    assert (tmp_path / made.target).read_bytes() == CONTENT
    assert not part.exists()


def test_a_changed_file_is_refused_and_the_old_one_stays(server, tmp_path):
    made = pin(server, served=CONTENT[:-1] + b"!")
    old = tmp_path / made.target
    old.parent.mkdir()
    old.write_bytes(b"what was here before")
    with pytest.raises(DataError, match="another file than the pinned one") as caught:
        fetch([made], tmp_path, base=server.base, pauses=(0, 0))
    assert made.blob in str(caught.value) and str(old) in str(caught.value)
    assert old.read_bytes() == b"what was here before"
    assert [p.name for p in old.parent.iterdir()] == ["train.csv"]


def test_a_file_that_is_gone_is_asked_for_once(server, tmp_path):
    made = pin(server)
    server.files.clear()
    with pytest.raises(DataError, match="answers 404: the file is gone"):
        fetch([made], tmp_path, base=server.base, pauses=(0, 0))
    assert server.asked[url_path(made)] == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    made = pin(server)
    server.answers[url_path(made)] = [503, 429]
    fetch([made], tmp_path, base=server.base, pauses=(0, 0))
    assert server.asked[url_path(made)] == 3


def test_offline_is_one_error_that_says_what_to_do(server, tmp_path):
    base = server.base
    server.shutdown()
    server.server_close()
    pins = [pin(server, f"toy/{i}.csv") for i in range(3)]
    with pytest.raises(Unavailable) as caught:
        fetch(pins, tmp_path, base=base, pauses=())
    said = str(caught.value)
    assert "\n" not in said
    for part in ("on a machine with internet", "BENCH_DATA", "by hand: save http", "git blob"):
        assert part in said


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "book").write_text("a file where the folder should be")
    made = pin(server)
    with pytest.raises(DataError, match=r"cannot be written .* another --data-root"):
        fetch([made], tmp_path, base=server.base, pauses=(0, 0))
    assert not server.asked


def test_the_pins_are_well_formed():
    assert len({p.target for p in PAPER}) == len(PAPER) == 19
    assert all(re.fullmatch("[0-9a-f]{40}", p.blob) for p in PAPER)
    assert all(re.fullmatch("[0-9a-f]{40}", p.commit) for p in PAPER)
    assert (
        PAPER[0].url().startswith("https://raw.githubusercontent.com/Tiny-Snow/BEAR-WWW-2026/8062")
    )
    assert [p.target for p in pins_for(["office"])][-1] == "office/valid.csv"
    assert pins_for(["paper", "book"]) == list(PAPER)
    with pytest.raises(UnknownName, match="known: paper, book, clothing, office, toy"):
        pins_for(["books"])


@pytest.mark.parametrize("made", PAPER, ids=lambda p: p.target)
def test_the_files_at_hand_are_the_pinned_ones(published, made):
    folder, _, name = made.target.partition("/")
    if folder == "toy" and name.endswith(".csv"):
        pytest.skip("toy's files are at hand without three of their columns")
    assert blob_id((published(folder) / name).read_bytes()) == made.blob


@pytest.mark.parametrize("length", ["", "-5", "many", "1e9", "9" * 30, str(10**15)])
def test_an_announced_length_that_is_no_sense_is_survived(server, tmp_path, length):
    made = pin(server)
    server.lengths[url_path(made)] = length
    fetch([made], tmp_path, base=server.base, pauses=(0,))
    assert (tmp_path / made.target).read_bytes() == CONTENT


def test_an_announced_length_that_is_too_small_gives_another_file(server, tmp_path):
    made = pin(server)
    server.lengths[url_path(made)] = "5"
    with pytest.raises(DataError, match="another file than the pinned one"):
        fetch([made], tmp_path, base=server.base, pauses=(0,))
    assert not any((tmp_path / "book").iterdir())


def test_more_bytes_than_a_file_may_have_are_not_kept(server, tmp_path):
    made = replace(pin(server), most=len(CONTENT) - 1)
    with pytest.raises(
        DataError, match=r"more than the 511,999 bytes that it may have, expected git"
    ):
        fetch([made], tmp_path, base=server.base, pauses=(0, 0))
    assert server.asked[url_path(made)] == 1
    assert not any((tmp_path / "book").iterdir())


def test_a_server_that_drips_is_left_in_time(server, tmp_path):
    made = pin(server)
    server.drips = 0.2  # seconds between two pieces of 1,000 bytes: 100 s for all of them
    began = time.monotonic()
    with pytest.raises(Unavailable, match="the time for all downloads is over"):
        fetch([made], tmp_path, base=server.base, pauses=(0, 0), seconds=1.0)
    assert time.monotonic() - began < 20
    server.drips = 0.0
    lines = []
    fetch([made], tmp_path, base=server.base, say=lines.append)
    assert (tmp_path / made.target).read_bytes() == CONTENT and "taken up" in lines[0]
