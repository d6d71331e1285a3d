"""What is the same on every stack: `make test` runs it, `make test-oldest` and the like do not.

The oldest stack has another Python, Scrapy, itemadapter, valkey-py and server. So it runs whatever
calls Scrapy or asyncio, is called by them, or depends on what a server answers.
"""

from __future__ import annotations

import pytest

FILES = {
    "the repository itself": "architecture coming_from compose design docs house layers operations"
    " processes terraform_access terraform_check terraform_docs waits wheel",
    # The bytes of identities are compared on every stack, in golden, kinds and foreign.
    "pure Python, explored or by examples without end": "admission batching compiled dump_file"
    " identity identity_crawls keyset namespaces normalise protocol_model soak spool",
    "equipment": "coverage faulty_proxy order_of_tests servers",
    "a service that runs Valkey, not Redis": "serverless serverless_crawls"
    " selftest_serverless serverless_fleet",
    # What a crawl makes of an outage: outage, outage_laws, cluster, sentinel. What the scripts
    # promise, on each server: ledger, ledger_model, protocol_server, cluster_states, server_states.
    "faults by policies, and chance": "crash crash_feeds faults policies protocol_traces race",
    # Crawls with the embedded server are in session, on every stack.
    "processes and files of this machine": "embedded embedded_access embedded_binaries"
    " embedded_kills embedded_paths",
    # Each verb, and how Scrapy calls the command: command, command_verbs, command_doctor and
    # command_plugins.
    "verbs that ask the ledger as crawls do": "command_dump command_estimate command_forget"
    " command_import command_places command_python command_report command_status command_trial"
    " command_watch report_page watched_run",
    # The spiders of README and requests.md run on every stack, in readme.
    "the example project": "example_project",
    # How pages of a timeline are followed is in timeline, on every stack.
    "pages that are counted": "empty_pages",
}
"""By reason: files of tests, without ``test_`` and ``.py``."""

TESTS = {
    # On every stack: a fleet that shares a site, is stopped and resumed, and held pages whose
    # holder dies; outages of one crawl, in outage and request_faults.
    "faults of a fleet are told by its workers' claims alone": {
        "fleet": "a_frozen_worker_loses_nothing survivors_finish_the_pages_of_the_dead"
        " a_worker_that_is_cut_off a_stopped_server_stops_no_fleet a_server_that_is_gone_for_good",
        "incremental": "a_killed_run_remembers_what_it_has_stored",
        "timeline": "a_gap_that_a_killed_reading_left_is_closed after_a_killed_reading_all_is_read",
    },
    "how many claims are asked for ahead is our own sum": {
        "fleet": "claiming_ahead_downloads_no_more_at_once a_fleet_far_away_shares_a_site"
        " known_pages_far_away_are_asked_for_together a_polite_worker_leaves_pages_to_others",
    },
    # On every stack: questions that wait for a failover, and for a slot that moves; a failover
    # that a crawl does not notice.
    "what a failover has lost is the servers' own business": {
        "cluster": "a_rolling_restart_during_a_crawl a_failover_costs_what_it_lost"
        " a_slot_moves_during_a_crawl",
        "sentinel": "a_failover_costs_what_it_lost",
    },
    "many batches, and errors by chance, go the way of a few": {
        "session": "a_long_flush_goes_on_while_it_makes_progress",
        "outage": "an_outage_ends_while_posts_are_stored",
        "errors_unknown": "a_crawl_with_odd_errors_now_and_then a_crawl_at_two_backends",
    },
    "what is remembered for how long is the ledger's, and tested there on every server": {
        "incremental": "pages_are_forgotten_after_their_retention pages_may_be_remembered_forever"
        " another_spider_fetches_for_itself what_another_run_stores_is_not_known",
        "requests": "a_later_run_skips_the_pages_of_stored_posts",  # that is incremental's
        "timeline": "known_values large_pages_are_recognised",
    },
}
"""By reason: single tests of other files, without ``test_``."""

PARAMETERS = {
    # Modes of the request filter call the same of Scrapy. In requests two of them are compared with
    # plain Scrapy; what differs in "stored" is in incremental.
    "requests": {"plain", "stored", "off"},
    "timeline": {"alone", "stored", "off"},
    "retries_by_hand": {"alone", "stored"},
    "redirects": {"alone", "stored"},
    "request_options": {"stored"},
    # Scrapy does the same at both signals.
    "fleet": {"Signals.SIGTERM"},
}
"""By file: values of parameters whose tests are left out, because other values call the same."""

ONCE_FILES = {f"test_{name}.py" for names in FILES.values() for name in names.split()}
ONCE_TESTS = {
    (f"test_{file}.py", f"test_{name}")
    for files in TESTS.values()
    for file, names in files.items()
    for name in names.split()
}


def is_once(item: pytest.Item) -> bool:
    """Whether a test is the same on every stack."""
    file, (name, _, parameters) = item.path.name, item.name.partition("[")
    if file in ONCE_FILES or (file, name) in ONCE_TESTS:
        return True
    left_out = PARAMETERS.get(file.removeprefix("test_").removesuffix(".py"), set())
    return not left_out.isdisjoint(parameters.rstrip("]").split("-"))
