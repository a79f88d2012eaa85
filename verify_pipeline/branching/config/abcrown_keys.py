"""The keys of α,β-CROWN's configuration files that the built-in search ignores, by section.

They are the keys of release 0.7.0, and some keys of earlier releases.
"""

from __future__ import annotations

KEYS: dict[str, str] = {
    "general": """adhoc_tuning buffer_has_batchdim complete_verifier conv_mode csv_name
        deterministic deterministic_opt device double_fp enable_incomplete_verification
        eval_adv_example graph_optimizer loss_reduction_func onnx_adv_example output_file
        precompile_jit prepare_only reset_seed_after_precompile results_file
        return_optimized_model root_path save_adv_example save_output seed show_adv_example
        sparse_alpha sparse_interm store_all_specs_on_cpu verify_onnxruntime_output""",
    "model": """bound_opts cache_onnx_conversion check_optimized check_optmized debug_onnx
        flatten_final_output input_shape name onnx_loader onnx_optimization_flags onnx_path
        onnx_path_prefix onnx_quirks onnx_vnnlib_joint_optimization_flags optimize_graph path
        with_jacobian""",
    "data": """data_filter_path data_idx_file dataset end mean num_outputs pkl_path
        select_instance start std""",
    "specification": """epsilon epsilon_min norm rhs_offset robustness_type shrink_eps type
        vnnlib_path vnnlib_path_prefix""",
    "solver": """auto_enlarge_batch_size batched_crown_auto_enlarge_max_vram_ratio
        bound_prop_method build_batch_size early_stop_patience forward_before_compute_bounds
        init_bound_prop_method min_batch_size_ratio optimize_disjuncts_separately
        prune_after_crown skip_with_refined_bound start_save_best use_float64_in_last_iteration""",
    "solver.alpha-crown": """alpha alpha_dtype disable_optimization full_conv_alpha
        input_split_alpha_iteration input_split_lr_alpha matmul_share_alphas max_coeff_mul
        max_time share_alphas""",
    "solver.beta-crown": "all_node_split_LP beta beta_warmup enable_opt_interm_bounds optimizer",
    "solver.crown": """activation_bound_option batch_size compare_crown_with_ibp max_crown_size
        relu_option""",
    "solver.forward": "dynamic max_dim refine reset_threshold",
    "solver.invprop": """apply_output_constraints_to best_of_oc_and_no_oc directly_optimize
        oc_lr share_gammas tighten_input_bounds""",
    "solver.mip": """adv_warmup early_stop extra_constraint formulation mip_solver output_cut
        parallel_solvers refine_neuron_time_percentage refine_neuron_timeout
        refine_neuron_timeout_increasement remaining_timeout_threshold remove_unstable_neurons
        skip_unsafe sliding_window solver_threads timeout_neuron_percentage topk_filter
        unstable_neuron_threshold""",
    "solver.multi_class": "label_batch_size skip_with_refined_bound",
    "bab": """batched_domain_list decision_thresh get_upper_bound hugetensor_allocator
        initial_max_domains interm_transfer max_iterations optimized_interm override_timeout
        pruning_in_iteration pruning_in_iteration_ratio recompute_interm sort_domain_interval
        sort_targets timeout_scale tree_traversal vanilla_crown""",
    "bab.attack": """adv_pool_threshold beam_candidates beam_depth enabled max_dive_fix_ratio
        min_local_free_ratio mip_start_iteration mip_timeout refined_batch_size
        refined_mip_attacker""",
    "bab.branching": """branching_input_and_activation branching_input_and_activation_order
        branching_input_iterations branching_relu_iterations enable_intermediate_bound_opt
        reduceop""",
    "bab.branching.input_split": """adv_check attack_patience bf_backup_thresh bf_batch_size
        bf_iters bf_rhs_offset bf_zero_crossing_score catch_assertion compare_with_old_bounds
        enable enhanced_bound_patience enhanced_bound_prop_method enhanced_branching_method
        ibp_enhancement input_dim_threshold presplit_domains reorder_bab sb_coeff_thresh
        sb_margin_weight sb_primary_spec sb_sum show_progress skip_getting_worst_domain
        sort_descending sort_index split_hint split_partitions touch_zero_score
        update_rhs_with_attack""",
    "bab.branching.nonlinear_split": """branching_point_db branching_point_method
        branching_point_node disable dynamic_bbps dynamic_options filter filter_batch_size
        filter_beta filter_clamp filter_iterations loose_tanh_threshold method num_branches
        relu_only use_min""",
    "bab.branching.nonlinear_split.branching_point": """batch_size db_path log_interval
        num_iterations range_l range_u step_size step_size_1d""",
    "bab.clip_n_verify": "alpha_crown final_layer prune rearrange_constraints",
    "bab.clip_n_verify.clip_input_domain": """clip_calculate_volume_metrics clip_iterations
        clip_neuron_selection_type clip_neuron_selection_value clip_type enabled""",
    "bab.clip_n_verify.clip_interm_domain": "clip_in_alpha_crown enabled topk_objective with_input",
    "bab.cut": """bab_cut bab_iteration batch_size_primal cplex_cuts cplex_cuts_revpickup
        cplex_cuts_wait cut_reference_bounds cuts_path early_stop_patience enabled
        fix_intermediate_bounds implication iteration lp_cut lr lr_beta lr_decay manual_cuts
        max_num method number_cuts patches_cut topk_cuts_in_filter""",
    "bab.cut.biccos": """auto_param constraint_strengthening drop_ratio enabled heuristic
        max_domain max_infer_iter save_cuts""",
    "bab.cut.biccos.multi_tree_branching": """enabled iterations keep_n_best_domains
        restore_best_tree target_batch_size""",
    "attack": """adv_example_finalizer adv_saver adv_verifier attack_func attack_mode
        attack_tolerance cex_path check_clean early_stop_condition enable_mip_attack gama_decay
        gama_lambda general_attack pgd_alpha pgd_alpha_scale pgd_batch_size pgd_early_stop
        pgd_loss pgd_loss_mode pgd_lr_decay pgd_restart_when_stuck""",
    "attack.input_split": "pgd_alpha pgd_restarts pgd_steps",
    "attack.input_split_check_adv": "enabled max_num_domains pgd_alpha pgd_restarts pgd_steps",
    "attack.input_split_enhanced": "pgd_alpha pgd_restarts pgd_steps",
    "debug": """biccos_mip_sanity_check lp_test print_verbose_decisions rescale_vnnlib_ptb
        sanity_check save_minimal_config save_minimal_config_omit_keys test_optimized_bounds
        test_optimized_bounds_after_n_iterations view_model z_split_enabled""",
}
"""Section -> its keys, separated by blanks."""
