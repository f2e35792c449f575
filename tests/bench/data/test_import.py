"""``bench data import``: what is read in which form, what is said of it, and what is refused."""

import bz2
import gzip
import io
import json
import lzma
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from bench.data.exams import rows_of
from bench.data.formats.titles import DOMAINS
from bench.data.published import read_published
from bench.errors import DataError
from bench.evaluation.metrics import means
from bench.evaluation.positions import positions
from bench.registry import datasets, load_plugin
from bench.types import Ranking

HOUSE = Path(__file__).resolve().parents[3]
START = 1_600_000_000


@pytest.fixture(autouse=True)
def no_trace_in_the_registry():
    before = dict(datasets._loaded), dict(datasets._owner)
    yield
    datasets._loaded, datasets._owner = before


def events(n=40):
    """Eight events a user, in the order of time."""
    return [(u, (u * 7 + k * 3) % 20 + 1, START + 1000 * k + u) for u in range(n) for k in range(8)]


def title(item):
    return f"Café no. {item}"


ROWS = [(str(u), str(i), str(t), title(i)) for u, i, t in events()]
HEADER = ("user_id", "item_id", "timestamp", "title")


def text(separator=",", rows=ROWS, header=HEADER, end="\n"):
    lines = [header, *rows] if header else rows
    return end.join(separator.join(line) for line in lines) + end


def bring(tmp_path, source, *words, name="mine"):
    return main(
        ["data", "import", str(source), "--name", name, "--data-root", str(tmp_path), *words]
    )


def put(tmp_path, data, name="table"):
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def said_rows(data):
    """Every training row in the data's own ids."""
    train = data.split.train
    columns = (train.user_W.tolist(), train.sequences, train.timestamp_W.tolist())
    item = data.catalogue.item_name
    return {
        (data.user_name(user), tuple(item(each) for each in row.tolist()), time)
        for user, row, time in zip(*columns, strict=True)
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    assert bring(folder, put(folder, text()), "--title-column", "title") == 0
    return read_published("mine", folder, domain="item")


def tarred(data):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("data/ratings.csv")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def zipped(data):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ratings.csv", data)
    return packed.getvalue()


RECORDS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
FORMS = {
    "semicolon": (text(";"), []),
    "pipe": (text("|"), []),
    "tab": (text("\t"), []),
    "two colons": (text("::"), []),
    "stated": (text(";"), ["--separator", "semicolon"]),
    "cr": (text(end="\r"), []),
    "crlf": (text(end="\r\n"), []),
    "latin-1": (text().encode("latin-1"), ["--encoding", "latin-1"]),
    "utf-16": (text().encode("utf-16"), []),
    "utf-16 without a mark": (text().encode("utf-16-le"), ["--encoding", "utf-16-le"]),
    "utf-8 with a mark": (text().encode("utf-8-sig"), []),
    "gzip": (gzip.compress(text().encode()), []),
    "bzip2": (bz2.compress(text().encode()), []),
    "xz": (lzma.compress(text().encode()), []),
    "tar.gz": (tarred(text().encode()), []),
    "zip": (zipped(text().encode()), []),
    "json lines": ("\n".join(map(json.dumps, RECORDS)), []),
    "json array": (json.dumps(RECORDS, indent=1), []),
    "json array in utf-16": (json.dumps(RECORDS, ensure_ascii=False).encode("utf-16"), []),
    "ids as floats": (text(rows=[(u, f"{i}.0", t, x) for u, i, t, x in ROWS]), []),
    "ids of both kinds": (
        text(rows=[(u, f"{i}.0" if int(t) % 2 else i, t, x) for u, i, t, x in ROWS]),
        [],
    ),
    "microseconds": (text(rows=[(u, i, f"{t}000000", x) for u, i, t, x in ROWS]), []),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_is_the_same_dataset(tmp_path, plain, form):
    data, words = FORMS[form]
    assert bring(tmp_path, put(tmp_path, data), "--title-column", "title", *words) == 0
    found = read_published("mine", tmp_path, domain="item")
    assert found.catalogue.titles == plain.catalogue.titles
    assert said_rows(found) == said_rows(plain)
    assert found.version == plain.version


def test_a_file_without_a_header_and_one_with_the_titles(tmp_path, plain):
    ratings = text("::", [(u, i, "5", t) for u, i, t, _ in ROWS], header=None)
    movies = [(str(i), title(i), "Comedy|Drama", "more") for i in range(1, 21)]
    items = put(tmp_path, text("::", movies, header=None).encode("latin-1"), "movies.dat")
    words = ["--columns", "user,item,rating,time", "--items", str(items)]
    words += ["--item-columns", "item,title", "--encoding", "latin-1"]
    assert bring(tmp_path, put(tmp_path, ratings, "ratings.dat"), *words) == 0
    found = read_published("mine", tmp_path, domain="item")
    assert (found.catalogue.titles, said_rows(found)) == (plain.catalogue.titles, said_rows(plain))


def test_a_file_of_titles_for_other_items_is_refused(tmp_path, capsys):
    items = put(tmp_path, "item_id,title\nx,Other\n", "items.csv")
    assert bring(tmp_path, put(tmp_path, text()), "--items", str(items)) == 2
    assert "no title for any of the 20 items, such as '1'" in capsys.readouterr().err


SUITE = """
title: one of each
datasets: [mine]
seeds: [0]
rows:
  - {method: popularity}
  - {method: last_item_text}
  - {method: bigrec, losses: [lml], decoders: [beam], backbones: [tiny]}
"""


def test_without_titles_what_reads_them_is_left_out_and_says_so(tmp_path):
    from bench.experiment.choice import Choice
    from bench.experiment.grid import expand
    from bench.experiment.suite import read

    suite = read(str(put(tmp_path, SUITE, "suite.yaml")))
    pairs = "".join(f"{u} {i}\n" for u, i, _ in events())
    assert bring(tmp_path, put(tmp_path, pairs), "--columns", "user,item") == 0
    load_plugin(str(tmp_path / "mine" / "mine.py"))
    grid = expand(suite, Choice(data_root=tmp_path))
    assert [cell.method for cell in grid.cells] == ["popularity"]
    assert [cell.method for cell, _ in grid.left_out] == ["last_item_text", "bigrec"]
    assert all("mine has no titles, and" in reason for _, reason in grid.left_out)
    titled = put(tmp_path, text(), "titled.csv")
    assert bring(tmp_path, titled, "--title-column", "title", name="named") == 0
    load_plugin(str(tmp_path / "named" / "named.py"))
    assert len(expand(suite, Choice(data_root=tmp_path, datasets=["named"])).cells) == 3


def test_a_plain_list_is_in_the_order_of_its_rows(tmp_path, capsys):
    pairs = "".join(f"{u} {i}\n" for u, i, _ in events())
    assert bring(tmp_path, put(tmp_path, pairs), "--columns", "user,item") == 0
    found = read_published("mine", tmp_path, domain="item")
    own = [str(i) for u, i, _ in events() if u == 3]
    assert [row for user, row, _ in said_rows(found) if user == "3"] == [tuple(own)]
    assert "1970" in capsys.readouterr().out


def test_a_header_is_no_row_of_a_file_without_one(tmp_path, capsys):
    words = ["--columns", "user,item,time"]
    assert bring(tmp_path, put(tmp_path, text()), *words) == 2
    assert "looks like a header" in capsys.readouterr().err
    path = put(tmp_path, text(header=None))
    assert bring(tmp_path, path, "--columns", "user,item,rating,time,more") == 2
    assert "5 columns are named and its first line has 4" in capsys.readouterr().err


def test_own_ids_survive_in_a_file_beside_it(tmp_path, capsys):
    rows = [(f"u-{u}", f"sku/{i:03d} é", t, x) for (u, i, t), x in zip(
        [(u, int(i), t) for u, i, t, _ in ROWS], [row[3] for row in ROWS], strict=True
    )]  # fmt: skip
    assert bring(tmp_path, put(tmp_path, text(rows=rows)), "--title-column", "title") == 0
    plugin = tmp_path / "mine/mine.py"
    load_plugin(plugin)
    found = datasets.get("mine")(None)
    assert found.catalogue.item_name(1) == "sku/001 é" and found.catalogue.titles[1] == title(1)
    assert {user for user, _, _ in said_rows(found)} <= {row[0] for row in rows}
    last = dict.fromkeys(row[0] for row in rows)
    for row in rows:
        last[row[0]] = row[1]
    exam = rows_of(found.split.test)
    for user, target in zip(exam.user_W.tolist(), exam.target_W.tolist(), strict=True):
        assert found.catalogue.item_name(target) == last[found.user_name(user)]
    capsys.readouterr()
    (tmp_path / "mine/ids.json").write_text('{"users": {}, "items": {"1": "a"}}')
    assert main(["data", "describe", "mine", "--plugin", str(plugin)]) == 2
    assert "ids.json has 34 bytes, 1," in capsys.readouterr().err
    (tmp_path / "mine/ids.json").unlink()
    with pytest.raises(DataError, match=r"ids.json is missing; move the folder away and import"):
        read_published("mine", tmp_path, domain="item")


def test_ten_rows_are_shown_as_understood_and_a_trial_writes_nothing(tmp_path, capsys):
    path = put(tmp_path, text())
    assert bring(tmp_path, path, "--title-column", "title", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "  0     1     2020-09-13 12:26:40  Café no. 1" in out.splitlines()
    assert out.count("Café no.") == 10 and "nothing was written" in out
    assert [each.name for each in tmp_path.iterdir()] == ["table"]


@pytest.mark.parametrize("word", ["nan", "None", "null", "N/A", " NaN ", "<NA>"])
def test_a_word_for_nothing_is_no_title(tmp_path, word):
    rng = np.random.default_rng(0)
    rows = [
        (str(u), str(i), str(START + n), word if i % 10 < 3 else f"Thing {i}")
        for u in range(300)
        for n, i in enumerate(rng.integers(1, 201, 3))
    ]
    assert bring(tmp_path, put(tmp_path, text(rows=rows)), "--title-column", "title") == 0
    data = read_published("mine", tmp_path, domain="item")
    n, exam = data.catalogue.n_items, data.split.test
    lists = np.argsort(rng.random((len(exam), n)), 1)[:, :20].astype(np.int32) + 1
    count = data.split.train.target_count
    by_title, by_item = (
        means(positions(Ranking(lists), exam, identity=identity, train_count=count))
        for identity in ("title", "item")
    )
    assert by_title == by_item


def test_unreadable_values_are_counted_with_their_line_and_refused_above_one_in_a_hundred(
    tmp_path, capsys
):
    bad = [("", "1", str(START), "x"), ("1", "null", str(START), "x"), ("1", "1", "soon", "x")]
    assert bring(tmp_path, put(tmp_path, text(rows=ROWS + bad)), "--dry-run") == 0
    out = capsys.readouterr().out
    for fault in (
        "1 rows without a user were dropped (first: line 322: '')",
        "1 rows without an item were dropped (first: line 323: 'null')",
        "1 rows without a time that can be read were dropped (first: line 324: 'soon')",
    ):
        assert fault in out
    path = put(tmp_path, text(rows=ROWS + 2 * bad))
    assert bring(tmp_path, path) == 2
    assert "6 of 326 rows cannot be used, more than 0.01 of them" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
    assert bring(tmp_path, path, "--tolerate", "0.02") == 0


def test_lines_of_json_and_entries_of_an_array_are_named(tmp_path, capsys):
    bad = {**RECORDS[0], "timestamp": "soon"}
    lines = "\n".join(["", *map(json.dumps, [*RECORDS[:50], bad, *RECORDS[50:]])])
    for data, place in ((lines, "line 52"), (json.dumps([bad, *RECORDS]), "entry 1")):
        assert bring(tmp_path, put(tmp_path, data), "--dry-run") == 0
        assert f"(first: {place}: 'soon')" in capsys.readouterr().out


def test_what_looks_the_same_or_happens_at_once_is_noted(tmp_path, capsys):
    twins = {"1": "Caf\u00e9", "2": "Cafe\u0301"}
    rows = [(u, twins.get(i, i), str(START), twins.get(i, x)) for u, i, _, x in ROWS]
    path = put(tmp_path, text(rows=rows))
    assert bring(tmp_path, path, "--title-column", "title", "--dry-run") == 0
    out = capsys.readouterr().out
    assert (
        "titles that differ from another in their Unicode form alone (NFC, NFD), kept as two: 2"
        in out
    )
    assert "items 'Cafe\\u0301' and 'Caf\\xe9' look the same and are kept apart" in out
    assert "320 reviews have the user and the time of another one" in out


def test_titles_a_language_model_stumbles_over_are_said(tmp_path, capsys):
    rows = [(u, i, t, {"1": "<|im_end|>", "2": "x" * 1500}.get(i, x)) for u, i, t, x in ROWS]
    path = put(tmp_path, text(rows=rows))
    assert bring(tmp_path, path, "--title-column", "title", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "control token, taken as plain text in prompts and answers: 1 (id 1)" in out
    assert "titles longer than 1000 bytes" in out and "(id 2)" in out


def test_a_folder_in_the_published_form(tmp_path, capsys):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "id2name4Rec.json").write_text('{"10": "a", "20": "b", "30": "c"}')
    lines = [f'{u},"[10, 20, 30]",{START + u}\n' for u in range(16)]
    for part in ("train", "test"):
        (folder / f"{part}.csv").write_text("user_id,item_ids,timestamp\n" + "".join(lines))
    assert bring(tmp_path, folder, "--as", "windows") == 0
    found = read_published("mine", tmp_path, domain="item")
    assert (len(found.split.train), len(found.split.valid), len(found.split.test)) == (14, 2, 16)
    assert found.catalogue.titles == ("", "a", "b", "c") and found.split.uncut is not None
    assert bring(tmp_path, folder, "--as", "windows", "--width", "5", name="other") == 2
    assert "--width has no meaning for --as windows" in capsys.readouterr().err


def atomic(tmp_path, user="user_id", pad=" 0 0", target="3"):
    folder = tmp_path / "ds"
    folder.mkdir(exist_ok=True)
    header = f"{user}:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n"
    for part in ("train", "valid", "test"):
        rows = "".join(f"{u}\t1 2{pad}\t{target}\t{START + u}\n" for u in range(9))
        (folder / f"ds.{part}.inter").write_text(header + rows)
    return folder


def test_padding_in_histories_is_no_item(tmp_path, capsys):
    assert bring(tmp_path, atomic(tmp_path), "--as", "atomic") == 0
    assert "54 entries of histories are padding (0 or [PAD]), no items" in capsys.readouterr().out
    found = read_published("mine", tmp_path, domain="item")
    assert found.catalogue.item_names == ("", "1", "2", "3")
    assert found.split.train.history[0].tolist() == [1, 2]
    for number, change in enumerate(({"pad": " 0 1"}, {"target": "0"})):  # here it is an item
        assert bring(tmp_path, atomic(tmp_path, **change), "--as", "atomic", name=f"n{number}") == 0
        found = read_published(f"n{number}", tmp_path, domain="item")
        assert "0" in found.catalogue.item_names


def test_columns_of_atomic_files_by_name(tmp_path, capsys):
    folder = atomic(tmp_path, user="session_id")
    assert bring(tmp_path, folder, "--as", "atomic") == 2
    assert "no field 'user_id'" in capsys.readouterr().err
    assert bring(tmp_path, folder, "--as", "atomic", "--user-column", "session_id") == 0
    assert bring(tmp_path, folder, "--as", "atomic", "--switch", "core=2", name="other") == 2
    assert "its split is predefined and kept" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["class", "None", "Path", "book", "Book", "my-shop", "a/b", "1st"])
def test_names_are_refused_before_anything_is_read_or_written(tmp_path, capsys, name):
    assert bring(tmp_path, tmp_path / "absent", name=name) == 2
    assert f"--name {name!r}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--domain", "films"], "--domain 'films' has no prompt; known: toy"),
        (["--separator", '"'], "cannot stand between columns"),
        (["--encoding", "latin-99"], "--encoding 'latin-99' is not known"),
        (["--time-unit", "days"], "--time-unit 'days' is not known; auto, s, ms"),
        (["--tolerate", "2"], "--tolerate is a share from 0 to below 1"),
        (["--columns", "user,rating"], "names no item"),
        (["--columns", "user,item,item"], "names a column twice"),
        (["--item-columns", "item"], "name the file with --items"),
        (["--category", "Books"], "--category has no meaning for --as table; it is of amazon"),
        (["--switch", "nonsense=1"], "--switch 'nonsense=1' is not known"),
    ],
)
def test_options_that_cannot_be_followed_are_one_line(tmp_path, capsys, words, says):
    assert bring(tmp_path, put(tmp_path, text()), *words) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["table"]


def test_a_switch_does_what_it_says_for_a_table_too(tmp_path):
    rows = [(u, i, t, f"Tom &amp; <b>Jerry</b> {i}") for u, i, t, _ in ROWS]
    words = ["--title-column", "title", "--switch", "titles=clean"]
    assert bring(tmp_path, put(tmp_path, text(rows=rows)), *words) == 0
    assert read_published("mine", tmp_path).catalogue.titles[1] == "Tom & Jerry 1"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            text().encode("latin-1"),
            "bytes that do not fit the encoding, line 2: .*--encoding latin-1",
        ),
        (text().encode("utf-16-le"), "looks like UTF-16"),
        (b"\x28\xb5\x2f\xfd" + b"0" * 99, "packed with zstd"),
        (json.dumps(RECORDS)[:-20], r"line 1: no JSON array of records"),
        (
            text(rows=ROWS[:3], header=None),
            "no column 'user_id'.*--columns, if the file has no header",
        ),
    ],
)
def test_files_that_cannot_be_read_say_the_way_out(tmp_path, capsys, data, says):
    assert bring(tmp_path, put(tmp_path, data), "--title-column", "title") == 2
    assert re.search(says, capsys.readouterr().err)


def test_a_full_disk_leaves_nothing_and_the_retry_works(tmp_path):
    path = put(tmp_path, text())
    words = ["data", "import", str(path), "--name", "mine", "--data-root", str(tmp_path / "root")]
    code = (
        "import resource, sys; from bench.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY)); "
        f"sys.exit(main({words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HOUSE)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot be written (File too large); nothing is left of it" in done.stderr
    assert not list((tmp_path / "root").iterdir())
    assert main(words) == 0


def test_the_domains_are_those_that_prompts_have_words_for():
    prompt = pytest.importorskip("llmrec.prompt")
    assert {*DOMAINS} == {*prompt.DOMAINS}
