"""Flips are off where a class name has a direction."""

import pytest

from videossp.data.augment import directional_classes, should_flip

HMDB51 = """
brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing
flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike
ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand
swing_baseball sword sword_exercise talk throw turn walk wave
"""
UCF101 = """
ApplyEyeMakeup BalanceBeam BodyWeightSquats BoxingSpeedBag CleanAndJerk CricketShot FieldHockeyPenalty
HandstandPushups HorseRace JumpingJack MilitaryParade PlayingDhol PommelHorse RockClimbingIndoor TaiChi
ThrowDiscus UnevenBars WallPushups WritingOnBoard YoYo
"""


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        (["walk", "turn left", "turn right"], "'turn left' and 'turn right'"),
        (["turn_left", "TurnRight"], "'turn_left' and 'TurnRight'"),
        (["SWIPE RIGHT", "swipe-left"], "'SWIPE RIGHT' and 'swipe-left'"),
        (
            ["Pushing something from left to right", "Pushing something from right to left"],
            "'Pushing something from left to right' and 'Pushing something from right to left'",
        ),
        (
            ["Turning Hand Clockwise", "Turning Hand Counterclockwise"],
            "'Turning Hand Clockwise' and 'Turning Hand Counterclockwise'",
        ),
        (["anti-clockwise", "clockwise"], "'anti-clockwise' and 'clockwise'"),
        (["rotateCW", "rotateCCW"], "'rotateCW' and 'rotateCCW'"),
        (["go leftwards", "go rightwards"], "'go leftwards' and 'go rightwards'"),
        (["lefthand", "righthand"], "'lefthand' and 'righthand'"),
        (["left-hand throw", "x", "right hand throw"], "'left-hand throw' and 'right hand throw'"),
        (["north_east", "north_west"], "'north_east' and 'north_west'"),
        (["swipeleft", "swiperight"], "'swipeleft' and 'swiperight'"),
        (["look left", "turn left", "turn right"], "'turn left' and 'turn right'"),  # a pair says more
        (["turn left", "turn back"], "'turn left'"),
        (["SwipeRight", "x"], "'SwipeRight'"),
        (["x", "counter-clockwise"], "'counter-clockwise'"),
        (["southwest", "x"], "'southwest'"),
        (["a lefthanded serve", "x"], "'a lefthanded serve'"),
        (["left2", "x"], "'left2'"),
    ],
)
def test_flip_is_off_or_refused_if_classes_have_a_direction(classes, named):
    assert directional_classes(classes) == named
    assert (
        not should_flip("auto", classes) and not should_flip("off", classes) and should_flip("force", classes)
    )
    with pytest.raises(ValueError) as caught:
        should_flip("on", classes)
    message = str(caught.value)
    assert named in message and "flip=force" in message and "\n" not in message


@pytest.mark.parametrize(
    "classes",
    [
        HMDB51.split(),
        UCF101.split(),
        ["Moving something up", "Moving something down"],
        ["leftover", "copyright", "bright", "upright", "Eastwood", "eastern", "feast", "cleft", "lefty"],
        ["outright", "wrestling", "Westminster", "clockwork", "human rights"],
    ],
    ids=["hmdb51", "ucf101", "up and down", "words", "more words"],
)
def test_flip_is_on_if_no_class_has_a_direction(classes):
    assert directional_classes(classes) is None
    assert [should_flip(x, classes) for x in ("auto", "on", "off", "force")] == [True, True, False, True]
