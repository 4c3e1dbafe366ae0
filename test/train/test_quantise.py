"""Images that int8 is calibrated on."""

from rgbd_files import HeightWalls

from train import quantise


def test_int8_is_calibrated_on_each_kind_of_image_alike():
    a, b = HeightWalls(), HeightWalls()
    assert len(quantise.equal_shares([a, b], 8)) == 8
    assert len(quantise.equal_shares([a], 4)) == 4
    assert len(quantise.equal_shares([a, b], 100)) == 12  # all there are
