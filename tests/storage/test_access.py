"""Members and links: who may do what with a document, by the tables alone."""

import asyncio
import time

import pytest
from sqlalchemy import insert, select

from collab.errors import DocumentDeleted, DocumentNotFound, InvalidRequest
from collab.log import Actor, Batch, Entry, Origin
from collab.rights import Role
from storage.access import (
    LINK_PREFIX,
    LINKS_LIMIT,
    MEMBERS_LIMIT,
    NOBODY,
    PART,
    PERSON_LIMIT,
    Access,
    LastOwner,
    NoSuchGrant,
    digest,
)
from storage.accounts import Accounts
from storage.models import links, members, openings

pytestmark = pytest.mark.anyio

ADA, BOB, EVE = "user:ada", "account:bob", "guest:0123456789abcdef"


def microseconds(seconds_from_now):
    return time.time_ns() // 1000 + int(seconds_from_now * 1e6)


@pytest.fixture
def access(database):
    return Access(database)


@pytest.fixture
async def document(documents):
    await documents.create("doc", "", ADA)
    return "doc"


async def rows(database, table):
    return await database.read(lambda connection: connection.execute(select(table)).all())


# --- standing ----------------------------------------------------------------------------------------


async def test_who_makes_a_document_owns_it_and_nobody_else_is_anybody(access, document):
    found = await access.standing(document, ADA)
    assert (found.exists, found.role, found.until) == (True, Role.OWNER, None)
    found = await access.standing(document, BOB)
    assert (found.exists, found.role, found.until) == (True, None, None)


async def test_who_makes_a_document_by_its_first_edit_owns_it(access, updates):
    first = Entry(1, Actor(BOB), 1, 1, Origin.EDIT, b"update")
    second = Entry(2, Actor(EVE), 2, 2, Origin.EDIT, b"update")
    await updates.append([Batch("typed", 1, [first, second])])
    assert [(m.person, m.role) for m in await access.members("typed")] == [(BOB, Role.OWNER)]
    assert (await access.standing("typed", EVE)).role is None


@pytest.mark.parametrize("name", ["never made", "doc ", "Doc", "doc\0", "\ud800", "", "doc' OR '1'='1"])
async def test_of_what_is_not_there_nobody_has_any_role(access, document, name):
    assert await access.standing(name, ADA) == NOBODY


@pytest.mark.parametrize(
    "person", ["", "ada", "user:ADA", "user:ada ", "user:ada\0", "user:ada\ud800", "user:%", "user:ad_", "*"]
)
async def test_a_person_is_who_has_exactly_that_id(access, document, person):
    assert (await access.standing(document, person)).role is None


async def test_a_deleted_document_still_exists_for_its_members_alone(access, documents, document):
    await documents.delete(document)
    assert (await access.standing(document, ADA)).role is Role.OWNER
    found = await access.standing(document, BOB)
    assert (found.exists, found.role) == (True, None)


async def test_rights_on_one_document_say_nothing_of_another(access, documents, document):
    await documents.create("other", "", BOB)
    link, secret = await access.create_link(document, Role.EDITOR, ADA)
    await access.open_link(link.id, EVE)
    for person, shown in ((ADA, None), (EVE, None), ("guest:x", secret)):
        assert (await access.standing("other", person, shown)).role is None


async def test_the_highest_of_membership_and_links_counts(access, document):
    await access.set_member(document, BOB, Role.COMMENTER)
    low, _ = await access.create_link(document, Role.VIEWER, ADA)
    await access.open_link(low.id, BOB)
    assert (await access.standing(document, BOB)).role is Role.COMMENTER
    high, secret = await access.create_link(document, Role.EDITOR, ADA)
    assert (await access.standing(document, BOB, secret)).role is Role.EDITOR
    await access.open_link(high.id, BOB)
    assert (await access.standing(document, BOB)).role is Role.EDITOR
    await access.revoke_link(document, high.id)
    assert (await access.standing(document, BOB)).role is Role.COMMENTER
    await access.remove_member(document, BOB)
    assert (await access.standing(document, BOB)).role is Role.VIEWER


async def test_the_roles_on_many_documents_are_those_on_each(access, database, documents):
    names = ["own", "member", "both", "expired", "foreign"]
    for name in names:
        await documents.create(name, "", BOB if name == "own" else ADA)
    await access.set_member("member", BOB, Role.COMMENTER)
    await access.set_member("both", BOB, Role.VIEWER)
    for name, role in (("both", Role.EDITOR), ("member", Role.VIEWER), ("expired", Role.EDITOR)):
        link, _ = await access.create_link(name, role, ADA, expires_at=microseconds(3600))
        await access.open_link(link.id, BOB)
        if name == "expired":
            past = links.update().where(links.c.id == link.id).values(expires_at=microseconds(-1))
            await database.write(lambda connection, past=past: connection.execute(past))
    each = {name: (await access.standing(name, BOB)).role for name in names}
    assert each == {
        "own": Role.OWNER,
        "member": Role.COMMENTER,
        "both": Role.EDITOR,
        "expired": None,
        "foreign": None,
    }
    assert await access.roles([*names, "nowhere"], BOB) == {n: role for n, role in each.items() if role}
    assert await access.roles(["own"], BOB) == {"own": Role.OWNER}
    assert await access.roles([], BOB) == {}


async def test_many_are_asked_about_at_once(access, documents, document):
    """More than one statement takes, by every way, and what cannot be stored among them."""
    await access.set_member(document, BOB, Role.COMMENTER)
    opened, _ = await access.create_link(document, Role.VIEWER, ADA, expires_at=microseconds(3600))
    await access.open_link(opened.id, EVE)
    await access.open_link(opened.id, BOB)
    _, secret = await access.create_link(document, Role.EDITOR, ADA)
    people = [ADA, BOB, EVE, "nul\0", "\ud800", *(f"guest:{n}" for n in range(PART + 1))]
    asked = [(person, shown) for person in people for shown in (None, secret, "link_x")]
    found = await access.standings(document, asked)
    assert len(found) == len(asked)
    roles = {ADA: Role.OWNER, BOB: Role.COMMENTER, EVE: Role.VIEWER}
    for (person, shown), standing in found.items():
        own = roles.get(person)
        assert standing.role == (max(own or 0, Role.EDITOR) if shown == secret else own), (person, shown)
        assert (standing.until is not None) == (person in (BOB, EVE))
    for person in (ADA, BOB, EVE, "guest:1"):
        assert await access.standing(document, person, secret) == found[person, secret]
    assert await access.standings(document, []) == {}
    assert set((await access.standings("never made", asked)).values()) == {NOBODY}


# --- members -----------------------------------------------------------------------------------------


async def test_members_are_listed_owners_first_with_the_name_they_last_wrote_under(access, updates, document):
    await access.set_member(document, BOB, Role.VIEWER)
    await access.set_member(document, "user:zoe", Role.OWNER)
    await access.set_member(document, EVE, Role.EDITOR)
    for seq, name in ((1, "Eve"), (2, "Eve of old")):
        entry = Entry(seq, Actor(EVE, "guest", name), 1, 1, Origin.EDIT, b"update")
        await updates.append([Batch(document, 1, [entry])])
    assert [(m.person, m.name, m.role) for m in await access.members(document)] == [
        (ADA, "", Role.OWNER),
        ("user:zoe", "", Role.OWNER),
        (EVE, "Eve of old", Role.EDITOR),
        (BOB, "", Role.VIEWER),
    ]


async def test_a_document_keeps_an_owner(access, document):
    for change in (
        access.remove_member(document, ADA),
        *(access.set_member(document, ADA, role) for role in (Role.VIEWER, Role.COMMENTER, Role.EDITOR)),
    ):
        with pytest.raises(LastOwner, match="only owner"):
            await change
    await access.set_member(document, ADA, Role.OWNER)
    await access.set_member(document, BOB, Role.OWNER)
    await access.set_member(document, ADA, Role.VIEWER)
    with pytest.raises(LastOwner):
        await access.remove_member(document, BOB)
    await access.remove_member(document, ADA)


async def test_who_is_no_member_cannot_be_removed(access, document):
    for person in (BOB, "", "x\0", "\ud800"):
        with pytest.raises(NoSuchGrant):
            await access.remove_member(document, person)


@pytest.mark.parametrize(
    "person", ["", "x" * (PERSON_LIMIT + 1), "é" * (PERSON_LIMIT // 2 + 1), "a\0b", "\ud800"]
)
async def test_a_member_must_be_nameable(access, document, person):
    with pytest.raises(InvalidRequest, match="bytes of UTF-8"):
        await access.set_member(document, person, Role.VIEWER)


async def test_members_have_a_limit_that_lets_those_there_are_change(access, database, document):
    def fill(connection):
        key = connection.execute(select(members.c.document)).scalar()
        connection.execute(
            insert(members),
            [
                {"document": key, "person": f"user:{n}", "role": 1, "added_at": 1}
                for n in range(MEMBERS_LIMIT - 1)
            ],
        )

    await database.write(fill)
    with pytest.raises(InvalidRequest, match="1000 members"):
        await access.set_member(document, BOB, Role.VIEWER)
    await access.set_member(document, "user:1", Role.OWNER)
    await access.remove_member(document, "user:2")
    await access.set_member(document, BOB, Role.VIEWER)


async def test_a_member_who_has_written_nothing_is_called_what_their_account_is(access, database, document):
    account = await Accounts(database).sign_up("bob@example.org", "Bob", "hash")
    for person in (account.actor.id, account.id, EVE):
        await access.set_member(document, person, Role.VIEWER)
    link, _ = await access.create_link(document, Role.VIEWER, ADA, history=True)
    await access.open_link(link.id, account.actor.id)
    assert {member.person: member.name for member in await access.members(document)} == {
        ADA: "",
        account.actor.id: "Bob",
        account.id: "",
        EVE: "",
    }
    count, (arrival,) = (await access.arrivals(document))[link.id]
    assert (count, arrival.person, arrival.name) == (1, account.actor.id, "Bob")


# --- links -------------------------------------------------------------------------------------------


async def test_of_a_link_only_the_digest_is_kept(access, database, document):
    link, secret = await access.create_link(document, Role.VIEWER, ADA, label="printers")
    assert secret.startswith(LINK_PREFIX)
    assert len(secret) >= len(LINK_PREFIX) + 32
    (row,) = await rows(database, links)
    assert bytes(row.digest) == digest(secret)
    assert not any(secret in str(value) or secret.encode() in bytes(row.digest) for value in row)
    assert await access.links(document) == [link]
    assert await access.find_link(secret) == (document, link)
    assert (link.role, link.label, link.created_by) == (Role.VIEWER, "printers", ADA)


async def test_a_link_that_is_shown_counts_for_who_shows_it_alone(access, document):
    _, secret = await access.create_link(document, Role.EDITOR, ADA)
    assert (await access.standing(document, EVE, secret)).role is Role.EDITOR
    assert (await access.standing(document, EVE)).role is None


async def test_a_secret_that_is_none_finds_nothing(access, document):
    link, secret = await access.create_link(document, Role.EDITOR, ADA)
    for wrong in ("", LINK_PREFIX, secret[:-1], secret + "x", secret.upper(), link.id, "\0", "\ud800", "%"):
        assert (await access.standing(document, EVE, wrong)).role is None
        with pytest.raises(NoSuchGrant, match="ask for a new one"):
            await access.find_link(wrong)


async def test_a_link_with_a_password_gives_nothing_to_who_only_shows_it(access, document):
    link, secret = await access.create_link(document, Role.EDITOR, ADA, password_hash="hash")
    assert (await access.standing(document, EVE, secret)).role is None
    await access.open_link(link.id, EVE)
    assert (await access.standing(document, EVE)).role is Role.EDITOR


async def test_a_link_gives_its_role_until_it_expires(access, database, document):
    link, secret = await access.create_link(document, Role.EDITOR, ADA, expires_at=microseconds(3600))
    await access.open_link(link.id, BOB)
    for person, shown in ((BOB, None), (EVE, secret)):
        found = await access.standing(document, person, shown)
        assert found.role is Role.EDITOR
        assert found.until == pytest.approx(time.time() + 3600, abs=60)

    def age(connection):
        connection.execute(links.update().values(expires_at=microseconds(-1)))

    await database.write(age)
    for person, shown in ((BOB, None), (EVE, secret)):
        found = await access.standing(document, person, shown)
        assert (found.exists, found.role, found.until) == (True, None, None)
    with pytest.raises(NoSuchGrant, match="expired"):
        await access.find_link(secret)
    assert [found.id for found in await access.links(document)] == [link.id], "until it is revoked"


async def test_the_first_of_several_links_to_expire_says_when_to_look_again(access, document):
    for seconds in (7200, 3600, 9000):
        link, _ = await access.create_link(document, Role.VIEWER, ADA, expires_at=microseconds(seconds))
        await access.open_link(link.id, BOB)
    assert (await access.standing(document, BOB)).until == pytest.approx(time.time() + 3600, abs=60)


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
async def test_a_link_must_expire_in_the_future(access, document, seconds):
    with pytest.raises(InvalidRequest, match="future"):
        await access.create_link(document, Role.VIEWER, ADA, expires_at=microseconds(seconds))


async def test_revoking_a_link_ends_what_it_gave_to_all_who_came(access, database, document):
    link, secret = await access.create_link(document, Role.EDITOR, ADA)
    for person in (BOB, EVE):
        await access.open_link(link.id, person)
        await access.open_link(link.id, person)
    assert len(await rows(database, openings)) == 2
    await access.revoke_link(document, link.id)
    for person in (BOB, EVE):
        assert (await access.standing(document, person, secret)).role is None
    assert await rows(database, openings) == []
    with pytest.raises(NoSuchGrant):
        await access.open_link(link.id, BOB)
    with pytest.raises(NoSuchGrant):
        await access.revoke_link(document, link.id)


async def test_a_link_is_revoked_by_the_owners_of_its_own_document(access, documents, document):
    link, secret = await access.create_link(document, Role.EDITOR, ADA)
    await documents.create("other", "", EVE)
    with pytest.raises(NoSuchGrant):
        await access.revoke_link("other", link.id)
    assert (await access.standing(document, BOB, secret)).role is Role.EDITOR


async def test_a_link_of_a_deleted_document_opens_nothing_until_it_is_back(access, documents, document):
    _, secret = await access.create_link(document, Role.EDITOR, ADA)
    await documents.delete(document)
    with pytest.raises(NoSuchGrant):
        await access.find_link(secret)
    await documents.undelete(document)
    assert (await access.find_link(secret))[0] == document


async def test_links_have_a_limit_and_are_listed_newest_first(access, database, document):
    made = [(await access.create_link(document, Role.VIEWER, ADA))[0].id for _ in range(3)]
    assert [link.id for link in await access.links(document)] == made[::-1]

    def fill(connection):
        key = connection.execute(select(links.c.document)).scalar()
        values = {"document": key, "role": 1, "label": "", "created_at": 1, "created_by": ADA}
        connection.execute(
            insert(links),
            [{**values, "id": str(n), "digest": str(n).encode()} for n in range(LINKS_LIMIT - 3)],
        )

    await database.write(fill)
    with pytest.raises(InvalidRequest, match="200 links"):
        await access.create_link(document, Role.VIEWER, ADA)
    await access.revoke_link(document, made[0])
    await access.create_link(document, Role.VIEWER, ADA)


@pytest.mark.parametrize("label", ["\ud800", "a\0b"])
async def test_a_label_must_be_storable(access, document, label):
    with pytest.raises(InvalidRequest, match="label"):
        await access.create_link(document, Role.VIEWER, ADA, label=label)


@pytest.mark.parametrize("person", ["", "x" * (PERSON_LIMIT + 1), "a\0b"])
async def test_who_opens_a_link_must_be_nameable(access, document, person):
    link, _ = await access.create_link(document, Role.VIEWER, ADA)
    with pytest.raises(InvalidRequest):
        await access.open_link(link.id, person)


async def test_nothing_is_shared_of_what_is_not_there_or_was_deleted(access, documents, document):
    await documents.delete(document)
    for name, error in ((document, DocumentDeleted), ("never", DocumentNotFound), ("\0", DocumentNotFound)):
        for asked in (
            access.members(name),
            access.set_member(name, BOB, Role.VIEWER),
            access.remove_member(name, ADA),
            access.links(name),
            access.create_link(name, Role.VIEWER, ADA),
            access.revoke_link(name, "x"),
        ):
            with pytest.raises(error):
                await asked


# --- lists -------------------------------------------------------------------------------------------


async def listed(documents, **asked):
    return {document.name for document in (await documents.list(1000, **asked)).documents}


async def test_a_person_s_list_is_what_is_shared_with_them(access, documents):
    for name in ("own", "member", "link", "expired", "foreign", "gone"):
        await documents.create(name, "", BOB if name in ("own", "gone") else ADA)
    await access.set_member("member", BOB, Role.VIEWER)
    for name in ("link", "expired"):
        expires = microseconds(0.3) if name == "expired" else None
        link, _ = await access.create_link(name, Role.VIEWER, ADA, expires_at=expires)
        await access.open_link(link.id, BOB)
    await documents.delete("gone")
    assert {"own", "member", "link"} <= await listed(documents, person=BOB)
    while time.time_ns() // 1000 <= (await access.links("expired"))[0].expires_at:
        await asyncio.sleep(0.01)
    assert await listed(documents, person=BOB) == {"own", "member", "link"}
    assert await listed(documents, person=BOB, query="e") == {"member"}
    assert await listed(documents, person=BOB, query="foreign") == set()
    for person in ("", "user:", "%", "account:bo_", "account:bob' OR '1'='1"):
        assert await listed(documents, person=person) == set()


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], set()),
        ([""], set()),
        (["*"], {"a", "A", "ab", "a%", "a*", "a_b", "b", "a\\", "ü"}),
        (["a"], {"a"}),
        (["a*"], {"a", "ab", "a%", "a*", "a_b", "a\\"}),
        (["a%*"], {"a%"}),
        (["a_*"], {"a_b"}),
        (["a**"], {"a*"}),
        (["a\\*"], {"a\\"}),
        (["%", "_", "?", "a?"], set()),
        (["ü*", "b"], {"ü", "b"}),
        (["a'*", "a' OR '1'='1"], set()),
        (["a\0*", "\0", "b"], {"b"}),
        (["\ud800*", "\udfff", "b"], {"b"}),
    ],
)
async def test_the_list_of_patterns_is_what_they_match(documents, patterns, names):
    for name in ("a", "A", "ab", "a%", "a*", "a_b", "b", "a\\", "ü"):
        await documents.create(name, "", ADA)
    assert await listed(documents, patterns=patterns) == names


@pytest.mark.parametrize("form", ["{:x}", "{:x}*"])
async def test_as_many_patterns_as_a_token_holds_can_be_listed(documents, document, form):
    patterns = [form.format(n) for n in range(950)]  # in 16 KiB of base64, with the shortest role
    assert await listed(documents, patterns=[*patterns, "doc"]) == {"doc"}


async def test_the_right_to_history_adds_up_over_all_ways_to_a_document(access, document):
    async def seen():
        return (await access.standing(document, BOB)).history

    assert not await seen()
    await access.set_member(document, BOB, Role.VIEWER)
    assert not await seen()
    await access.set_member(document, BOB, Role.VIEWER, history=True)
    assert await seen()
    await access.set_member(document, BOB, Role.EDITOR, history=False)
    assert not await seen()
    assert [m.history for m in await access.members(document)] == [None, False]
    link, secret = await access.create_link(document, Role.VIEWER, ADA, history=True)
    assert (await access.standing(document, BOB, secret)).history
    await access.open_link(link.id, BOB)
    assert await seen()
    await access.revoke_link(document, link.id)
    assert not await seen()
    await access.set_member(document, BOB, Role.OWNER, history=False)
    assert await seen()
