"""The Python API: what the commands do, with objects.

::

    from pathlib import Path
    from verify_pipeline import api

    recipe = api.load_recipe("digits-cc-ibp")
    trained = api.train(recipe)
    test = api.load_images("digits", "test")
    api.export_onnx(trained, "digits.onnx", images=test)
    summary = api.certify("digits.onnx", test, recipe.certify)
    print(summary.tally.proved, "of", summary.tally.images, "verified")
    api.tabulate([summary], Path("results"))

Another question than "does every image keep its class when each pixel changes by at most ε" is a
:class:`Question`: other boxes, another specification, preprocessing before the network.

Images of your own are an :class:`ImageSet`; a network from anywhere is an ONNX file of pixels in
[0, 1]; a torch module becomes one with :func:`network_from_module`. (These functions are not in
``verify_pipeline`` itself because ``verify_pipeline.certify`` is a package there.)
"""

from verify_pipeline.branching import read_search
from verify_pipeline.certify.contract import Observer as CertifyObserver
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.perturbations import ChannelBalls, LinfBall, PixelBalls
from verify_pipeline.certify.preprocessing import Preprocessing
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.specifications import LinearRows, Margins, Targeted, TopK
from verify_pipeline.certify.stage_settings import (
    AlphaCrownSettings,
    FewInputSettings,
    StageShares,
)
from verify_pipeline.certify.tally import Summary, Tally
from verify_pipeline.config import Recipe, load_recipe, recipe_names
from verify_pipeline.data import BoxSet, DataSetInfo, ImageSet
from verify_pipeline.data import from_arrays as load_arrays
from verify_pipeline.data import load as load_images
from verify_pipeline.engines import Setup as AbcrownSetup
from verify_pipeline.engines import find_tool as find_abcrown
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.onnx import ExportReport, Network, load_network, network_from_module
from verify_pipeline.pipeline import Outcome, certify, export_onnx, run, train
from verify_pipeline.problem import Box, Counterexample, Reason, Specification, Status, Verdict
from verify_pipeline.reports import Evidence, publish, read_ledgers, recheck_ledger, tabulate
from verify_pipeline.training import Trained, TrainObserver, TrainSettings
from verify_pipeline.training import restore as load_trained

__all__ = [
    "AbcrownSetup",
    "AlphaCrownSettings",
    "Box",
    "BoxSet",
    "CertifyObserver",
    "CertifySettings",
    "ChannelBalls",
    "Counterexample",
    "DataSetInfo",
    "Evidence",
    "ExportReport",
    "FewInputSettings",
    "ImageSet",
    "Ledger",
    "LinearRows",
    "LinfBall",
    "Margins",
    "Network",
    "Outcome",
    "PixelBalls",
    "Preprocessing",
    "Question",
    "Reason",
    "Recipe",
    "Specification",
    "StageShares",
    "Status",
    "Summary",
    "Tally",
    "Targeted",
    "TopK",
    "TrainObserver",
    "TrainSettings",
    "Trained",
    "Verdict",
    "VerifyPipelineError",
    "certify",
    "export_onnx",
    "find_abcrown",
    "load_arrays",
    "load_images",
    "load_network",
    "load_recipe",
    "load_trained",
    "network_from_module",
    "publish",
    "read_ledgers",
    "read_search",
    "recheck_ledger",
    "recipe_names",
    "run",
    "tabulate",
    "train",
]
