import asyncio

import pytest
from sqlalchemy import text

from collab.errors import Overloaded, RateLimited
from storage.answers import Answer, Answers, KeyBusy, KeyReused

pytestmark = pytest.mark.anyio

MADE = Answer(201, {"content-type": "application/json"}, b'{"made": true}')


@pytest.fixture
def answers(database):
    return Answers(database)


async def age(database, hours):
    moved = text(f"UPDATE answers SET made_at = made_at - {int(hours * 3_600_000_000)}")
    await database.write(lambda c: c.execute(moved).rowcount)


async def test_what_was_answered_is_answered_again(answers):
    assert await answers.begin("user:ada", "one", b"request") is None
    await answers.finish("user:ada", "one", MADE)
    for _ in range(2):
        assert await answers.begin("user:ada", "one", b"request") == MADE
    assert await answers.begin("user:bob", "one", b"another request") is None


async def test_a_key_is_for_one_request(answers):
    await answers.begin("user:ada", "one", b"request")
    await answers.finish("user:ada", "one", MADE)
    with pytest.raises(KeyReused):
        await answers.begin("user:ada", "one", b"another request")
    assert await answers.begin("user:ada", "one", b"request") == MADE


async def test_of_requests_at_once_one_is_done(answers):
    begun = [answers.begin("user:ada", "one", b"request") for _ in range(5)]
    outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert [type(o) for o in outcomes if o is not None] == [KeyBusy] * 4
    await answers.finish("user:ada", "one", MADE)
    assert await answers.begin("user:ada", "one", b"request") == MADE


async def test_what_was_refused_may_come_again(answers):
    await answers.begin("user:ada", "one", b"request")
    await answers.forget("user:ada", "one")
    assert await answers.begin("user:ada", "one", b"another request") is None


async def test_a_key_whose_outcome_a_crash_has_hidden_is_used_up_and_says_so(answers, database):
    await answers.begin("user:ada", "one", b"request")
    after_the_crash = Answers(database)
    with pytest.raises(KeyBusy, match="look whether it was done"):
        await after_the_crash.begin("user:ada", "one", b"request")
    answers.leave("user:ada", "one")
    with pytest.raises(KeyBusy, match="look whether it was done"):
        await answers.begin("user:ada", "one", b"request")


async def test_an_answer_too_long_to_keep_uses_up_its_key(answers, monkeypatch):
    monkeypatch.setattr("storage.answers.BODY_BYTES", 10)
    await answers.begin("user:ada", "one", b"request")
    await answers.finish("user:ada", "one", MADE)
    with pytest.raises(KeyBusy, match="not kept"):
        await answers.begin("user:ada", "one", b"request")


async def test_answers_are_kept_for_a_day(answers, database):
    await answers.begin("user:ada", "one", b"request")
    await answers.finish("user:ada", "one", MADE)
    await age(database, 23.9)
    assert await answers.begin("user:ada", "one", b"request") == MADE
    await age(database, 0.2)
    assert await answers.begin("user:ada", "one", b"another request") is None


async def test_keys_have_a_bound_for_each_actor_and_in_all(answers, database, monkeypatch):
    monkeypatch.setattr("storage.answers.PER_ACTOR", 2)
    monkeypatch.setattr("storage.answers.IN_ALL", 3)
    for key in ("one", "two"):
        await answers.begin("user:ada", key, b"request")
    with pytest.raises(RateLimited):
        await answers.begin("user:ada", "three", b"request")
    await answers.begin("user:bob", "one", b"request")
    with pytest.raises(Overloaded):
        await answers.begin("user:eve", "one", b"request")
    await age(database, 25)
    assert await answers.begin("user:eve", "one", b"request") is None
