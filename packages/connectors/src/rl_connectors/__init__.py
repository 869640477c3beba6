"""Connectors for rl-core: observation, action, reward and learner pieces, and presets of them."""

from rl_connectors.action.clip import ClipAction
from rl_connectors.action.discretise import DiscretizeAction
from rl_connectors.action.noise import ActionNoise
from rl_connectors.action.rescale import RescaleAction
from rl_connectors.action.select import SelectActions
from rl_connectors.action.sticky import StickyAction
from rl_connectors.decode import DecodeBytes, DecodeMsgpack, DecodeProtobuf, pack_bytes
from rl_connectors.edit import insert_after, insert_before, replace, without
from rl_connectors.learner.counts import CountBasedCuriosity
from rl_connectors.learner.distance import DistanceCuriosity
from rl_connectors.learner.hindsight import HindsightRelabel
from rl_connectors.learner.icm import IntrinsicCuriosity
from rl_connectors.learner.returns import NStepReturns, ReturnsToGo
from rl_connectors.learner.rnd import RandomNetworkDistillation
from rl_connectors.learner.symmetry import Symmetry
from rl_connectors.obs.cast import CastObs
from rl_connectors.obs.frame_stack import FrameStack
from rl_connectors.obs.image import ChannelsFirst, ChannelsLast, GrayImage, ResizeImage, ScaleImage
from rl_connectors.obs.leafwise import LeafwiseObs
from rl_connectors.obs.mean_std import MeanStdFilter
from rl_connectors.obs.one_hot import OneHotObs
from rl_connectors.obs.preprocess import BatchObsPreprocessor, ObsPreprocessor
from rl_connectors.obs.previous import PrevActionsPrevRewards
from rl_connectors.obs.select import RenameKeys, SelectKey, SelectKeys
from rl_connectors.obs.time_awareness import TimeAwareness
from rl_connectors.presets import atari, mujoco
from rl_connectors.reward.clip import ClipReward, SignReward
from rl_connectors.reward.normalize import NormalizeReward
from rl_connectors.reward.shape import ShapeReward
from rl_core.connect.required import FlattenObs

__all__ = [
    "ActionNoise",
    "BatchObsPreprocessor",
    "CastObs",
    "ChannelsFirst",
    "ChannelsLast",
    "ClipAction",
    "ClipReward",
    "CountBasedCuriosity",
    "DecodeBytes",
    "DecodeMsgpack",
    "DecodeProtobuf",
    "DiscretizeAction",
    "DistanceCuriosity",
    "FlattenObs",
    "FrameStack",
    "GrayImage",
    "HindsightRelabel",
    "IntrinsicCuriosity",
    "LeafwiseObs",
    "MeanStdFilter",
    "NStepReturns",
    "NormalizeReward",
    "ObsPreprocessor",
    "OneHotObs",
    "PrevActionsPrevRewards",
    "RandomNetworkDistillation",
    "RenameKeys",
    "RescaleAction",
    "ResizeImage",
    "ReturnsToGo",
    "ScaleImage",
    "SelectActions",
    "SelectKey",
    "SelectKeys",
    "ShapeReward",
    "SignReward",
    "StickyAction",
    "Symmetry",
    "TimeAwareness",
    "atari",
    "insert_after",
    "insert_before",
    "mujoco",
    "pack_bytes",
    "replace",
    "without",
]
