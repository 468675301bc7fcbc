"""The wheel holds the catalog and the schemas, and works from where it is installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / done.stdout.strip().splitlines()[-1]


def test_the_wheel_holds_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {path.name for path in (ROOT / "catalog/techniques").glob("*.yaml")}
    assert {Path(name).name for name in names if "_data/catalog/techniques/" in name} == shipped
    assert any(name.endswith("_data/schemas/technique.json") for name in names)
    assets = {path.name for path in (ROOT / "peftref/report/atlas/assets").iterdir()}
    assert {Path(name).name for name in names if "atlas/assets/" in name} == assets
    assert not [name for name in names if name.startswith("tests")]


def test_an_installed_wheel_works(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from peftref.cli import main; main(sys.argv[2:])"
    command = [sys.executable, "-c", code, str(tmp_path / "site"), "count", "lora", "--host", "bert-base"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"})
    assert "294,912" in done.stdout
