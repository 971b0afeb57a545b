"""The sources of the kernels: floors, the functions of each instruction set, and enums shared by Python and C++."""

import re
from pathlib import Path

import pytest

from triform.engines import FORMATS
from triform.engines.native import _kernels
from triform.spec import Activation, Pooling

KERNELS = Path(__file__).parents[2] / "kernels"
FLOORS = ("layout", "generic", "isa", "schedule", "bindings")
FILES = sorted(path for path in KERNELS.rglob("*") if path.suffix in (".cpp", ".h", ".inl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KERNELS)))
def test_a_file_includes_only_its_own_floor_and_those_below(path: Path) -> None:
    own = FLOORS.index(path.relative_to(KERNELS).parts[0])
    for included in re.findall(r'#include "(.+)"', path.read_text()):
        assert (KERNELS / included).is_file()
        assert FLOORS.index(included.split("/")[0]) <= own, included


@pytest.mark.parametrize("name", sorted(path.parent.name for path in KERNELS.glob("isa/*/simd.h")))
def test_a_set_defines_what_the_readme_lists(name: str) -> None:
    listed = re.findall(r"^\| (.+?) \|", (KERNELS / "isa" / "README.md").read_text(), re.MULTILINE)
    names = re.findall(r"`(\w{2,})", " ".join(listed))
    assert {"kTileRows", "Float32x16", "reduce_max", "select", "dot_i8"} <= set(names)
    source = (KERNELS / "isa" / name / "simd.h").read_text()
    source += (KERNELS / "isa" / "x86.h").read_text() if '"isa/x86.h"' in source else ""
    for each in names:
        assert re.search(rf"(inline [\w ]+ {each}\(|struct {each} |using {each} |constexpr int {each} )", source), each


def test_enums_have_the_same_members_in_python_and_cpp() -> None:
    assert {name.upper() for name in FORMATS} == {each.name for each in _kernels.Format}
    assert {each.name for each in Activation} | {"NONE"} == {each.name for each in _kernels.Activation}
    assert {each.name for each in Pooling} == {each.name for each in _kernels.Pooling}
