"""A method of training: how its task, its network and the module that the loop trains are made.

The options of a training name its method (`RunOptions.method_code`, for example
`longtail.training.rotation:RotationMethod`), so that the options need neither torch nor this package.
"""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from torch import nn

from longtail.conf.base.user_code import load_code
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import Manifest
from longtail.models.network import Network
from longtail.training.distributed import Rank
from longtail.training.networks import new_network
from longtail.training.objective import Task
from longtail.training.run_directory import RunPaths

OptionsOfMethod = TypeVar("OptionsOfMethod", bound=RunOptions)


class TrainingMethod(ABC, Generic[OptionsOfMethod]):
    """Base class of the methods. training/run.py calls task, network and trained_module, in this order."""

    @abstractmethod
    def task(self, options: OptionsOfMethod, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        """What is learned, and from which data."""

    def network(self, options: OptionsOfMethod, task: Task, rank: Rank) -> tuple[Task, Network]:
        """The network to be trained and saved, on the rank's device; and the task, which may change with it."""
        return task, new_network(options, task, rank)

    def trained_module(
        self, network: Network, options: OptionsOfMethod, paths: RunPaths, task: Task, rank: Rank
    ) -> tuple[Task, nn.Module]:
        """The module that the loop trains, `network` or a module that contains it; and the task.

        Parameters outside the network are saved as the checkpoint's companion, to resume from.
        """
        return task, network


def method_of(options: RunOptions) -> TrainingMethod[Any]:
    """The method that the options name. `Any`: which type of options it takes is not known here."""
    method = load_code(options.method_code(), option="the method")()
    assert isinstance(method, TrainingMethod)
    return method
