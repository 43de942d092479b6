import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, text

from collab.errors import InvalidRequest
from collab.log import Actor
from storage import accounts as module
from storage.accounts import (
    AccountDisabled,
    AccountExists,
    AccountNotFound,
    Accounts,
    InvitationUsed,
    PasswordChanged,
    normal_email,
    normal_name,
)
from storage.models import sessions, users

pytestmark = pytest.mark.anyio

ISSUER = "https://id.example.org"


def now():
    return datetime.now(UTC)


@pytest.fixture
def accounts(database):
    return Accounts(database)


@pytest.fixture
async def ada(accounts):
    return await accounts.accept_invitation("ada@example.org", "Ada", "hash", now())


async def count(database, table):
    return await database.read(lambda c: c.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


async def all_ended(accounts, *opened):
    return [await accounts.session(secret) for secret in opened] == [None] * len(opened)


async def test_an_invitation_makes_an_account(accounts):
    before = now()
    made = await accounts.accept_invitation("  Ada@Example.ORG ", " Ada \t Lovelace ", "hash", before)
    assert (made.email, made.name, made.issuer, made.disabled_at) == (
        "ada@example.org",
        "Ada Lovelace",
        None,
        None,
    )
    assert before - timedelta(milliseconds=1) <= made.created_at <= now()
    assert made.actor == Actor(f"account:{made.id}", "user", "Ada Lovelace")
    assert await accounts.find(made.id) == made == await accounts.by_email("ADA@example.org")
    found = await accounts.credentials("ada@example.org")
    assert (found.account, found.password_hash) == (made, "hash")


async def test_without_a_name_the_e_mail_gives_one(accounts):
    assert (await accounts.accept_invitation("grace@example.org", None, "hash", now())).name == "grace"


async def test_an_invitation_works_once_and_ends_those_before_it(accounts):
    first = now()
    second = first + timedelta(microseconds=1)
    await accounts.accept_invitation("ada@example.org", None, "one", second)
    for issued in (first, second):
        with pytest.raises(InvitationUsed, match="collab invite"):
            await accounts.accept_invitation("ada@example.org", None, "two", issued)
    assert (await accounts.credentials("ada@example.org")).password_hash == "one"


async def test_an_invitation_from_a_clock_that_runs_ahead_works_once(accounts):
    issued = now() + timedelta(seconds=30)
    await accounts.accept_invitation("ada@example.org", None, "one", issued)
    with pytest.raises(InvitationUsed):
        await accounts.accept_invitation("ada@example.org", None, "two", issued)


async def test_of_many_who_use_one_invitation_at_once_one_gets_in(accounts):
    issued = now()
    answers = await asyncio.gather(
        *(accounts.accept_invitation("ada@example.org", None, f"{n}", issued) for n in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, InvitationUsed) for answer in answers) == 4


async def test_a_later_invitation_sets_the_password_and_ends_the_sessions(accounts, ada):
    secret, _ = await accounts.open_session(ada.id)
    reset = await accounts.accept_invitation("ada@example.org", None, "new", now())
    assert (reset.id, reset.name) == (ada.id, "Ada")
    assert reset.password_set_at > ada.password_set_at
    assert await all_ended(accounts, secret)
    assert (await accounts.credentials("ada@example.org")).password_hash == "new"


async def test_an_invitation_does_not_enable_a_disabled_account(accounts, ada):
    await accounts.disable(ada.id)
    with pytest.raises(AccountDisabled):
        await accounts.accept_invitation("ada@example.org", None, "new", now())


async def test_an_address_signs_up_once(accounts):
    made = await accounts.sign_up("ada@example.org", "Ada", "hash")
    with pytest.raises(AccountExists, match="sign in"):
        await accounts.sign_up("ADA@example.org", "Eve", "hash")
    assert await accounts.by_email("ada@example.org") == made


async def test_a_session_tells_whose_it_is_until_it_is_closed(accounts, ada):
    secret, expires = await accounts.open_session(ada.id)
    other, _ = await accounts.open_session(ada.id)
    assert secret != other
    assert await accounts.session(secret) == (ada, expires)
    assert now() + timedelta(days=29, hours=23) < expires <= now() + timedelta(days=30)
    await accounts.close_session(secret)
    await accounts.close_session(secret)
    assert await all_ended(accounts, secret)
    assert await accounts.session(other) is not None
    assert await accounts.session("") is None
    assert await accounts.session("no such \udc80 \0 secret") is None


async def test_the_database_does_not_hold_the_secret_of_a_session(accounts, ada, database):
    secret, _ = await accounts.open_session(ada.id)
    row = await database.read(lambda c: tuple(c.execute(text("SELECT * FROM sessions")).one()))
    assert secret not in repr(row)
    assert secret.encode() not in b"".join(value for value in row if isinstance(value, bytes))


async def test_expired_sessions_are_none_and_a_bounded_number_is_deleted_as_a_new_one_comes(
    accounts, ada, database, monkeypatch
):
    monkeypatch.setattr(module, "SESSION_SECONDS", 0)
    secret, expires = await accounts.open_session(ada.id)
    assert expires <= now()
    assert await all_ended(accounts, secret)

    def expired(connection):
        key = connection.execute(select(users.c.key)).scalar_one()
        for n in range(7):
            row = {"digest": b"%d" % n, "account": key, "created_at": 0, "expires_at": 1}
            connection.execute(insert(sessions).values(row))

    await database.write(expired)
    monkeypatch.setattr(module, "SWEEP_LIMIT", 3)
    await accounts.open_session(ada.id)
    assert await count(database, "sessions") == 1 + 7 - 3 + 1


async def test_an_account_has_a_bounded_number_of_sessions_and_the_oldest_go_first(
    accounts, ada, database, monkeypatch
):
    monkeypatch.setattr(module, "SESSIONS_LIMIT", 3)
    bob = await accounts.sign_up("bob@example.org", "Bob", "hash")
    of_bob, _ = await accounts.open_session(bob.id)
    secrets = [(await accounts.open_session(ada.id))[0] for _ in range(5)]
    assert [await accounts.session(secret) is None for secret in secrets] == [True, True, False, False, False]
    assert await accounts.session(of_bob) is not None
    assert await count(database, "sessions") == 4


async def test_a_password_is_set_over_the_one_that_was_proven_and_ends_the_other_sessions(accounts, ada):
    (here, _), (there, _) = await accounts.open_session(ada.id), await accounts.open_session(ada.id)
    await accounts.set_password(ada.id, "hash", "new", here)
    assert (await accounts.session(here))[0].password_set_at > ada.password_set_at
    assert await all_ended(accounts, there)
    with pytest.raises(PasswordChanged, match="sign in again"):
        await accounts.set_password(ada.id, "hash", "newer", here)
    assert (await accounts.credentials("ada@example.org")).password_hash == "new"


async def test_a_session_is_not_opened_with_a_password_that_was_changed_meanwhile(accounts, ada):
    await accounts.accept_invitation("ada@example.org", None, "new", now())
    with pytest.raises(PasswordChanged):
        await accounts.open_session(ada.id, "hash")
    assert await accounts.open_session(ada.id, "new")


async def test_a_better_hash_of_the_same_password_does_not_undo_a_change(accounts, ada):
    await accounts.rehash(ada.id, "hash", "better")
    await accounts.rehash(ada.id, "hash", "late")
    found = await accounts.credentials("ada@example.org")
    assert found.password_hash == "better"
    assert found.account == ada


async def test_disabling_ends_the_sessions_and_lets_nobody_in_until_enabled(accounts, ada):
    secret, _ = await accounts.open_session(ada.id)
    disabled = await accounts.disable(ada.id)
    assert disabled.disabled_at is not None
    assert await accounts.disable(ada.id) == disabled
    assert await all_ended(accounts, secret)
    with pytest.raises(AccountDisabled, match="ask whoever runs this server"):
        await accounts.open_session(ada.id)
    assert await accounts.enable(ada.id) == ada
    assert await all_ended(accounts, secret)
    assert await accounts.open_session(ada.id)


async def test_renaming_shows_in_the_session(accounts, ada):
    secret, _ = await accounts.open_session(ada.id)
    assert (await accounts.rename(ada.id, "Countess")).name == "Countess"
    assert (await accounts.session(secret))[0].actor.name == "Countess"


async def test_accounts_are_listed_a_page_at_a_time(accounts):
    made = [await accounts.sign_up(f"{n}@example.org", f"{n}", "hash") for n in range(5)]
    found, cursor = [], None
    while True:
        page = await accounts.list(2, cursor)
        assert len(page.accounts) <= 2
        found += page.accounts
        if (cursor := page.cursor) is None:
            break
    assert found == made
    assert (await accounts.list(5)).cursor is None
    for limit, wrong in ((0, None), (1001, None), (1, "nonsense"), (1, "\0")):
        with pytest.raises(InvalidRequest):
            await accounts.list(limit, wrong)


async def test_an_account_that_is_not_there_is_said_so(accounts):
    for id in ("none", "\0", "\udc80"):
        for asked in (
            accounts.find(id),
            accounts.rename(id, "x"),
            accounts.disable(id),
            accounts.enable(id),
            accounts.open_session(id),
            accounts.set_password(id, "old", "new", "secret"),
        ):
            with pytest.raises(AccountNotFound):
                await asked
    assert await accounts.by_email("nobody@example.org") is None
    assert await accounts.credentials("nobody@example.org") is None


# --- by an identity provider ---


async def test_a_provider_s_person_is_found_again_by_issuer_and_subject(accounts):
    made = await accounts.from_provider(ISSUER, "1", "ada@example.org", "Ada")
    again = await accounts.from_provider(ISSUER, "1", "countess@example.org", "Countess")
    assert again == made
    assert (made.email, made.issuer, made.password_set_at) == ("ada@example.org", ISSUER, None)
    assert (await accounts.credentials("ada@example.org")).password_hash is None
    other = await accounts.from_provider("https://other.example.org", "1", None, "Eve")
    assert other.id != made.id


async def test_a_provider_s_verified_address_finds_the_account_of_who_was_invited(accounts, ada):
    secret, _ = await accounts.open_session(ada.id)
    linked = await accounts.from_provider(ISSUER, "1", "ADA@example.org", "Other name")
    assert (linked.id, linked.name, linked.issuer) == (ada.id, "Ada", ISSUER)
    assert (await accounts.credentials("ada@example.org")).password_hash == "hash"
    assert await accounts.session(secret) is not None
    assert await accounts.from_provider(ISSUER, "1", None, "Ada") == linked


async def test_who_signed_up_with_another_s_address_is_out_when_its_owner_comes(accounts):
    squatted = await accounts.sign_up("ada@example.org", "Eve", "hash of Eve")
    of_eve, _ = await accounts.open_session(squatted.id)
    owned = await accounts.from_provider(ISSUER, "1", "ada@example.org", "Ada")
    assert owned.id == squatted.id
    assert (await accounts.credentials("ada@example.org")).password_hash is None
    assert await all_ended(accounts, of_eve)


async def test_an_address_that_the_provider_gave_to_another_person_does_not_give_the_account(accounts):
    first = await accounts.from_provider(ISSUER, "1", "info@example.org", "First")
    second = await accounts.from_provider(ISSUER, "2", "info@example.org", "Second")
    assert second.id != first.id
    assert second.email is None
    assert await accounts.by_email("info@example.org") == first


async def test_people_move_to_another_provider_by_their_addresses(accounts):
    before = await accounts.from_provider(ISSUER, "1", "ada@example.org", "Ada")
    after = await accounts.from_provider("https://new.example.org", "a", "ada@example.org", "Ada")
    assert (after.id, after.issuer) == (before.id, "https://new.example.org")


async def test_an_address_that_is_verified_later_is_kept_if_it_is_free(accounts, ada):
    made = await accounts.from_provider(ISSUER, "1", None, "Grace")
    assert made.email is None
    assert (await accounts.from_provider(ISSUER, "1", "ada@example.org", "Grace")).email is None
    assert (
        await accounts.from_provider(ISSUER, "1", "grace@example.org", "Grace")
    ).email == "grace@example.org"


async def test_a_disabled_account_is_disabled_for_its_provider_too(accounts, ada):
    linked = await accounts.from_provider(ISSUER, "1", "ada@example.org", "Ada")
    await accounts.disable(linked.id)
    for email in (None, "ada@example.org"):
        with pytest.raises(AccountDisabled):
            await accounts.from_provider(ISSUER, "1", email, "Ada")
    with pytest.raises(AccountDisabled):
        await accounts.from_provider("https://new.example.org", "1", "ada@example.org", "Ada")


async def test_claims_that_cannot_be_stored_are_refused(accounts):
    for issuer, subject, email, name in (
        ("a\0", "1", None, "Ada"),
        (ISSUER, "\udc80", None, "Ada"),
        (ISSUER, "1", "no address", "Ada"),
        (ISSUER, "1", None, "\0"),
    ):
        with pytest.raises(InvalidRequest):
            await accounts.from_provider(issuer, subject, email, name)


# --- addresses and names ---


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Ada@Example.ORG\n", "ada@example.org"),
        ("jose\u0301@example.org", "jos\u00e9@example.org"),
        ("BU\u0308RO@example.org", "b\u00fcro@example.org"),
        ('"odd@local"@example.org', '"odd@local"@example.org'),
    ],
)
def test_an_address_has_one_form(written, kept):
    assert normal_email(written) == kept


@pytest.mark.parametrize(
    "written",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "a da@example.org",
        "a\0@b",
        "a\udc80@b",
        "a@b\u202e",
        "a@" + "b" * 253,
    ],
)
def test_what_is_no_address_is_refused(written):
    with pytest.raises(InvalidRequest, match="e-mail address"):
        normal_email(written)


@given(st.text(), st.text())
def test_the_form_of_an_address_is_its_own_form(local, domain):
    try:
        email = normal_email(f"{local}@{domain}")
    except InvalidRequest:
        return
    assert normal_email(email) == email
    assert normal_email(f" {email.upper()} ") == normal_email(email.upper())


def test_a_name_is_one_line_of_visible_characters():
    assert normal_name(" Jose\u0301  da\n Silva 🎉") == "Jos\u00e9 da Silva 🎉"
    for written in ("", " \n", "a\0b", "a\x1bb", "a\udc80", "x" * 101):
        with pytest.raises(InvalidRequest, match="name"):
            normal_name(written)
