import pytest

from headgate.core.envelope import MAX_DEPTH, Envelope
from headgate.core.errors import BudgetExceeded, InvalidRequest


def test_children_draw_on_their_parents():
    parent = Envelope(10.0, money=100)
    left, right = parent.child(money=80), parent.child(money=80)
    left.commit(70)
    with pytest.raises(BudgetExceeded):
        right.commit(40)
    left.settle(70, 10)
    right.commit(40)
    assert parent.room() == 50


def test_a_refused_commit_changes_nothing():
    parent = Envelope(10.0, money=5, calls=3)
    with pytest.raises(BudgetExceeded):
        parent.child(money=100).commit(6)
    assert (parent.committed, parent.calls_left) == (0, 3)


def test_a_child_cannot_outlive_its_parent():
    assert Envelope(5.0).child(deadline=9.0).remaining(4.0) == 1.0


def test_nesting_is_bounded():
    envelope = Envelope(1.0)
    with pytest.raises(InvalidRequest):
        for _ in range(MAX_DEPTH + 1):
            envelope = envelope.child()
