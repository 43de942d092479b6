"""Who gets in, over a real database: what cannot be seen from outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher

from collab.errors import RateLimited
from storage.accounts import Accounts
from storage.database import Database
from storage.migrations import migrate
from web.auth import derived_key
from web.passwords import Passwords
from web.settings import Settings
from web.signin import (
    AUDIENCE,
    INVITATION,
    Attempts,
    InvitationInvalid,
    SignIn,
    SignInRefused,
    invitation,
    read_invitation,
)

pytestmark = pytest.mark.anyio

SECRET = "s" * 32
KEY = derived_key(SECRET, INVITATION)
HERE = "127.0.0.1"
PASSWORD = "correct horse"


class Watched(PasswordHasher):
    """Notes the parameters of each comparison."""

    def __init__(self, **cost: int) -> None:
        super().__init__(**{"time_cost": 1, "memory_cost": 64, "parallelism": 1, **cost})
        self.compared: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        self.compared.append(str(hash).split("$")[3])
        return super().verify(hash, password)


@pytest.fixture
async def accounts(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Accounts]:
    url = f"sqlite:///{tmp_path}/data/collab.db"
    await migrate(url)
    database = await Database.open(url)
    yield Accounts(database)
    await database.close()


def door(accounts: Accounts, hasher: PasswordHasher, **settings: Any) -> tuple[SignIn, list[str]]:
    dismissed: list[str] = []
    passwords = Passwords(Counter(), hasher)
    return (
        SignIn(accounts, passwords, SECRET, Settings(**settings), Counter(), dismissed.append),
        dismissed,
    )


async def test_refusals_take_the_same_work_and_say_the_same(accounts: Accounts) -> None:
    hasher = Watched()
    sign_in, _ = door(accounts, hasher)
    for email in ("ada@x.org", "off@x.org"):
        await sign_in.join(invitation(KEY, email), PASSWORD, None, HERE)
    await sign_in.set_disabled((await sign_in.accounts.by_email("off@x.org")).id, True)  # type: ignore[union-attr]
    await accounts.from_provider("https://id.example.org", "1", "oidc@x.org", "No password")
    said = set()
    for email, password in (
        ("ada@x.org", "wrong"),
        ("nobody@x.org", PASSWORD),
        ("off@x.org", PASSWORD),
        ("oidc@x.org", PASSWORD),
    ):
        hasher.compared.clear()
        with pytest.raises(SignInRefused) as refused:
            await sign_in.by_password(email, password, HERE)
        assert hasher.compared == ["m=64,t=1,p=1"]
        said.add(str(refused.value))
    assert len(said) == 1
    assert (await sign_in.by_password("ada@x.org", PASSWORD, HERE)).account.email == "ada@x.org"


async def test_a_password_is_hashed_anew_when_the_parameters_have_changed(accounts: Accounts) -> None:
    before, _ = door(accounts, Watched())
    await before.join(invitation(KEY, "ada@x.org"), PASSWORD, None, HERE)
    hasher = Watched(time_cost=2)
    after, _ = door(accounts, hasher)
    for _ in range(2):
        opened = await after.by_password("ada@x.org", PASSWORD, HERE)
        assert await accounts.session(opened.secret) is not None
    with pytest.raises(SignInRefused):
        await after.by_password("ada@x.org", "wrong", HERE)
    assert hasher.compared == ["m=64,t=1,p=1", "m=64,t=2,p=1", "m=64,t=2,p=1"]


async def test_a_password_that_is_changed_while_it_is_compared_lets_nobody_in(accounts: Accounts) -> None:
    async def change() -> None:
        await sign_in.join(invitation(KEY, "ada@x.org"), "another password", None, HERE)

    class Slow(Passwords):
        async def matches(self, password: str, hash: str | None) -> bool:
            answer = await super().matches(password, hash)
            await change()
            return answer

    sign_in, _ = door(accounts, Watched())
    await sign_in.join(invitation(KEY, "ada@x.org"), PASSWORD, None, HERE)
    slow = SignIn(accounts, Slow(Counter(), Watched()), SECRET, Settings(), Counter(), lambda _: None)
    with pytest.raises(SignInRefused):
        await slow.by_password("ada@x.org", PASSWORD, HERE)


async def test_sockets_are_told_whenever_a_session_ended(accounts: Accounts) -> None:
    sign_in, dismissed = door(accounts, Watched())
    opened = await sign_in.join(invitation(KEY, "ada@x.org"), PASSWORD, None, HERE)
    actor = opened.account.actor.id
    assert dismissed == [actor]
    await sign_in.by_password("ada@x.org", PASSWORD, HERE)
    assert dismissed == [actor]
    await sign_in.change_password(opened.account, PASSWORD, "another password", opened.secret, HERE)
    assert dismissed == [actor] * 2
    await sign_in.out(opened.secret)
    await sign_in.out(opened.secret)
    assert dismissed == [actor] * 3
    await sign_in.set_disabled(opened.account.id, True)
    assert dismissed == [actor] * 4
    await sign_in.set_disabled(opened.account.id, False)
    assert dismissed == [actor] * 4


async def test_guesses_are_slowed_by_address_and_by_e_mail(accounts: Accounts) -> None:
    sign_in, _ = door(accounts, Watched(), sign_ins_per_address=4, sign_ins_per_email=2)
    for _ in range(2):
        with pytest.raises(SignInRefused):
            await sign_in.by_password("ada@x.org", "wrong", "2001:db8::1")
    with pytest.raises(RateLimited, match="try again in 30 s"):
        await sign_in.by_password("ADA@x.org", "wrong", "192.0.2.1")
    # An IPv6 network is one address: who has one has all of it.
    for _ in range(2):
        with pytest.raises(SignInRefused):
            await sign_in.by_password("bob@x.org", "wrong", "2001:db8::2")
    with pytest.raises(RateLimited, match="try again in 15 s") as limited:
        await sign_in.by_password("eve@x.org", "wrong", "2001:db8:0:0:ffff::")
    assert 14 < limited.value.retry_after <= 15
    with pytest.raises(SignInRefused):
        await sign_in.by_password("eve@x.org", "wrong", "2001:db8:0:1::")


def test_attempts_come_back_with_time_and_never_more_than_a_minute_s() -> None:
    attempts = Attempts(6)
    assert [attempts.take("a", 100.0) for _ in range(6)] == [0.0] * 6
    assert attempts.take("a", 100.0) == 10.0
    assert attempts.take("b", 100.0) == 0.0
    assert attempts.take("a", 104.0) == pytest.approx(6.0)
    assert attempts.take("a", 110.0) == 0.0
    assert attempts.take("a", 110.0) == pytest.approx(10.0)
    assert [attempts.take("a", 10_000.0) for _ in range(7)] == [0.0] * 6 + [10.0]


def test_less_than_one_attempt_a_minute_is_one_at_a_time() -> None:
    attempts = Attempts(0.5)
    assert attempts.take("a", 0.0) == 0.0
    assert attempts.take("a", 0.0) == 120.0
    assert attempts.take("a", 120.0) == 0.0


def test_a_bounded_number_of_attempts_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.signin.REMEMBERED", 3)
    attempts = Attempts(1)
    for key in "abc":
        assert attempts.take(key, 0.0) == 0.0
    assert attempts.take("a", 1.0) > 0.0  # touched: the oldest is "b" now
    assert attempts.take("d", 2.0) == 0.0
    assert attempts.take("a", 3.0) > 0.0
    assert attempts.take("b", 3.0) == 0.0


def test_an_invitation_says_whom_and_since_when() -> None:
    before = time.time()
    email, name, issued_at = read_invitation(KEY, invitation(KEY, " Ada@X.org ", "Ada"))
    assert (email, name) == ("ada@x.org", "Ada")
    assert before - 1e-3 <= issued_at.timestamp() <= time.time()


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"exp": 1}, KEY, "expired"),
        ({}, SECRET.encode(), "copy the whole link"),  # a token of the application that shares the secret
        ({}, derived_key(SECRET, "operator"), "copy the whole link"),
        ({"aud": "collab"}, KEY, "copy the whole link"),
        ({"aud": None}, KEY, "copy the whole link"),
        ({"email": None}, KEY, "copy the whole link"),
        ({"iat": None}, KEY, "copy the whole link"),
        ({"exp": None}, KEY, "copy the whole link"),
        ({"iat": time.time() + 3600}, KEY, "copy the whole link"),
    ],
)
def test_what_is_no_invitation_is_refused(change: dict[str, object], key: bytes, said: str) -> None:
    now = time.time()
    claims: dict[str, object] = {"aud": AUDIENCE, "email": "ada@x.org", "iat": now, "exp": now + 60}
    claims = {name: value for name, value in {**claims, **change}.items() if value is not None}
    with pytest.raises(InvitationInvalid, match=said):
        read_invitation(KEY, jwt.encode(claims, key, "HS256"))


def test_an_invitation_that_nobody_signed_or_that_was_cut_is_refused() -> None:
    token = invitation(KEY, "ada@x.org")
    unsigned = jwt.encode(jwt.decode(token, options={"verify_signature": False}), None, "none")
    for wrong in ("", "x", token[:-3], token.rpartition(".")[0] + ".", unsigned, "\udc80", "é" * 40):
        with pytest.raises(InvitationInvalid):
            read_invitation(KEY, wrong)
