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
    api.save_figure(api.plot_stages([summary]), "results/stages.pdf")

One image, or bounds alone, tensors in and out; ``summary`` as a table, a row for each image::

    image, label = test.pixels()[0], int(test.labels[0])
    verdict = api.verify("digits.onnx", image, label, epsilon=0.1, timeout=10)
    box = api.Box.around(test.pixels(slice(0, 8)).double(), 0.1)
    outputs = api.bounds("digits.onnx", box, method="crown")
    print(verdict, outputs.lower.min(), summary.to_frame().head())

A training loop of one's own takes its losses, attack and bounds from here::

    import torch

    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 50), torch.nn.ReLU(), torch.nn.Linear(50, 10)
    )
    bounder = api.AutoLirpaBounder(module, (1, 8, 8))
    optimiser = torch.optim.Adam(module.parameters())
    images, labels = test.pixels(slice(0, 64)), test.labels[:64]
    box = api.Box.around(images, 0.1)
    cross_entropy = torch.nn.CrossEntropyLoss(reduction="none")
    points = api.pgd(lambda x: cross_entropy(module(x), labels), box, steps=1, step_size=10.0)
    adversarial = api.margins_of_logits(bounder.forward(points), labels)
    ibp = bounder.ibp(box, api.margin_matrix(labels, 10))
    loss = api.cc_ibp_loss(adversarial, ibp, alpha=0.2)
    loss.backward()
    optimiser.step()

(With batch normalisation, bounds use the statistics of the last ``bounder.forward``.)

Another question than "does every image keep its class when each pixel changes by at most ε" is a
:class:`Question`: other boxes, another specification, preprocessing before the network.

Images of your own are an :class:`ImageSet`, from arrays, or from a data set of torch or Hugging
Face by :func:`images_of_dataset` (docs/own-data.md); a network from anywhere is an ONNX file of
pixels in [0, 1]; a torch module becomes one with :func:`network_from_module`. (These functions are
not in ``verify_pipeline`` itself because ``verify_pipeline.certify`` is a package there.)
docs/reference.md lists every name.
"""

from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.branching import read_search
from verify_pipeline.certify.contract import Observer as CertifyObserver
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.merging import Merged, merge_ledgers
from verify_pipeline.certify.output_bounds import OutputBounds
from verify_pipeline.certify.perturbations import ChannelBalls, LinfBall, PixelBalls
from verify_pipeline.certify.preprocessing import Preprocessing
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.radii import ImageRadius, RobustnessDistribution
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.shards import Shard
from verify_pipeline.certify.specifications import LinearRows, Margins, Targeted, TopK
from verify_pipeline.certify.stage_settings import (
    AlphaCrownSettings,
    FewInputSettings,
    StageShares,
)
from verify_pipeline.certify.tally import Summary, Tally
from verify_pipeline.config import Recipe, load_recipe, recipe_names
from verify_pipeline.data import (
    BoxSet,
    DataSetInfo,
    DataSettings,
    ImageSet,
    OwnDataSettings,
    images_of_dataset,
)
from verify_pipeline.data import from_arrays as load_arrays
from verify_pipeline.data import load as load_images
from verify_pipeline.engines import Setup as AbcrownSetup
from verify_pipeline.engines import find_tool as find_abcrown
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.figures.files import inline_svg, save_figure
from verify_pipeline.figures.plots import (
    plot_accuracy,
    plot_cactus,
    plot_epsilon,
    plot_margins,
    plot_stages,
    plot_training,
)
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import (
    adversarial_certainty,
    adversarial_loss,
    arow_loss,
    cc_ibp_loss,
    chord_slopes,
    connected,
    crown_ibp_fused_loss,
    crown_ibp_loss,
    exp_ibp_loss,
    gradient_weighted,
    ibp_loss,
    margin_cross_entropy,
    mart_loss,
    mtl_ibp_loss,
    natural_loss,
    sabr_box,
    taps_loss,
)
from verify_pipeline.onnx import ExportReport, Network, load_network, network_from_module
from verify_pipeline.pipeline import Outcome, certify, export_onnx, run, train
from verify_pipeline.problem import (
    Box,
    Counterexample,
    Reason,
    Specification,
    Status,
    Verdict,
    margin_matrix,
    margins_of_logits,
)
from verify_pipeline.process_group import ProcessGroup, joined
from verify_pipeline.queries import bounds, verify, verify_batch
from verify_pipeline.radius import radius
from verify_pipeline.ray_cluster import Cluster
from verify_pipeline.report_page import report
from verify_pipeline.reports import Evidence, publish, read_ledgers, recheck_ledger, tabulate
from verify_pipeline.sweeps.comparison import FrontComparison, MethodFront
from verify_pipeline.sweeps.interface import front, sweep, tune
from verify_pipeline.sweeps.results import SweepResult, SweepRun, TuneResult, TuneTrial
from verify_pipeline.sweeps.watching import JobWatcher
from verify_pipeline.training import Trained, TrainObserver, TrainSettings
from verify_pipeline.training import restore as load_trained
from verify_pipeline.training.latent import LatentMargins
from verify_pipeline.training.margins import ibp_margins
from verify_pipeline.training.settings import AttackSettings, TapsSettings

__all__ = [
    "AbcrownSetup",
    "AlphaCrownSettings",
    "AttackSettings",
    "AutoLirpaBounder",
    "Box",
    "BoxSet",
    "CertifyObserver",
    "CertifySettings",
    "ChannelBalls",
    "Cluster",
    "Counterexample",
    "DataSetInfo",
    "DataSettings",
    "Evidence",
    "ExportReport",
    "FewInputSettings",
    "FrontComparison",
    "ImageRadius",
    "ImageSet",
    "JobWatcher",
    "LatentMargins",
    "Ledger",
    "LinearRows",
    "LinfBall",
    "Margins",
    "Merged",
    "MethodFront",
    "Network",
    "Outcome",
    "OutputBounds",
    "OwnDataSettings",
    "PixelBalls",
    "Preprocessing",
    "ProcessGroup",
    "Question",
    "Reason",
    "Recipe",
    "RobustnessDistribution",
    "Shard",
    "Specification",
    "StageShares",
    "Status",
    "Summary",
    "SweepResult",
    "SweepRun",
    "Tally",
    "TapsSettings",
    "Targeted",
    "TopK",
    "TrainObserver",
    "TrainSettings",
    "Trained",
    "TuneResult",
    "TuneTrial",
    "Verdict",
    "VerifyPipelineError",
    "adversarial_certainty",
    "adversarial_loss",
    "arow_loss",
    "bounds",
    "cc_ibp_loss",
    "certify",
    "chord_slopes",
    "connected",
    "crown_ibp_fused_loss",
    "crown_ibp_loss",
    "exp_ibp_loss",
    "export_onnx",
    "find_abcrown",
    "front",
    "gradient_weighted",
    "ibp_loss",
    "ibp_margins",
    "images_of_dataset",
    "inline_svg",
    "joined",
    "load_arrays",
    "load_images",
    "load_network",
    "load_recipe",
    "load_trained",
    "margin_cross_entropy",
    "margin_matrix",
    "margins_of_logits",
    "mart_loss",
    "merge_ledgers",
    "mtl_ibp_loss",
    "natural_loss",
    "network_from_module",
    "pgd",
    "plot_accuracy",
    "plot_cactus",
    "plot_epsilon",
    "plot_margins",
    "plot_stages",
    "plot_training",
    "publish",
    "radius",
    "read_ledgers",
    "read_search",
    "recheck_ledger",
    "recipe_names",
    "report",
    "run",
    "sabr_box",
    "save_figure",
    "sweep",
    "tabulate",
    "taps_loss",
    "train",
    "tune",
    "verify",
    "verify_batch",
]
