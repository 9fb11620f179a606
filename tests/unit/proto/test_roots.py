"""The root of a topic tree."""

from __future__ import annotations

import pytest

from grapevine_proto.errors import ConfigError
from grapevine_proto.roots import DEFAULT_ROOT, check_root


@pytest.mark.parametrize("root", [DEFAULT_ROOT, "myfarm", "my-farm/v_2"])
def test_one_or_two_plain_levels_are_a_root(root: str) -> None:
    assert check_root(root) == root


@pytest.mark.parametrize("root", ["", "a/b/c", "a//b", "a/+", "#", "ä"])
def test_a_root_that_would_break_the_tree_says_what_to_write(root: str) -> None:
    with pytest.raises(ConfigError, match="write one or two levels"):
        check_root(root)
