import pytest

from rl_connectors import ClipReward, FrameStack, GrayImage, ResizeImage, SignReward
from rl_connectors.edit import insert_after, insert_before, replace, without

GRAY, RESIZE, STACK, SIGN, CLIP = GrayImage(), ResizeImage(4, 4), FrameStack(2), SignReward(), ClipReward()
PIECES = (GRAY, RESIZE, STACK)


def test_pieces_are_put_in_exchanged_and_taken_out_by_name_or_class():
    for name in ("ResizeImage", ResizeImage):
        assert insert_before(PIECES, name, SIGN, CLIP) == (GRAY, SIGN, CLIP, RESIZE, STACK)
        assert insert_after(PIECES, name, SIGN, CLIP) == (GRAY, RESIZE, SIGN, CLIP, STACK)
        assert replace(PIECES, name, SIGN, CLIP) == (GRAY, SIGN, CLIP, STACK)
        assert without(PIECES, name) == (GRAY, STACK)
    assert insert_before(list(PIECES), GrayImage, SIGN)[0] is SIGN
    assert insert_after(PIECES, FrameStack, SIGN)[-1] is SIGN
    assert PIECES == (GRAY, RESIZE, STACK), "not changed"


def test_of_several_pieces_of_a_class_index_says_which():
    pieces = (STACK, SIGN, FrameStack(3))
    assert without(pieces, "FrameStack", index=1) == (STACK, SIGN)
    assert replace(pieces, FrameStack, CLIP, index=0) == (CLIP, SIGN, FrameStack(3))
    with pytest.raises(ValueError, match=r"2 pieces 'FrameStack', at the places \[0, 2\] of .* index=0 to 1"):
        without(pieces, "FrameStack")
    with pytest.raises(ValueError, match="got index=2, expected 0 to 1: there are 2"):
        without(pieces, "FrameStack", index=2)


def test_an_unknown_name_is_told_with_those_there_are_and_the_nearest():
    with pytest.raises(ValueError, match="no piece 'FameStack', only GrayImage, ResizeImage, FrameStack.*'FrameStack'"):
        insert_before(PIECES, "FameStack", SIGN)
    with pytest.raises(ValueError, match="no piece 'ClipReward', only"):
        without(PIECES, ClipReward)
    with pytest.raises(ValueError, match="an empty chain"):
        without((), "FrameStack")
    with pytest.raises(ValueError, match="replace: got no piece"):
        replace(PIECES, "FrameStack")
