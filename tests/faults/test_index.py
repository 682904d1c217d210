"""Which test proves which fault. The numbers are those of the list of faults that providers, networks, clients and our own
process come with; each is met over real sockets unless the clock or a count is the point."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HERE = "faults/test_faults.py"
WIRES = "faults/test_wires.py"
VIRTUAL = "faults/test_virtual.py"
PROCESS = "faults/test_process.py"
ALERTS = "telemetry/test_alerts.py"
COOLING = "upstream/test_cooling.py"
MOVES = f"{HERE}::test_a_failure_before_content_moves_on_unseen"
ALONE = f"{HERE}::test_a_single_model_fails_with_one_clean_error"
BEFORE = f"{WIRES}::test_13_to_16_cut_before_the_answers_head"
WITHIN = f"{WIRES}::test_14_to_16_cut_within_the_answer"
CONTINUED = f"{HERE}::test_a_broken_stream_is_continued_by_the_next_model"
EVERY_DOOR = "faults/test_rescue_doors.py::test_the_next_model_goes_on_and_the_stream_ends_once"
UNFINISHED = f"{HERE}::test_without_rescue_a_broken_stream_ends_with_an_error_and_no_finish"
LEAVES = f"{WIRES}::test_24_to_26_a_client_that_leaves_ends_the_providers_call_within_a_second"
LIFE = "server/frontends/test_frontend_life.py"
PROBE = f"{COOLING}::test_a_recovering_primary_gets_one_probe_at_a_time_while_the_rest_is_served_elsewhere"
RELOADS = f"{WIRES}::test_43_a_thousand_reloads_leak_nothing_and_streams_outlive_their_model"
STORAGE = "faults/test_storage.py"
FLEET = "e2e/test_fleet.py"
SHARED = "governance/test_shared_limits.py"
JOURNAL = "ledger/test_ledger_journal.py"
SQLITE = "stores/test_store_sqlite_file.py"
POSTGRES = "stores/test_store_postgres.py"
ENDLESS = f"{WIRES}::test_21_and_23_endless_bodies_and_bombs_end_at_the_cap"

PROOFS: dict[tuple[int, str], list[str]] = {
    (1, "the provider refuses TCP"): [f"{WIRES}::test_1_refused", MOVES],
    (2, "a black hole for SYNs"): [
        f"{WIRES}::test_2_a_black_hole_for_syns",
        f"{WIRES}::test_2_a_connection_that_swallows_everything",
    ],
    (3, "names cannot be looked up, or slowly"): [
        f"{WIRES}::test_3_names_that_cannot_be_looked_up",
        "net/test_net_names.py::test_the_old_answer_serves_while_lookups_fail",
    ],
    (4, "a certificate that is expired or for another name"): [
        "faults/test_tls.py::test_an_untrusted_provider_is_left_at_once_and_told_of"
    ],
    (5, "500, 502, 503, 529"): [MOVES, ALONE, f"{COOLING}::test_what_we_have_tried_the_sdk_is_told_not_to_try_again"],
    (6, "429 with Retry-After"): [
        "upstream/test_named_waits.py::test_a_short_wait_that_is_named_is_waited_and_the_request_is_answered",
        "upstream/test_named_waits.py::test_a_long_one_is_told_at_once_and_kept_to_by_the_next_request",
        f"{COOLING}::test_a_named_wait_is_kept_to_even_by_the_last_target",
        f"{COOLING}::test_a_rate_limit_without_a_time_is_over_when_the_headers_say_so",
        f"{HERE}::test_rate_limits_everywhere_are_429_with_the_smallest_wait",
    ],
    (7, "401 and 403 of a provider"): [MOVES, ALONE],
    (8, "the context is too long"): [f"{HERE}::test_a_context_error_goes_only_to_more_room"],
    (9, "a content filter's 400"): [f"{HERE}::test_a_refusal_for_content_is_the_providers_answer"],
    (10, "200 with an error's body or a sign-in page"): [MOVES, ALONE],
    (11, "200 with nothing, {} or no choices"): [MOVES, ALONE],
    (12, "200 with fields that nobody knows"): [
        f"{WIRES}::test_12_fields_that_nobody_knows_pass_through",
        f"{VIRTUAL}::test_12_fields_that_nobody_knows_pass_through",
    ],
    (13, "a slow first byte"): [f"{WIRES}::test_13_a_slow_first_byte_is_abandoned", MOVES, BEFORE],
    (14, "silence in the middle"): [CONTINUED, EVERY_DOOR, UNFINISHED, WITHIN],
    (15, "a reset in the middle"): [CONTINUED, EVERY_DOOR, UNFINISHED, WITHIN, f"{HERE}::test_a_broken_body_moves_on"],
    (16, "a clean end without a finish"): [
        CONTINUED,
        UNFINISHED,
        WITHIN,
        "upstream/test_stream_end.py::test_nothing_less_does",
    ],
    (17, "no usage"): [f"{HERE}::test_missing_usage_is_estimated_and_flagged"],
    (18, "odd and malformed event streams"): [
        f"{WIRES}::test_18_a_stream_cut_anywhere_into_packets",
        f"{WIRES}::test_18_every_form_of_sse_that_the_specification_allows",
        f"{WIRES}::test_18_what_is_no_event_is_an_error_of_the_provider",
    ],
    (19, "deltas twice or out of order"): [
        f"{WIRES}::test_19_deltas_out_of_order_pass_in_their_own_format_and_end_cleanly_in_another",
        f"{VIRTUAL}::test_19_deltas_out_of_order_pass_in_their_own_format_and_end_cleanly_in_another",
    ],
    (20, "a byte a second for ever"): [f"{WIRES}::test_20_one_byte_at_a_time_for_ever_ends_with_the_total_limit"],
    (21, "ten gigabytes"): [ENDLESS, "net/test_net_answers.py::test_bodies_have_a_limit"],
    (22, "a redirect"): [MOVES, ALONE],
    (23, "a compression bomb"): [ENDLESS, "net/test_net_answers.py::test_a_gzip_bomb_goes_off_in_small"],
    (24, "the client leaves a stream"): [LEAVES, f"{HERE}::test_a_client_that_leaves_cancels_upstream"],
    (25, "the client leaves a whole answer"): [LEAVES],
    (26, "the client half-closes"): [LEAVES],
    (27, "a slow reader"): [
        f"{WIRES}::test_27_a_slow_reader_holds_its_provider_back",
        f"{LIFE}::test_a_client_that_stops_reading_stops_the_stream",
        f"{LIFE}::test_a_client_that_takes_nothing_for_too_long_is_cut",
    ],
    (28, "heads and bodies that come bit by bit, by the thousand"): [
        f"{LIFE}::test_thousands_of_half_sent_heads_do_not_stop_the_others",
        f"{LIFE}::test_a_head_that_does_not_come_to_its_end",
        f"{LIFE}::test_a_body_that_does_not_come",
        f"{LIFE}::test_a_cap_on_connections",
    ],
    (29, "killed at every point"): [
        "invariants/test_invariants.py::test_a_kill_at_every_point_loses_nothing_and_counts_nothing_twice"
    ],
    (30, "SIGTERM with streams under way"): [
        f"{STORAGE}::test_30_sigterm_with_two_hundred_streams",
        "e2e/test_workers.py::test_they_end_together",
        f"{LIFE}::test_draining",
    ],
    (31, "the process was stopped"): [f"{PROCESS}::test_31_a_stopped_process_keeps_its_deadlines_and_blames_nobody"],
    (32, "no file descriptors"): [f"{PROCESS}::test_32_without_file_descriptors_it_sheds_and_recovers"],
    (33, "the loop is blocked"): [
        f"{PROCESS}::test_33_a_blocked_loop_is_measured_and_sheds",
        f"{PROCESS}::test_33_a_blocked_loop_blames_no_provider_for_what_it_has_not_read",
        f"{PROCESS}::test_33_the_least_important_are_shed_first",
    ],
    (34, "the disk is full"): [
        f"{STORAGE}::test_34_a_full_disk_is_503_and_is_over_when_there_is_room",
        f"{JOURNAL}::test_outcomes_survive_a_full_disk",
        f"{JOURNAL}::test_room_is_kept_aside_for_the_attempts_under_way",
        f"{SQLITE}::test_a_full_disk_changes_nothing_and_recovers",
    ],
    (35, "read-only, locked, damaged"): [
        f"{STORAGE}::test_35_a_read_only_file_system_is_told_at_the_start",
        f"{STORAGE}::test_35_a_damaged_database_is_told_at_the_start_and_left_alone",
        f"{SQLITE}::test_a_write_that_fails_changes_nothing_and_the_next_one_works",
        f"{SQLITE}::test_a_wal_without_its_database_is_refused",
    ],
    (36, "PostgreSQL is away, full, in conflict"): [
        f"{FLEET}::test_postgres_dies_and_returns_requests_are_served_and_none_is_lost",
        f"{POSTGRES}::test_a_server_that_goes_away_is_said_so_and_found_again",
        f"{POSTGRES}::test_a_server_without_room_for_another_connection_is_found_again",
        f"{POSTGRES}::test_many_processes_start_and_write_at_once",
    ],
    (37, "Valkey is away, slow, read-only, emptied"): [
        f"{FLEET}::test_valkey_dies_and_returns_and_nobody_notices_but_the_log",
        "stores/test_shared_store.py::test_a_server_that_is_away_reads_only_or_stays_silent_is_said_so_and_found_again",
        f"{SHARED}::test_a_slow_store_is_waited_for_once",
        f"{SHARED}::test_a_store_that_is_emptied_is_told_again",
        f"{SHARED}::test_a_lost_store_closes_or_opens_as_configured",
    ],
    (38, "replicas are cut off from Valkey"): [
        f"{SHARED}::test_one_replica_that_is_cut_off_adds_its_share_at_most",
        f"{SHARED}::test_without_the_store_each_goes_on_with_its_share_and_tells_what_it_used",
    ],
    (39, "a migration breaks off; two releases at once"): [
        f"{POSTGRES}::test_a_step_that_fails_leaves_the_schema_before_it_and_is_taken_again",
        f"{POSTGRES}::test_an_expanded_schema_serves_the_older_release_and_a_contracted_one_refuses_it",
        f"{SQLITE}::test_a_step_that_fails_leaves_the_schema_before_it",
    ],
    (40, "the clock jumps, a month ends"): [
        f"{STORAGE}::test_40_a_month_ends_within_a_request_and_the_clock_jumps",
        "governance/test_budgets.py::test_a_new_day_is_a_new_window_and_a_request_counts_where_it_was_admitted",
        "stores/test_shared_store.py::test_a_clock_that_is_put_back_keeps_nobody_waiting",
    ],
    (41, "metrics are scraped without pause; a collector hangs"): [
        f"{WIRES}::test_41_metrics_scraped_a_hundred_times_a_second_stop_nobody",
        "telemetry/test_otlp.py::test_41_a_collector_that_hangs_or_fails_costs_spans_and_no_request",
        "telemetry/test_otlp.py::test_41_what_fails_for_a_while_is_told_afterwards",
    ],
    (42, "an alert webhook that fails, hangs, redirects or is where it must not be"): [
        f"{ALERTS}::test_a_webhook_that_fails_is_asked_three_times_and_one_that_recovers_is_heard",
        f"{ALERTS}::test_a_refusal_or_a_redirect_is_no_delivery_and_is_not_followed",
        f"{ALERTS}::test_an_address_that_is_not_public_is_not_called",
        f"{ALERTS}::test_a_webhook_that_hangs_costs_alerts_and_nothing_else",
        f"{ALERTS}::test_a_process_tells_of_a_breaker_and_serves_on_while_the_webhook_hangs",
    ],
    (43, "reloads: a bad file, a model in use removed, a thousand"): [
        RELOADS,
        "e2e/test_serve.py::test_a_changed_file_is_loaded_and_a_bad_one_changes_nothing",
    ],
    (44, "the same request on two replicas at once"): [
        f"{FLEET}::test_a_request_sent_to_all_replicas_at_once_is_run_once",
        "server/test_idempotency.py::test_of_many_at_once_one_is_run_and_the_others_are_told",
    ],
    (45, "circles, members and judges that fail, agents without end"): [
        f"{VIRTUAL}::test_45_strategies_that_go_round_in_a_circle_are_no_configuration",
        "strategies/ensemble/test_ensemble.py::test_one_valid_answer_is_enough",
        "strategies/ensemble/test_ensemble.py::test_a_failed_judge_leaves_it_to_the_weights",
        "strategies/agent/test_agent.py::test_a_plan_that_costs_too_much_never_starts",
    ],
    (46, "a price that nobody knows"): [
        "governance/test_unknown_price.py::test_a_model_without_a_price_costs_null_and_is_told_of_once",
        "governance/test_unknown_price.py::test_an_operator_may_say_what_it_is_charged_at",
        "governance/test_budgets.py::test_an_unknown_price_is_refused_under_a_hard_budget_only",
    ],
    (47, "a storm with every provider down"): [
        f"{VIRTUAL}::test_47_a_storm_on_providers_that_are_all_down",
        f"{WIRES}::test_47_a_storm_on_providers_that_are_all_down",
    ],
    (48, "a herd at a half-open breaker"): [
        f"{WIRES}::test_48_a_herd_at_a_half_open_breaker_is_one_probe",
        PROBE,
        f"{COOLING}::test_wait_all_wait_for_one_probe_and_are_then_answered",
    ],
}


@pytest.mark.parametrize("fault", PROOFS, ids=lambda fault: str(fault[0]))
def test_what_is_named_exists(fault):
    for proof in PROOFS[fault]:
        file, _, name = proof.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), proof
