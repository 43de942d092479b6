"""Budgets: what may be sent at once, what is owed, and who shares it."""

from __future__ import annotations

from web.budget import BURST_SECONDS, SHARED, WORK_SECONDS, Budget, Budgets


def test_a_burst_is_free_and_what_is_more_is_owed_until_the_rate_has_paid_for_it() -> None:
    budget = Budget(128, 0, 0)
    burst = int(128 * BURST_SECONDS)
    assert budget.spend(burst, 0, 0, now=50.0)[0] == 0
    assert budget.spend(32, 0, 0, now=50.0) == (0.25, "messages")
    assert budget.spend(0, 0, 0, now=50.125) == (0.125, "messages")
    assert budget.spend(0, 0, 0, now=50.25)[0] == 0
    later = 60.0 + BURST_SECONDS
    assert budget.spend(burst, 0, 0, now=later)[0] == 0, "it is full again, and no more than full"
    assert budget.spend(1, 0, 0, now=later)[0] > 0


def test_the_limit_that_makes_wait_longest_is_the_one_that_is_named() -> None:
    budget = Budget(100, 1000, 0.5)
    assert budget.spend(600, 6000, 0, now=1.0) == (1.0, "messages")
    assert budget.spend(0, 3000, 0, now=1.0) == (4.0, "bytes")
    assert budget.spend(0, 0, 0.5 * WORK_SECONDS + 4, now=1.0) == (8.0, "cpu")


def test_no_limit_is_never_owed() -> None:
    assert Budget(0, 0, 0).spend(10**9, 10**12, 10**6, now=1.0)[0] == 0


def test_all_connections_of_an_actor_share_one_budget_that_outlives_them_until_it_is_full() -> None:
    budgets = Budgets(100, 0, 0)
    mallory = budgets.of("mallory", now=1.0)
    assert budgets.of("mallory", now=1.0) is mallory
    mallory.spend(int(100 * SHARED * BURST_SECONDS) + 1, 0, 0, now=1.0)
    for i in range(5000):
        budgets.of(f"guest {i}", now=1.5)
    assert budgets.of("mallory", now=2.0) is mallory, "a new connection is no new budget"
    for i in range(50_000):
        budgets.of(f"another guest {i}", now=2.0 + BURST_SECONDS)
    assert budgets.of("mallory", now=2.0 + BURST_SECONDS) is not mallory
    assert budgets.count < 5000, "those whom nobody would miss are forgotten"


def test_the_budget_of_who_is_connected_is_kept() -> None:
    budgets = Budgets(100, 0, 0)
    ada = budgets.of("ada", now=1.0)
    ada.connections += 1
    for i in range(50_000):
        budgets.of(f"guest {i}", now=100.0)
    assert budgets.of("ada", now=100.0) is ada
