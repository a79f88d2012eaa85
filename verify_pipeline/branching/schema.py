"""α,β-CROWN's YAML schema, read for the built-in search: one file drives either engine.

Keys that the built-in search follows stand in :data:`USED`. The other keys of that schema are
accepted and listed as unused, so that nobody believes they had an effect; anything else is an
error. Names and defaults: github.com/Verified-Intelligence/alpha-beta-CROWN, release 0.7.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from verify_pipeline.branching.settings import SearchSettings
from verify_pipeline.strict_yaml import Document, KeyPath, dotted, parse, problems_error

USED: dict[str, tuple[str, ...]] = {
    "solver.batch_size": ("batch",),
    "solver.alpha-crown.iteration": ("root", "iterations"),
    "solver.alpha-crown.lr_alpha": ("root", "lr_alpha"),
    "solver.alpha-crown.lr_decay": ("root", "decay"),
    "solver.beta-crown.iteration": ("domain", "iterations"),
    "solver.beta-crown.lr_alpha": ("domain", "lr_alpha"),
    "solver.beta-crown.lr_beta": ("domain", "lr_beta"),
    "solver.beta-crown.lr_decay": ("domain", "decay"),
    "bab.timeout": ("timeout",),
    "bab.max_domains": ("max_domains",),
    "bab.branching.method": ("branching", "method"),
    "bab.branching.candidates": ("branching", "candidates"),
    "bab.branching.reduceop": ("branching", "reduceop"),
    "attack.pgd_order": ("attack", "order"),
    "attack.pgd_steps": ("attack", "steps"),
    "attack.pgd_restarts": ("attack", "restarts"),
}
"""Dotted key of the schema -> path of the field in :class:`SearchSettings`."""

# The rest of the schema, by section.
_UNUSED = {
    "general": """device seed conv_mode deterministic double_fp loss_reduction_func sparse_alpha
        sparse_interm save_adv_example eval_adv_example show_adv_example precompile_jit
        complete_verifier enable_incomplete_verification csv_name results_file root_path
        deterministic_opt graph_optimizer buffer_has_batchdim save_output output_file
        return_optimized_model""",
    "model": """name path onnx_path onnx_path_prefix cache_onnx_conversion onnx_quirks input_shape
        onnx_loader onnx_optimization_flags onnx_vnnlib_joint_optimization_flags check_optmized
        flatten_final_output optimize_graph with_jacobian""",
    "data": """start end select_instance num_outputs mean std pkl_path dataset data_idx_file""",
    "specification": """type robustness_type norm epsilon epsilon_min vnnlib_path
        vnnlib_path_prefix rhs_offset""",
    "solver": """auto_enlarge_batch_size min_batch_size_ratio use_float64_in_last_iteration
        early_stop_patience start_save_best bound_prop_method init_bound_prop_method
        prune_after_crown optimize_disjuncts_separately""",
    "solver.crown": "batch_size max_crown_size relu_option",
    "solver.alpha-crown": """alpha share_alphas full_conv_alpha max_coeff_mul matmul_share_alphas
        disable_optimization""",
    "solver.beta-crown": "optimizer enable_opt_interm_bounds all_node_split_LP",
    "solver.invprop": """apply_output_constraints_to tighten_input_bounds best_of_oc_and_no_oc
        directly_optimize oc_lr share_gammas""",
    "solver.forward": "refine dynamic max_dim reset_threshold",
    "solver.multi_class": "label_batch_size skip_with_refined_bound",
    "solver.mip": """parallel_solvers solver_threads refine_neuron_timeout
        refine_neuron_time_percentage early_stop adv_warmup mip_solver""",
    "bab": """initial_max_domains decision_thresh timeout_scale max_iterations override_timeout
        pruning_in_iteration pruning_in_iteration_ratio sort_targets batched_domain_list
        optimized_interm recompute_interm sort_domain_interval vanilla_crown""",
    "bab.cut": """enabled implication bab_cut method lr lr_decay iteration bab_iteration lr_beta
        number_cuts topk_cuts_in_filter batch_size_primal max_num patches_cut cplex_cuts
        cplex_cuts_wait cplex_cuts_revpickup cut_reference_bounds fix_intermediate_bounds""",
    "bab.branching": """enable_intermediate_bound_opt branching_input_and_activation
        branching_input_and_activation_order branching_input_iterations
        branching_relu_iterations""",
    "bab.branching.nonlinear_split": """method branching_point_method num_branches filter
        filter_beta filter_batch_size filter_iterations use_min loose_tanh_threshold dynamic_bbps
        dynamic_options branching_point_node branching_point_db""",
    "bab.branching.input_split": """enable enhanced_bound_prop_method enhanced_branching_method
        enhanced_bound_patience attack_patience adv_check split_partitions sb_margin_weight sb_sum
        bf_backup_thresh bf_rhs_offset bf_iters bf_batch_size bf_zero_crossing_score
        touch_zero_score ibp_enhancement catch_assertion compare_with_old_bounds
        update_rhs_with_attack sb_coeff_thresh sort_index sort_descending show_progress""",
    "bab.attack": """enabled beam_candidates beam_depth max_dive_fix_ratio min_local_free_ratio
        mip_start_iteration mip_timeout adv_pool_threshold refined_mip_attacker
        refined_batch_size""",
    "attack": """pgd_batch_size pgd_early_stop pgd_lr_decay pgd_alpha pgd_alpha_scale
        pgd_loss_mode enable_mip_attack adv_saver early_stop_condition adv_example_finalizer
        pgd_loss cex_path attack_mode attack_tolerance attack_func gama_lambda gama_decay
        check_clean""",
    "attack.input_split": "pgd_steps pgd_restarts pgd_alpha",
    "attack.input_split_enhanced": "pgd_steps pgd_restarts pgd_alpha",
    "attack.input_split_check_adv": "pgd_steps pgd_restarts pgd_alpha max_num_domains",
    "debug": "view_model",
}
_KNOWN = {f"{section}.{key}" for section, keys in _UNUSED.items() for key in keys.split()}
_SECTIONS = {
    ".".join(key.split(".")[:depth])
    for key in _KNOWN | set(USED)
    for depth in range(1, key.count(".") + 1)
}


@dataclass(frozen=True)
class SearchFile:
    """What a configuration file means for the built-in search.

    Attributes:
        settings: the search's, with this package's defaults where the file says nothing.
        unused: dotted keys of the file that only α,β-CROWN follows.
    """

    settings: SearchSettings
    unused: tuple[str, ...]


def read_search(source: Path | str) -> SearchFile:
    """Read a file of α,β-CROWN's schema, or the text of one.

    Raises:
        ConfigError: not YAML, an unknown key, or a value out of range; all at once, with lines.
    """
    document = parse(source)
    leaves = dict(_leaves(document.value, ()))
    problems = list(document.problems)
    problems += [
        f"{document.place(path)}: not a key of α,β-CROWN's schema"
        for path in leaves
        if dotted(path) not in _KNOWN and dotted(path) not in USED
    ]
    settings = None
    try:
        settings = TypeAdapter(SearchSettings).validate_python(_fields(leaves))
    except ValidationError as error:
        problems += _value_problems(document, error)
    if problems or settings is None:
        raise problems_error(document.name, tuple(problems))
    return SearchFile(settings, tuple(dotted(p) for p in leaves if dotted(p) not in USED))


def _leaves(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    """Values below the schema's sections, by their path."""
    if isinstance(value, dict) and (not path or dotted(path) in _SECTIONS):
        return [leaf for key, child in value.items() for leaf in _leaves(child, (*path, key))]
    return [(path, value)]


def _fields(leaves: dict[KeyPath, Any]) -> dict[str, Any]:
    """The search's fields that the file sets, nested."""
    fields: dict[str, Any] = {}
    for path, value in leaves.items():
        field = USED.get(dotted(path))
        if field is None:
            continue
        unlimited = field == ("max_domains",) and value == math.inf
        parent = fields.setdefault(field[0], {}) if len(field) > 1 else fields
        parent[field[-1]] = None if unlimited else value
    return fields


def _value_problems(document: Document, error: ValidationError) -> list[str]:
    key_of = {field: tuple(key.split(".")) for key, field in USED.items()}
    problems = []
    for detail in error.errors():
        field = tuple(part for part in detail["loc"] if isinstance(part, str))
        path = next((key_of[field[:n]] for n in (2, 1) if field[:n] in key_of), field)
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{document.place(path)}: {message}, got {detail['input']!r}")
    return problems
