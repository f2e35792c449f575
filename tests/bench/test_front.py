"""The excerpt in the README: filled between its marks, everything else untouched."""

import pytest
from _board_rows import tiny_board

from bench.board import write_board
from bench.board.readme import BEGIN, END


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


def test_the_readme_gets_an_excerpt_between_its_marks(rows, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{BEGIN}\nOUTDATED\n{END}\nrest\n")
    write_board(rows, tmp_path / "boards", readme=readme)
    text = readme.read_text()
    assert text.startswith(f"# Title\n{BEGIN}\n")
    assert text.endswith(f"{END}\nrest\n")
    assert "OUTDATED" not in text
    assert "| Rank | Method |" in text
    assert "| Paper (ours, scored as there) |" in text
    assert "| 0.0183 (inconclusive) |" in text, "six test rows prove nothing"
    write_board(rows, tmp_path / "boards", readme=readme)
    assert readme.read_text() == text


def test_a_readme_without_marks_is_left_alone(rows, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n")
    write_board(rows, tmp_path / "boards", readme=readme)
    assert readme.read_text() == "# Mine\n"


def test_tables_beside_a_readme_with_marks_do_not_touch_it(rows, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\nOUTDATED\n{END}\n")
    write_board(rows, tmp_path / "boards")
    assert "OUTDATED" in readme.read_text()
