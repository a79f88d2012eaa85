"""Bad input, as a user may type or hold it: one clear error, exit code 2, nothing left behind."""

import gzip
import hashlib
import shlex
import shutil
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from typer.testing import CliRunner

from tests.cli.bad_input import write_all
from tests.cli.typed import write_network
from verify_pipeline.cli.app import app

OWN = "--images images.npy --labels labels.npy"
TWO = f"certify two.onnx {OWN} --epsilon 0.1"
BOXES = "certify two.onnx --lower lower.npy --upper upper.npy"
TINY = "tiny.yaml --out x"
PROPERTY = "vnnlib --onnx two.onnx --property p.vnnlib"
SET = "vnncomp list.csv --out x.csv"

RECIPES = {
    "recipes no-such-recipe": "recipe 'no-such-recipe'; expected one of",
    "recipes gone.yaml": "gone.yaml; expected a YAML file; got no such file",
    "recipes torn.yaml": "torn.yaml, line 2; expected YAML",
    "recipes list.yaml": "expected a mapping of keys to values; got a list",
    "recipes none.yaml": "expected a mapping of keys to values; got nothing",
    "recipes bytes.yaml": "expected a readable UTF-8 file",
    "recipes twice.yaml": "description (line 9): duplicate key, first on line 1",
    "recipes empty-folder/": "Is a directory",
    "train no-such --out x": "recipe 'no-such'; expected one of",
    "train tiny.yaml": "Missing option",
    f"train {TINY} --set nonsense": "--set; expected KEY=VALUE; got 'nonsense'",
    f"train {TINY} --set =1": "a key (--set): expected names with dots between them",
    f"train {TINY} --set train..seed=1": "train..seed (--set): expected names with dots",
    f"train {TINY} --set train.sed=1": "train.sed (--set): unknown key; expected",
    f"train {TINY} --set train=1": "train (--set): expected a mapping of keys to values",
    f"train {TINY} --set train.seed.x=1": "train.seed (--set): input should be a valid integer",
    f"train {TINY} --set 'train.seed=[1'": "cannot read '[1' as a YAML value",
    f"train {TINY} --set train.seed=1 --set train.seed=2": "expected one value of train.seed",
    f"train {TINY} --set train.seed={'9' * 23}": "train.seed (--set): input should be less than",
    f"train {TINY} --set train.seed=-1": "train.seed (--set): input should be greater than or",
    f"train {TINY} --set train.seed=1.5": "train.seed (--set): input should be a valid integer",
    f"train {TINY} --set train.loss.alpha=nan": "loss.alpha (--set): expected a finite number",
    f"train {TINY} --set train.loss.alpha=2": "train.loss.alpha (--set): input should be less",
    f"train {TINY} --set train.epsilon.target=1e999": "train.epsilon.target (--set)",
    f"train {TINY} --set train.epsilon.target=1/0": "a fraction such as 2/255, got '1/0'",
    f"train {TINY} --set train.epsilon.target=1e-999999999999": "epsilon.target (--set)",
    f"train {TINY} --set train.data.name=mnisst": "did you mean mnist?",
    f"train {TINY} --set train.optimiser.epochs={'9' * 23}": "train.optimiser.epochs (--set)",
    f"train {TINY} --set train.network.width=1e30": "train.network.width (--set)",
    f"train {TINY} --set 'train.optimiser.milestones=[{'9' * 23}]'": "milestones[0] (--set)",
    f"train {TINY} --device abacus": "CUDA device that torch sees; got no such device",
    f"train {TINY} --device meta": "device 'meta'; expected auto, cpu, or a CUDA device",
    f"train {TINY} --device ''": "device ''; expected auto, cpu, or a CUDA device",
    f"train {TINY} --data-root nowhere": "data root (--data-root); expected a folder that exists",
    "train tiny.yaml --out file": "file is a file",
    "train tiny.yaml --out file/x": "file is a file",
    "export nowhere": "folder nowhere; expected a training's checkpoint; got none. Train first",
    f"train {TINY} --out ''": "folder ''; expected a folder's name",
    f"run {TINY} --out ''": "folder ''; expected a folder's name",
    "demo --out ''": "folder ''; expected a folder's name",
    "publish empty-folder --models ''": "folder ''; expected a folder's name",
    "certify ''": "NETWORK; expected a path that ends in a file's name",
    "certify .": "NETWORK; expected a path that ends in a file's name",
    "certify /": "NETWORK; expected a path that ends in a file's name; got '/'",
    "export empty-folder --out ''": "--out; expected a path that ends in a file's name",
    "export file": "folder file; expected a training's checkpoint; got none. Train first",
    f"run {TINY} --set certify.timeout=0": "certify.timeout (--set): input should be greater",
    f"run {TINY} --set certify.timeout=1e999": "certify.timeout (--set)",
    f"run {TINY} --set certify.indices=-1": "expected a count of images, or text such as '0:100'",
    f"run {TINY} --set certify.indices=99999": "expected at most 360 images; got 99999",
    f"run {TINY} --set 'certify.stages=[ibp]'": "expected clean as the first stage",
    f"run {TINY} --set 'certify.stages=[clean, abcrown]'": "verify-pipeline certify … --engine",
    f"run {TINY} --set certify.memory={'9' * 23}": "certify.memory (--set)",
    f"run {TINY} --set certify.search=gone": "search 'gone'; expected a YAML file's path",
    f"run {TINY} --set certify.epsilon=2": "certify.epsilon (--set): input should be less",
    f"run {TINY} --set name=../b": "name (--set): expected a name that files can have",
    "run tiny.yaml --out file": "file is a file",
    f"demo --out x --set train.seed={'9' * 23}": "train.seed (--set): input should be less than",
    "demo --out file": "file is a file",
    "doctor --nonsense": "No such option",
}

QUESTIONS = {
    f"certify gone.onnx {OWN} --epsilon 0.1": "network file gone.onnx; expected an ONNX file",
    f"certify text.onnx {OWN} --epsilon 0.1": "text.onnx; expected an ONNX file",
    f"certify half.onnx {OWN} --epsilon 0.1": "half.onnx; expected an ONNX file",
    f"certify empty.onnx {OWN} --epsilon 0.1": "empty.onnx; expected an ONNX file",
    f"certify inf.onnx {OWN} --epsilon 0.1": "expected weights finite in float32",
    f"certify two.onnx {OWN}": "epsilon; got none. Give it with --epsilon",
    "certify two.onnx --epsilon 0.1": "data set; got none. Name it with --data",
    f"certify two.onnx {OWN} --epsilon 1e999": "such as 2/255, got '1e999'",
    f"certify two.onnx {OWN} --epsilon 1e-999999999": "float64 can hold, got '1e-999999999'",
    f"certify two.onnx {OWN} --epsilon -1": "epsilon: input should be greater than or equal to 0",
    f"certify two.onnx {OWN} --epsilon 300/255": "epsilon: input should be less than or equal to 1",
    f"certify two.onnx {OWN} --epsilon nan": "such as 2/255, got 'nan'",
    f"certify two.onnx {OWN} --epsilon 1/0": "such as 2/255, got '1/0'",
    f"certify two.onnx {OWN} --epsilon ''": "such as 2/255, got ''",
    f"certify two.onnx {OWN} --epsilon 0.1,1e999": "--epsilon: expected a finite number",
    f"certify two.onnx {OWN} --epsilon 0.1,0.2": "one for each channel of images of shape",
    f"certify two.onnx {OWN} --epsilon-file eps-below.npy": "epsilon; expected finite numbers >= 0",
    f"certify two.onnx {OWN} --epsilon-file eps-nan.npy": "epsilon; expected finite numbers >= 0",
    f"certify two.onnx {OWN} --epsilon-file eps-wide.npy": "a shape that broadcasts to an image's",
    f"certify two.onnx {OWN} --epsilon-file objects.npy": "an array of numbers saved with numpy",
    f"certify two.onnx {OWN} --epsilon-file empty.npy": "an array of numbers saved with numpy",
    f"{TWO} --timeout 1e999": "timeout: expected a finite number, or a fraction such as 2/255",
    f"{TWO} --timeout -1": "timeout: input should be greater than 0",
    f"{TWO} --timeout soon": "timeout: expected a finite number",
    f"{TWO} --timeout 1e-400": "timeout: expected a number that float64 can hold",
    f"{TWO} --give-up 0": "give_up: input should be greater than 0",
    f"{TWO} --give-up nan": "give_up: input should be a finite number",
    f"{TWO} --indices -1": "indices: expected places of images, which are counted from 0; got -1",
    f"{TWO} --indices 9": "at most 4 images; got 9, which is read as a count. Image 9 alone",
    f"{TWO} --indices 1,9": "images from 0 to 3; got 9",
    f"{TWO} --indices 4:9": "indices 4:9; expected some images; got none",
    f"{TWO} --indices 0:4:0": "indices: expected a:b, a:b:step, a list such as 3,7,9, or a count",
    f"{TWO} --indices ''": "indices: string should have at least 1 character",
    f"{TWO} --indices ²": "a count; got '²'",
    f"{TWO} --indices {'9' * 5000}": "indices: expected a:b",
    f"{TWO} --stages ibp": "expected clean as the first stage",
    f"{TWO} --stages ''": "stages[0]: input should be 'clean', 'ibp'",
    f"{TWO} --stages clean,clean": "stages: expected each stage once",
    f"{TWO} --stages clean,input-split": "stages[1]: input should be 'clean', 'ibp'",
    f"{TWO} --stages clean,abcrown": "α,β-CROWN; got none found",
    f"{TWO} --search gone": "search 'gone'; expected a YAML file's path",
    f"{TWO} --search search.yaml": "bab.branching.method (line 1)",
    f"{TWO} --recipe gone": "recipe 'gone'; expected one of",
    f"{TWO} --engine magic": "--engine; expected builtin or abcrown; got magic",
    f"{TWO} --engine abcrown": "α,β-CROWN; got none found",
    f"{TWO} --abcrown-memory 5": "expected --engine abcrown beside them",
    f"{TWO} --engine abcrown --abcrown-memory 0": "--abcrown-memory; expected MiB, at least 1",
    f"{TWO} --engine abcrown --abcrown-home nowhere": "the folder that --abcrown-home names",
    f"{TWO} --device abacus": "device 'abacus'; expected auto, cpu, or a CUDA device",
    f"{TWO} --device meta": "device 'meta'; expected auto, cpu, or a CUDA device",
    f"{TWO} --mean 0.5 --std 1e-60": "std above zero, at least 1.18e-38; got 1e-60",
    f"{TWO} --mean 0.5 --std 1e-40": "std above zero, at least 1.18e-38; got 1e-40",
    f"{TWO} --mean 0.5 --std 0": "std above zero, at least 1.18e-38; got 0.0",
    f"{TWO} --mean 1e60 --std 1": "numbers that float32 can hold, up to 3.4e+38",
    f"{TWO} --mean 1e999 --std 1": "--mean: expected a finite number",
    f"{TWO} --mean 0.5": "as many numbers of one as of the other; got 1 and 0",
    f"{TWO} --layout chw": "--layout; expected nchw or nhwc; got chw",
    f"{TWO} --target 2": "targets; expected classes from 0 to 1; got 2",
    f"{TWO} --target -1": "targets; expected classes from 0 to 1; got -1",
    f"{TWO} --target ²": "a .npy file; got no file",
    f"{TWO} --target targets-five.npy": "one for each of 4 images; got shape (5,)",
    f"{TWO} --target text.npy": "text.npy; expected an array of numbers saved with numpy.save",
    f"{TWO} --top-k 0": "top-k; expected k of at least 1; got 0",
    f"{TWO} --top-k {'9' * 23}": "top-k; expected k below the number of classes, 2",
    f"{TWO} --rows rows-nan.npy": "specification; expected finite coefficients",
    f"{TWO} --rows rows-none.npy": "specification; expected at least one row",
    f"{TWO} --rows rows-wide.npy": "specification; expected rows for 2 outputs",
    f"{TWO} --rows rows.npy --offsets offsets-two.npy": "rows S x K and offsets S",
    f"{TWO} --rows rows.npy --top-k 1": "expected one of them; got several",
    f"{TWO} --rows empty-folder": "empty-folder; expected a .npy file; got no file",
}

DATA = {
    **{
        f"certify two.onnx --images {images}.npy --labels labels.npy --epsilon 0.1": told
        for images, told in (
            ("images-nan", "expected finite numbers in [0, 1]"),
            ("images-255", "got values from 0 to 255. Scale the images to [0, 1]"),
            ("images-below", "got values from -1 to 0"),
            ("images-int", "images-int.npy; expected bytes or floating-point numbers; got int64"),
            ("images-3d", "expected N x C x H x W or N x D; got (4, 1, 2)"),
            ("images-wide", "expected the network's input shape (1, 1, 2); got (1, 1, 3)"),
            ("images-none", "expected images N x ... and N labels"),
            ("objects", "objects.npy; expected an array of numbers"),
            ("images-more", "images-more.npy; expected an array of numbers"),
            ("gone", "gone.npy; expected a .npy file; got no file"),
        )
    },
    **{
        f"certify two.onnx --images images.npy --labels {labels}.npy --epsilon 0.1": told
        for labels, told in (
            ("labels-three", "expected images N x ... and N labels"),
            ("labels-float", "labels-float.npy; expected integers; got float64"),
            ("labels-2", "expected integers from 0 to 1; got 2 at image 2"),
            ("labels-below", "expected integers from 0 to 1; got -1 at image 0"),
            ("labels-2d", "labels-2d.npy; expected N integers; got shape (4, 1)"),
            ("labels-below.npy --rows rows", "labels-below.npy; expected integers from 0 on"),
            ("gone", "gone.npy; expected a .npy file; got no file"),
        )
    },
    "certify two.onnx --images images.npy --epsilon 0.1": "both or neither",
    f"certify one.onnx {OWN} --epsilon 0.1": "network; expected at least 2 outputs",
    f"{TWO} --data digits": "Leave out --data",
    f"{TWO} --split train": "Leave out --split",
    "certify two.onnx --data gone --epsilon 0.1": "data set; expected one of digits, mnist",
    "certify two.onnx --data digits --epsilon 0.1": "images; expected the network's input shape",
    "certify two.onnx --data digits --split dev --epsilon 0.1": "split; expected train or test",
    "certify two.onnx --data mnist --epsilon 0.1 --data-root file": "data root (--data-root)",
    "certify two.onnx --lower lower.npy": "--lower and --upper; expected both or neither",
    f"{BOXES} --epsilon 0.1": "Leave out --epsilon",
    BOXES: "specification margins; expected labels; got boxes without them",
    f"{BOXES} --labels labels-2.npy": "labels of boxes lower; expected integers from 0 to 1",
    f"{BOXES} --labels labels-three.npy": "labels of boxes lower; expected 4 int64 numbers",
    f"{BOXES} --labels labels.npy --images images-255.npy": "expected a point inside each box",
    "certify two.onnx --lower lower.npy --upper upper-inf.npy --labels labels.npy": "finite limits",
    "certify two.onnx --lower upper.npy --upper lower.npy --labels labels.npy": "an empty box at 0",
    "certify two.onnx --lower lower-between.npy --upper upper-between.npy --labels labels.npy": (
        "box 0 of lower-between; expected a float32 number between the limits of every input"
    ),
}

LEDGERS = {
    f"{TWO} --ledger ''": "--ledger; expected a path that ends in a file's name",
    f"{TWO} --ledger empty.sqlite": "ledger empty.sqlite; expected a ledger written by verify",
    f"{TWO} --ledger text.sqlite": "ledger text.sqlite; expected an undamaged ledger",
    f"{TWO} --ledger foreign.sqlite": "got another SQLite file",
    f"{TWO} --ledger newer.sqlite": "a schema version up to 3; got 99",
    f"{TWO} --ledger half.sqlite": "ledger half.sqlite; expected an undamaged ledger",
    f"{TWO} --ledger file/x.sqlite": "expected a place that can be written",
    f"{TWO} --ledger empty-folder": "got a folder or a device",
    f"{TWO} --stages clean,ibp --ledger edited.sqlite": "run 1, image 0; expected a finite bound",
    "table gone.sqlite": "ledger gone.sqlite; expected a file; got none. Certify something first",
    "table empty.sqlite": "got an empty file",
    "table text.sqlite": "expected an undamaged ledger",
    "table foreign.sqlite": "got another SQLite file",
    "table newer.sqlite": "a schema version up to 3; got 99",
    "table half.sqlite": "expected an undamaged ledger",
    "table edited.sqlite --out x": "run 1, image 0; expected a finite bound > 0",
    "table empty-folder": "got a folder or a device",
    "table good.sqlite gone.sqlite": "ledger gone.sqlite; expected a file; got none",
    "table good.sqlite --out file/x": "file file/x.csv; expected a place that can be written",
    "table good.sqlite --out ''": "--out; expected a path that ends in a file's name",
    "table good.sqlite --out ..": "--out; expected a path that ends in a file's name",
    "table good.sqlite --by colour": "group by 'colour'; expected one of network, method",
    "table good.sqlite --columns colour": "column 'colour'; expected some of network",
    "table good.sqlite --verdicts-of tool": "--verdicts-of; expected KEY=VALUE",
    "table good.sqlite --images-frame x.xlsx": "a file that ends in .csv or .parquet",
    "report gone.sqlite --out x": "ledger gone.sqlite; expected a file; got none",
    "report half.sqlite --out x": "expected an undamaged ledger",
    "report edited.sqlite --out x": "run 1, image 0; expected a finite bound > 0",
    "report empty-folder --out x": "folder empty-folder; expected a run's folder",
    "report good.sqlite --out ''": "--out; expected a path that ends in a file's name",
    "report good.sqlite --out file/x": "file file/x; expected a place that can be written",
    "report good.sqlite --out x --gallery -1": "images of the gallery; expected a number >= 0",
    "report good.sqlite --out x --class-names gone.txt": "class names gone.txt; expected a text",
    "report good.sqlite --out x --class-names images.npy": "expected a text file",
    "report good.sqlite --out x --labels labels.npy": "--images and --labels; expected both",
    "report good.sqlite --out x --images images-nan.npy --labels labels.npy": "finite numbers",
    "plot gone.sqlite --out x": "ledger gone.sqlite; expected a file; got none",
    "plot good.sqlite --out ''": "--out; expected a path that ends in a file's name",
    "plot good.sqlite --out x --kind pie": "--kind; expected one of accuracy",
    "plot good.sqlite --out x --format gif": "expected",
    "plot good.sqlite --out x --width wide": "expected",
    "plot empty-folder --out x --kind training": "metrics.csv",
    "status text.onnx": "file text.onnx; expected a ledger, or the folder of a run; got another",
    "status newer.sqlite": "a schema version up to 3; got 99",
    "status edited.sqlite": "run 1, image 0; expected a finite bound > 0",
    f"{TWO} --quiet --json": "--quiet and --json; expected one of them; got both",
    "recheck two.onnx --ledger gone.sqlite": "ledger gone.sqlite; expected a file; got none",
    "recheck one.onnx --ledger good.sqlite": "expected verdicts of this network file",
    "recheck two.onnx --ledger good.sqlite": "got only runs of images arrays. Name the arrays",
    f"recheck two.onnx --ledger edited.sqlite {OWN}": "run 1, image 0; expected a finite bound",
    "recheck gone.onnx --ledger good.sqlite": "network file gone.onnx; expected an ONNX file",
    "recheck two.onnx --ledger good.sqlite --images images.npy": "both or neither",
    f"recheck two.onnx --ledger good.sqlite {OWN} --target nine": "nine; expected a .npy file",
    "publish nowhere": "folder nowhere; expected a finished run, with its recipe.yaml; got none",
    "publish file": "folder file; expected a finished run, with its recipe.yaml; got none",
}

PROPERTIES = {
    "vnnlib --onnx gone.onnx --property p.vnnlib": "network file gone.onnx; expected an ONNX file",
    "vnnlib --onnx text.onnx --property p.vnnlib": "text.onnx; expected an ONNX file",
    "vnnlib --onnx one.onnx --property p.vnnlib": "outputs of p.vnnlib; expected the network's 1",
    "vnnlib --onnx two.onnx --property gone.vnnlib": "file gone.vnnlib; expected a file that can",
    "vnnlib --onnx two.onnx --property p-three.vnnlib": "expected X_0 to X_2; got no X_1",
    "vnnlib --onnx two.onnx --property p-open.vnnlib": "X_0 with an upper limit in every case",
    "vnnlib --onnx two.onnx --property p-torn.vnnlib": "line 4; expected a closing bracket",
    "vnnlib --onnx two.onnx --property p-text.vnnlib": "line 1; expected a command in brackets",
    "vnnlib --onnx two.onnx --property p-none.vnnlib": "expected a declared variable X_0; got none",
    "vnnlib --onnx two.onnx --property p-huge.vnnlib": "a number that float64 can hold",
    "vnnlib --onnx two.onnx --property torn.vnnlib.gz": "expected a whole gzip file",
    f"{PROPERTY} --timeout 0": "timeout; expected seconds > 0",
    f"{PROPERTY} --timeout nan": "timeout; expected seconds > 0",
    f"{PROPERTY} --timeout 1e999": "timeout; expected seconds > 0",
    f"{PROPERTY} --timeout soon": "Invalid value for",
    f"{PROPERTY} --search gone": "search 'gone'; expected a YAML file's path",
    f"{PROPERTY} --device abacus": "device 'abacus'; expected auto, cpu, or a CUDA device",
    f"{PROPERTY} --counterexample ''": "--counterexample; expected a path that ends in",
    f"{PROPERTY} --counterexample file/x": "file file/x; expected a place that can be written",
    "vnncomp gone.csv --out x.csv": "file gone.csv; expected a file that can be read",
    "vnncomp list-none.csv --out x.csv": "expected lines onnx,vnnlib,timeout; got none",
    "vnncomp list-two.csv --out x.csv": "list-two.csv, line 1; expected onnx,vnnlib,timeout",
    "vnncomp list-gone.csv --out x.csv": "line 1; expected a file beside the list; got gone.onnx",
    "vnncomp list-long.csv --out x.csv": "line 1; expected seconds > 0; got 1e999",
    "vnncomp list-late.csv --out x.csv": "line 1; expected seconds > 0; got soon",
    "vnncomp list-bytes.csv --out x.csv": "expected CSV in UTF-8",
    "vnncomp list.csv --out ''": "--out; expected a path that ends in a file's name",
    "vnncomp list.csv --out list.csv": "results file list.csv; expected columns onnx, vnnlib",
    "vnncomp list.csv --out results-odd.csv": "results-odd.csv, line 2; expected a result",
    "vnncomp list.csv --out results-torn.csv": "torn.csv, line 2; expected 5 columns; got 1",
    "vnncomp list.csv --out file/x.csv": "is a file",
    "vnncomp list.csv --out empty-folder": "file empty-folder; expected a file that can be read",
    f"{SET} --timeout nan": "timeout; expected seconds > 0",
    f"{SET} --timeout -1": "timeout; expected seconds > 0",
    f"{SET} --give-up 0": "give_up; expected a number > 0",
    f"{SET} --give-up inf": "give_up; expected a number > 0",
    f"{SET} --search gone": "search 'gone'; expected a YAML file's path",
    f"{SET} --device abacus": "device 'abacus'; expected auto, cpu, or a CUDA device",
    f"{SET} --reference gone.csv": "file gone.csv; expected a file that can be read",
    f"{SET} --reference known-bare.csv": "expected columns onnx, vnnlib, verdict",
    f"{SET} --reference known-odd.csv": "line 2; expected one of sat, sat-unchecked, unsat",
    f"{SET} --counterexamples file": "folder file; expected a folder that can be written",
    "vnncomp-table gone.csv --references . --out x": "file gone.csv; expected a file that can",
    "vnncomp-table results.csv --references nowhere --out x": "file nowhere/results.csv; expected",
    "vnncomp-table list.csv --references . --out x": "expected columns onnx, vnnlib, verdict",
    "vnncomp-table results.csv --references . --out ''": "a path that ends in a file's name",
    "crosscheck --out x": "crosscheck; expected a network, or --instances",
    "crosscheck two.onnx --instances list.csv --out x": "got both or neither of them",
    f"crosscheck two.onnx {OWN} --epsilon 0.1 --out x": "α,β-CROWN; got none found",
    f"crosscheck two.onnx {OWN} --epsilon 0.1 --out ''": "a path that ends in a file's name",
    f"crosscheck two.onnx {OWN} --out x --limit 0": "Invalid value for",
    "crosscheck --instances list.csv --out x --abcrown-home nowhere": "that --abcrown-home names",
}

RADII = {
    f"radius two.onnx {OWN}": "Missing option '--up-to'",
    f"radius '' {OWN} --up-to 0.1": "NETWORK; expected a path that ends in a file's name",
    f"radius gone.onnx {OWN} --up-to 0.1": "network file gone.onnx; expected an ONNX file",
    "radius two.onnx --up-to 0.1": "data set; got none. Name it with --data",
    f"radius two.onnx {OWN} --up-to 0": "largest epsilon; expected above 0, and at most 1; got 0",
    f"radius two.onnx {OWN} --up-to 2": "epsilon: input should be less than or equal to 1",
    f"radius two.onnx {OWN} --up-to 0.1,0.2": "such as 2/255, got '0.1,0.2'",
    f"radius two.onnx {OWN} --up-to nan": "such as 2/255, got 'nan'",
    f"radius two.onnx {OWN} --up-to 0.1 --steps 0": "steps; expected from 1 to 10000; got 0",
    f"radius two.onnx {OWN} --up-to 0.1 --steps many": "Invalid value for",
    f"radius two.onnx {OWN} --up-to 0.1 --tolerance 1/0": "--tolerance: expected a finite number",
    f"radius two.onnx {OWN} --up-to much --tolerance 0.1": "--up-to: expected a finite number",
    f"radius two.onnx {OWN} --up-to 0.1 --tolerance 0": "--tolerance; expected a number > 0",
    f"radius two.onnx {OWN} --up-to 0.1 --tolerance 1e-9": "steps; expected from 1 to 10000",
    f"radius two.onnx {OWN} --up-to 0.1 --steps 2 --tolerance 0.1": "one of them; got both",
    f"radius two.onnx {OWN} --up-to 0.1 --indices 9:9": "expected some images; got none",
    f"radius two.onnx {OWN} --up-to 0.1 --stages clean,abcrown": "expected stages of this package",
    f"radius two.onnx {OWN} --up-to 0.1 --out ''": "--out; expected a path that ends in",
    f"radius two.onnx {OWN} --up-to 0.1 --out file/x": "folder file; expected a folder that can be",
    f"radius two.onnx {OWN} --up-to 0.1 --ledger text.sqlite": "expected an undamaged ledger",
    f"radius two.onnx {OWN} --up-to 0.1 --ledger edited.sqlite": "run 1, image 0; expected a",
    f"radius two.onnx {OWN} --data mnist --up-to 0.1": "Leave out --data",
    f"radius two.onnx {OWN} --up-to 0.1 --top-k 2": "below the number of classes",
}

SHOWN = {
    "show good.sqlite": "Missing option '--image'",
    "show gone.sqlite --image 0": "ledger gone.sqlite; expected a file; got none",
    "show text.sqlite --image 0": "expected an undamaged ledger",
    "show edited.sqlite --image 0": "run 1, image 0; expected a finite bound",
    "show bare.sqlite --image 0": "image 0; expected verdicts; got none of it in the ledger",
    "show good.sqlite --image 9": "image 9; expected one with a verdict: 0:4; got none of it",
    "show good.sqlite --image -1": "Invalid value for",
    "show good.sqlite --image 0 --run 0": "Invalid value for",
    "show good.sqlite --image 0 --png x.png": "expected a known data set; got your own images",
}

MANY_RUNS = {
    f"sweep {TINY} --grid train.seed": "--grid; expected KEY=VALUE,VALUE,…; got 'train.seed'",
    f"sweep {TINY} --grid train.loss.alpha=1,2,x": "--grid of tiny.yaml: 2 errors",
    f"sweep {TINY} --grid train.sed=1": "train.sed (--grid): unknown key; expected",
    f"sweep {TINY} --grid train.seed=1 --seeds 2": "expected seeds in one place",
    f"sweep {TINY} --jobs 0": "--jobs; expected at least 1; got 0",
    "sweep tiny.yaml --out file": "expected a folder that can be written; got",
    f"tune {TINY} --objectives speed": "--objectives; expected some of standard,",
    f"tune {TINY} --space torn.yaml": "torn.yaml, line 2; expected YAML",
    f"tune {TINY} --space tiny.yaml": "train (line 2): unknown key; expected one of parameters",
    f"tune {TINY} --trials 0": "--trials; expected at least 1; got 0",
    "front empty-folder": "expected a sweep (sweep.json) or a tuning (tune.json); got neither",
    "front gone": "folder gone; expected a sweep",
    "front empty-folder --reference 0": "reference; expected two accuracies",
}

CASES = {**RECIPES, **QUESTIONS, **DATA, **LEDGERS, **PROPERTIES, **RADII, **SHOWN, **MANY_RUNS}


def digests(folder: Path) -> dict[Path, str]:
    """What lies in a folder, by path."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, str]]:
    """The folder of bad files, and what is in it."""
    folder = tmp_path_factory.mktemp("bad")
    write_all(folder)
    return folder, digests(folder)


@pytest.mark.parametrize("typed", CASES, ids=lambda typed: typed[:80])
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    typed: str, bad: tuple[Path, dict[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = bad
    monkeypatch.chdir(folder)
    for variable in ("ABCROWN_HOME", "ABCROWN_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    result = CliRunner().invoke(app, shlex.split(typed))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert " ".join(CASES[typed].split()) in told
    assert told.startswith(("error: ", "Usage: "))
    left = digests(folder)
    shutil.rmtree(folder / "x", ignore_errors=True)  # one failure is enough
    assert left == before


def test_labels_that_nothing_asks_for_may_be_any(
    bad: tuple[Path, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of rows, and of a network with one output."""
    monkeypatch.chdir(bad[0])
    np.save(tmp_path / "row.npy", np.array([[1.0]]))
    own = ("--images", "images.npy", "--labels", "labels-2.npy", "--epsilon", "0.1")
    boxes = ("--lower", "lower.npy", "--upper", "upper.npy", "--labels", "labels-2.npy")
    rows = ("--rows", f"{tmp_path}/row.npy", "--ledger", f"{tmp_path}/ledger.sqlite")
    for asked in (own, boxes):
        result = CliRunner().invoke(app, ["certify", "one.onnx", *asked, *rows])
        assert result.exit_code == 0, result.stderr
        assert "100.00" in result.stdout


def test_rows_need_no_labels(
    bad: tuple[Path, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(bad[0])
    np.save(tmp_path / "row.npy", np.array([[1.0]]))
    asked = ("--images", "images.npy", "--rows", f"{tmp_path}/row.npy")
    ledger = ("--ledger", f"{tmp_path}/ledger.sqlite")
    certify = ["certify", "one.onnx", *asked, "--epsilon", "0.1", *ledger]
    for typed in (certify, ["recheck", "one.onnx", *asked, *ledger]):
        result = CliRunner().invoke(app, typed)
        assert result.exit_code == 0, result.stderr


def test_every_command_is_typed() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {typed.split()[0] for typed in CASES} == names


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--data-root", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "-> Name a folder that exists" in result.stdout


@pytest.mark.parametrize("epsilon", [1.5, -0.1, float("nan"), float("inf"), "much", True])
def test_the_api_tells_a_wrong_epsilon_as_the_commands_do(
    bad: tuple[Path, dict[Path, str]], epsilon: float
) -> None:
    from verify_pipeline import api

    folder = bad[0]
    images = api.load_arrays(folder / "images.npy", folder / "labels.npy", 2)
    with pytest.raises(api.VerifyPipelineError, match=r"settings: 1 error\n  epsilon: "):
        api.certify(folder / "two.onnx", images, epsilon)


def refused(folder: Path, *arguments: object) -> str:
    """What a command says that has to fail without leaving a file in ``folder``."""
    before = digests(folder)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert digests(folder) == before
    return result.stderr


def test_missing_and_damaged_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    root, out = tmp_path / "data", tmp_path / "out"
    (root / "mnist").mkdir(parents=True)
    train = ("train", "mnist-0.1-cnn7-cc-ibp", "--out", out, "--data-root", root)
    said = refused(tmp_path, *train)
    assert "--data-root" in said
    assert "VERIFY_PIPELINE_DATA" in said
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (root / "mnist" / name).write_bytes(gzip.compress(bytes(64)))
    said = refused(tmp_path, *train)
    assert "MD5" in said
    assert "delete it and fetch it again" in said


def test_diverged_weights_are_not_exported(tmp_path: Path) -> None:
    from verify_pipeline import api

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    with torch.no_grad():
        module[1].weight[0, 0] = torch.nan
    with pytest.raises(api.VerifyPipelineError, match="finite numbers; got NaN"):
        api.export_onnx(module, tmp_path / "bad.onnx", input_shape=(1, 1, 2))
    assert list(tmp_path.iterdir()) == []


def test_unsupported_operator(bad: tuple[Path, dict[Path, str]], tmp_path: Path) -> None:
    network = write_network(tmp_path / "odd.onnx", np.eye(2), ["Relu", "Hardmax"])
    arrays = ("--images", bad[0] / "images.npy", "--labels", bad[0] / "labels.npy")
    assert "Hardmax" in refused(tmp_path, "certify", network, *arrays, "--epsilon", 0.1)
