"""Connectors for rl-core: observation, action, reward and learner pieces, and presets of them."""

from rl_connectors.obs.cast import CastObs
from rl_connectors.obs.frame_stack import FrameStack
from rl_connectors.obs.image import ChannelsFirst, GrayImage, ResizeImage, ScaleImage
from rl_connectors.obs.leafwise import LeafwiseObs
from rl_connectors.obs.mean_std import MeanStdFilter
from rl_connectors.obs.one_hot import OneHotObs
from rl_connectors.obs.preprocess import BatchObsPreprocessor, ObsPreprocessor
from rl_connectors.obs.previous import PrevActionsPrevRewards
from rl_connectors.obs.select import RenameKeys, SelectKey, SelectKeys
from rl_connectors.obs.time_awareness import TimeAwareness

__all__ = [
    "BatchObsPreprocessor",
    "CastObs",
    "ChannelsFirst",
    "FrameStack",
    "GrayImage",
    "LeafwiseObs",
    "MeanStdFilter",
    "ObsPreprocessor",
    "OneHotObs",
    "PrevActionsPrevRewards",
    "RenameKeys",
    "ResizeImage",
    "ScaleImage",
    "SelectKey",
    "SelectKeys",
    "TimeAwareness",
]
