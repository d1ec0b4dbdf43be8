"""Registers the plugin where this folder is Airflow's plugins folder; the code is in the package beside this file."""

from image_features.plugin import ImageFeaturesPlugin

__all__ = ["ImageFeaturesPlugin"]
