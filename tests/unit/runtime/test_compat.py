# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of the fixes can be tested without web2py; the fixes themselves are tested in tests/runtime."""

from __future__ import annotations

import logging
import marshal
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web2py_runtime import compat, pickles


@given(st.text(st.characters()) | st.text("abc", min_size=250, max_size=260))
def test_text_that_release_3_3_3_marshalled(text: str) -> None:
    assert pickles.marshalled_text(marshal.dumps(text)) == text


@given(st.none() | st.integers() | st.floats() | st.binary() | st.lists(st.text()) | st.tuples(st.text()))
def test_nothing_but_text_is_read(value: object) -> None:
    with pytest.raises(pickle.UnpicklingError):
        pickles.marshalled_text(marshal.dumps(value))


@given(st.text(min_size=1), st.data())
def test_cut_text_is_refused(text: str, data: st.DataObject) -> None:
    written = marshal.dumps(text)
    with pytest.raises(pickle.UnpicklingError):
        pickles.marshalled_text(written[: data.draw(st.integers(0, len(written) - 1))])


def test_a_fix_that_fits_no_more_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def needed() -> bool:
        return True

    def repaired_upstream() -> bool:
        return False

    def outdated() -> bool:
        raise AttributeError("gone")

    monkeypatch.setattr(compat, "FIXES", (outdated, repaired_upstream, needed))
    with caplog.at_level(logging.ERROR, "web2py.runtime"):
        assert compat.apply() == ["needed"]
    assert "the fix outdated does not fit this web2py" in caplog.text
