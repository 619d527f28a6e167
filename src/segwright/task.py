"""The task of a network: a configuration of a plan, on the data set of a description."""

from __future__ import annotations

from dataclasses import dataclass

from segwright.dataset.description import DatasetDescription
from segwright.errors import SettingsError, message
from segwright.labels import Labels
from segwright.planning.configuration import Configuration
from segwright.planning.plan import Plan


@dataclass(frozen=True)
class Task:
    """Defines the inputs and outputs of the network for training, prediction and the memory of a step.

    Build it with `Task.of`.
    """

    plan: Plan
    configuration: Configuration
    description: DatasetDescription

    @classmethod
    def of(cls, plan: Plan, configuration_name: str, description: DatasetDescription) -> Task:
        """Choose a configuration of the plan.

        Raises:
            PlanError: for an unknown name, or a key that is missing or wrong.
        """
        return cls(plan, plan.configuration(configuration_name), description)

    @property
    def labels(self) -> Labels:
        """The labels of the data set: how they become targets, and logits become labels."""
        return self.description.labels

    @property
    def num_image_channels(self) -> int:
        """Channels of an image."""
        return len(self.description.channel_names)

    @property
    def num_previous_channels(self) -> int:
        """Channels with the labels of the previous stage, one for each foreground label; 0 without a cascade."""
        return 0 if self.configuration.previous_stage is None else len(self.labels.foreground_labels)

    @property
    def num_inputs(self) -> int:
        """Input channels of the network: the image's, then the previous stage's."""
        return self.num_image_channels + self.num_previous_channels

    @property
    def num_outputs(self) -> int:
        """Output channels of the network: one per region, or one per label with background."""
        return self.labels.num_outputs

    @property
    def untrainable(self) -> tuple[str, ...]:
        """The parts of this task that this version cannot train, in words; empty if it can train it."""
        found = {
            "regions": self.labels.has_regions,
            "an ignore label": self.labels.ignore_label is not None,
            "a configuration that refines a previous stage": self.num_previous_channels > 0,
        }
        return tuple(what for what, is_there in found.items() if is_there)

    def require_trainable(self) -> None:
        """Refuse what this version cannot train.

        Raises:
            SettingsError
        """
        if self.untrainable:
            raise SettingsError(
                message(
                    f"training '{self.configuration.name}'",
                    expected="plain labels and a configuration without a previous stage",
                    got=" and ".join(self.untrainable),
                    remedy="This version cannot train it; nnunetv2 can, from the same preprocessed folder.",
                )
            )

    def require_predictable(self) -> None:
        """Refuse what this version cannot predict.

        Raises:
            SettingsError
        """
        if self.configuration.previous_stage is not None:
            raise SettingsError(
                message(
                    f"configuration {self.configuration.name!r}",
                    expected="a configuration that predicts from the image alone",
                    got=f"one that refines the segmentations of {self.configuration.previous_stage!r}",
                    remedy="Predict with another configuration, such as 3d_fullres.",
                )
            )
