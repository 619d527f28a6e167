"""The code in the documentation runs, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tiny_datasets import make_3d

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def test_the_code_of_the_page_on_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_3d(tmp_path / "work" / "raw" / "Dataset001_Balls")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "from_python.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) >= 6
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"from_python.md, block {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "6 predicted, 0 failed" in printed
    assert "(20, 24, 22) uint8" in printed
    assert len(list((tmp_path / "masks").glob("ballTr_*.nii.gz"))) == 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
