"""Which test proves which bad input. The numbers are those of the list of what strangers send; each is met through a real
socket unless what it is about is not a socket's."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
INPUTS = "server/test_bad_inputs.py"
CONTENT = "server/test_bad_content.py"
EVERY_DOOR = "server/test_bad_at_every_door.py"
FRONT = "server/frontends/test_frontend_requests.py"
GOVERNED = "governance/test_governed_requests.py"
KEYS = "governance/test_keys.py"
BODIES = [f"{INPUTS}::test_bad_bodies_are_400", f"{INPUTS}::test_what_is_no_json_is_400_at_every_door"]
BAD_KEYS = f"{GOVERNED}::test_bad_keys_are_401_at_every_door_before_the_body_is_looked_at"
NAMES = f"{INPUTS}::test_31_33_unknown_models_are_404_with_a_short_name"

PROOFS: dict[tuple[int, str], list[str]] = {
    (1, "an empty body"): BODIES,
    (2, "null, a list, a string, a number"): BODIES,
    (3, "JSON cut short"): BODIES,
    (4, "nested 100,000 deep"): BODIES,
    (5, "NaN, Infinity, 1e999"): BODIES,
    (6, "the model twice"): [
        f"{INPUTS}::test_6_a_duplicate_model_has_one_value_for_all",
        f"{INPUTS}::test_an_escaped_key_cannot_name_another_model",
    ],
    (7, "a byte order mark"): BODIES,
    (8, "invalid UTF-8"): BODIES,
    (9, "half of a surrogate pair"): [f"{EVERY_DOOR}::test_9_half_a_surrogate_pair_is_400_wherever_it_stands"],
    (10, "NUL in a string"): [f"{INPUTS}::test_10_nul_in_a_string_reaches_the_model"],
    (11, "an integer of 5,000 digits"): BODIES,
    (12, "too large by Content-Length"): [
        f"{INPUTS}::test_12_too_large_by_length_is_413_before_the_body_is_read",
        f"{FRONT}::test_a_body_too_large_is_refused_unread",
    ],
    (13, "too large by chunks"): [
        f"{INPUTS}::test_13_too_large_by_chunks_is_413_and_closed",
        f"{FRONT}::test_a_chunked_body_too_large_is_refused_on_the_way",
    ],
    (14, "a Content-Length that lies"): [
        f"{INPUTS}::test_14_a_body_shorter_than_its_length_times_out",
        f"{INPUTS}::test_14_a_body_longer_than_its_length_is_two_requests_and_the_second_is_none",
    ],
    (15, "a gzip bomb"): [f"{INPUTS}::test_15_compressed_bodies_are_415", f"{FRONT}::test_no_compressed_bodies"],
    (16, "a wrong Content-Type, or none"): [
        f"{INPUTS}::test_16_a_wrong_content_type_is_fine_if_the_body_is_json",
        f"{INPUTS}::test_16_a_body_that_is_no_json_is_refused_whatever_it_is_called",
    ],
    (17, "headers of more than 64 KiB"): [
        f"{INPUTS}::test_17_18_large_headers_are_431",
        f"{FRONT}::test_too_many_headers",
    ],
    (18, "a thousand headers"): [f"{INPUTS}::test_17_18_large_headers_are_431", f"{FRONT}::test_too_many_headers"],
    (19, "control characters in headers"): [f"{INPUTS}::test_19_control_characters_in_headers_are_400"],
    (20, "both kinds of length"): [
        f"{INPUTS}::test_20_21_two_lengths_are_400",
        f"{FRONT}::test_no_second_reading_of_where_a_body_ends",
    ],
    (21, "two lengths"): [
        f"{INPUTS}::test_20_21_two_lengths_are_400",
        f"{FRONT}::test_no_second_reading_of_where_a_body_ends",
    ],
    (22, "no Host, or none that is one"): [
        f"{INPUTS}::test_22_23_invalid_hosts_are_400",
        f"{INPUTS}::test_22_a_missing_host_is_400",
        f"{FRONT}::test_one_host_exactly",
    ],
    (23, "a Host with a path in it"): [
        f"{INPUTS}::test_22_23_invalid_hosts_are_400",
        f"{FRONT}::test_hosts_that_are_none",
    ],
    (24, "paths that could be read in two ways"): [
        f"{INPUTS}::test_24_odd_paths_are_nobodys",
        f"{GOVERNED}::test_24_no_spelling_of_a_path_passes_without_a_key",
        f"{INPUTS}::test_24_the_same_route_by_another_spelling_is_the_same_route",
        f"{FRONT}::test_paths_mean_one_thing_or_nothing",
    ],
    (25, "no key"): [BAD_KEYS],
    (26, "no value, two schemes, two keys"): [
        BAD_KEYS,
        f"{GOVERNED}::test_keys_that_are_none_or_two_are_401_on_the_wire",
        f"{GOVERNED}::test_two_different_keys_are_401",
    ],
    (27, "SQL, 10 KB, other alphabets for a key"): [
        BAD_KEYS,
        f"{GOVERNED}::test_keys_that_are_none_or_two_are_401_on_the_wire",
        f"{KEYS}::test_whatever_is_no_key_is_refused_in_the_same_words",
        f"{KEYS}::test_a_long_key_costs_no_more_than_a_short_one",
    ],
    (28, "keys that have ended"): [
        f"{KEYS}::test_keys_end_when_they_expire_or_are_revoked",
        f"{KEYS}::test_a_revoked_key_ends_within_two_seconds_on_every_replica",
    ],
    (29, "another's object"): [
        f"{GOVERNED}::test_what_one_key_asked_does_not_exist_for_another",
        "server/test_passthrough_doors.py::test_another_keys_files_do_not_exist",
    ],
    (30, "a key of the data plane at an admin route"): [
        "console/test_console.py::test_every_admin_route_refuses_strangers",
        "console/test_console.py::test_every_route_of_the_app_is_documented_or_a_page",
        "server/test_deny_by_default.py",
    ],
    (31, "a model that nobody knows"): [NAMES],
    (32, "a model that the key may not have"): [f"{GOVERNED}::test_models_and_doors_of_a_key"],
    (33, "a model that is no name"): [NAMES, *BODIES[:1]],
    (34, "fields that would steer the gateway"): [f"{INPUTS}::test_34_fields_that_would_steer_the_gateway_are_refused"],
    (35, "a hundred unknown fields"): [f"{INPUTS}::test_35_unknown_fields_are_passed_on_or_named"],
    (36, "messages that are none"): [
        *BODIES[:1],
        f"{EVERY_DOOR}::test_36_a_conversation_that_is_none_is_400",
    ],
    (37, "100,000 messages"): [f"{INPUTS}::test_37_too_many_messages"],
    (38, "numbers out of range"): [*BODIES[:1], f"{EVERY_DOOR}::test_38_a_number_out_of_range_is_400"],
    (39, "no max_tokens"): [
        f"{CONTENT}::test_39_without_max_tokens_anthropic_gets_the_catalogues_maximum_and_others_nothing",
        f"{GOVERNED}::test_a_hard_budget_bounds_an_answer_that_names_no_maximum",
        f"{GOVERNED}::test_the_bound_is_lowered_to_what_the_budget_still_covers",
    ],
    (40, "input and messages; input alone"): [*BODIES[:1], "server/test_bridge.py"],
    (41, "stream as a string"): BODIES[:1],
    (42, "tools out of all measure"): [
        f"{CONTENT}::test_42_tools_out_of_all_measure_are_the_providers_to_judge",
        f"{CONTENT}::test_42_tools_that_are_none_are_400_or_the_providers_own_business",
        f"{CONTENT}::test_42_a_result_that_nobody_asked_for_is_400_or_goes_to_the_provider",
    ],
    (43, "schemas without end"): [
        f"{CONTENT}::test_43_a_schema_is_never_a_trap_for_the_gateway",
        "core/test_core_fits.py::test_patterns_are_not_run",
        "core/test_core_fits.py::test_a_schema_without_end_or_of_exponential_size_is_given_up",
    ],
    (44, "addresses within a request"): [
        f"{CONTENT}::test_44_no_address_in_a_request_is_ever_opened",
        f"{CONTENT}::test_44_an_address_goes_to_the_provider_as_it_is_or_nowhere",
        f"{CONTENT}::test_44_data_beyond_the_limit_is_413",
        "core/test_core_fits.py::test_references_to_other_documents_are_never_fetched",
    ],
    (45, "forms that are none"): [
        "server/test_passthrough_doors.py::test_45_bad_forms_are_400_without_an_upstream_call"
    ],
    (46, "another's state"): [f"{INPUTS}::test_46_the_state_of_another_does_not_exist"],
    (47, "Idempotency-Key"): [f"{INPUTS}::test_47_a_long_idempotency_key_is_400", "server/test_idempotency.py"],
    (48, "traceparent and baggage"): [
        f"{CONTENT}::test_48_a_malformed_traceparent_starts_a_new_trace_and_baggage_stays_here"
    ],
    (49, "who says to come from elsewhere"): [
        f"{CONTENT}::test_49_who_says_to_come_from_elsewhere_comes_from_where_it_comes"
    ],
    (50, "deadlines out of range"): [
        f"{CONTENT}::test_50_too_little_time_is_the_least_that_there_is",
        f"{CONTENT}::test_50_too_much_time_is_the_most_that_there_is",
        f"{CONTENT}::test_50_what_is_no_time_is_400",
    ],
    (51, "markup, formulas, escapes and turning marks in names"): [
        f"{INPUTS}::test_our_own_headers_are_checked",
        "console/test_console.py::test_what_a_model_says_is_text_never_markup",
        "cli/test_cli_books.py::test_usage_as_table_and_csv_cannot_be_a_formula",
        "cli/test_cli_books.py::test_logs_list_requests_and_keep_the_terminal_safe",
        "e2e/test_keys.py::test_names_cannot_play_with_the_terminal",
    ],
    (52, "a search for %%%%_"): [
        "stores/test_store_queries.py::test_requests_by_filter",
        "stores/test_store_sqlite_file.py::test_a_query_that_takes_too_long_is_ended",
        "stores/test_store_postgres.py::test_a_statement_that_takes_too_long_is_ended",
    ],
    (53, "a prompt that asks for the dearest model"): [
        "strategies/test_route.py::test_a_prompt_cannot_talk_itself_to_a_dearer_model"
    ],
    (54, "configurations that bite"): [
        "config/test_config.py::test_mistakes_are_told_with_place_and_reason",
        "config/test_config.py::test_an_anchor_bomb_is_refused",
        "cli/test_check.py::test_a_file_that_bites_is_told_line_by_line",
    ],
}


NO_GATEWAY = {
    # proofs that do not send a request through a gateway, so that nothing could be left under way or reserved
    FRONT: "a front end alone",
    KEYS: "the governor alone",
    "core/test_core_fits.py": "one function",
    "config/test_config.py": "the file",
    "cli/test_check.py": "the file",
    "cli/test_cli_books.py": "what is printed of the books",
    "console/test_console.py": "the admin plane",
    "server/test_deny_by_default.py": "refused before anything begins",
    "e2e/test_keys.py": "names of keys",
    "stores/test_store_queries.py": "the store",
    "stores/test_store_sqlite_file.py": "the store",
    "stores/test_store_postgres.py": "the store",
}


@pytest.mark.parametrize("file", sorted({proof.partition("::")[0] for proofs in PROOFS.values() for proof in proofs}))
def test_after_every_bad_input_it_is_looked_whether_something_is_left_of_it(file):
    """support.at_rest checks it after each test: no request, call or connection under way, no budget, limit or place held,
    every attempt settled."""
    if file in NO_GATEWAY:
        return
    text, conftest = (TESTS / file).read_text(encoding="utf-8"), (TESTS / file).parent / "conftest.py"
    shared = conftest.read_text(encoding="utf-8") if conftest.exists() else ""
    assert "from support.at_rest import" in text + shared
    assert "(stage" in text or "(client" in text


@pytest.mark.parametrize("input_", PROOFS, ids=lambda input_: str(input_[0]))
def test_what_is_named_exists(input_):
    for proof in PROOFS[input_]:
        file, _, name = proof.partition("::")
        assert f"def {name}" in (TESTS / file).read_text(encoding="utf-8"), proof


def test_every_number_of_a_body_has_its_case():
    """Bodies are one test each, named by their number."""
    text = (TESTS / INPUTS).read_text(encoding="utf-8")
    for number in (1, 2, 3, 4, 5, 7, 8, 9, 11, 33, 36, 38, 40, 41):
        assert f'"{number} ' in text, number
