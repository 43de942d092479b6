"""Writing in the page: what the text looks like, what the tools do to it, and that it stays Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from pages import CLOSED, Person, at, call, content, make, set_role, share
from playwright.sync_api import Locator, Page, Route, expect
from serverprocess import Server

TABLE = "| Drawer | Cards |\n|---|--:|\n| 17 | **1,204** |\n| 18 | 980 |"


def begin(person: Person, document: str, text: str) -> Page:
    """Open a document and put a text into it, the caret at its begin."""
    page = person.open(document)
    page.locator(".cm-content[contenteditable=true]").focus()
    page.keyboard.insert_text(text)
    person.is_told("saved")
    page.keyboard.press("Control+Home")
    return page


def written(person: Person, server: Server, document: str) -> str:
    person.is_told("saved")
    return content(server, document)


def line(page: Page, index: int) -> Locator:
    return page.locator(".cm-line").nth(index)


def select(page: Page, begin: int, length: int) -> None:
    """Select from a place in the text, by keys, as somebody does who has no mouse."""
    page.keyboard.press("Control+Home")
    for _ in range(begin):
        page.keyboard.press("ArrowRight")
    for _ in range(length):
        page.keyboard.press("Shift+ArrowRight")


def paste(page: Page, **data: str) -> None:
    page.evaluate(
        """data => {
          const transfer = new DataTransfer();
          for (const [type, value] of Object.entries(data)) transfer.setData(`text/${type}`, value);
          document.querySelector('.cm-content').dispatchEvent(
            new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true }));
        }""",
        data,
    )


def held_back(page: Page, part: str) -> list[Route]:
    """A part of the page that is fetched when it is wanted does not come before a test lets it."""
    page.add_init_script("delete Navigator.prototype.serviceWorker")  # it would fetch it unseen
    held: list[Route] = []
    page.route(f"**/assets/{part}-*.js", lambda route: held.append(route))
    return held


def test_marks_hide_away_from_the_caret_and_show_where_one_edits(
    arrive: Callable[..., Person], server: Server
) -> None:
    text = "# Title\n\nSome **bold** and `code`, see [the plan](https://example.org/).\n\n- one\n> said"
    ada, grace = arrive("Ada"), arrive("Grace")
    page = begin(ada, "live", text)
    expect(line(page, 2)).to_have_text("Some bold and code, see the plan.")
    expect(line(page, 4)).to_have_text("•one")
    expect(line(page, 5)).to_have_text("said")
    # At the caret the marks are there; one step on, those of the next element.
    expect(line(page, 0)).to_have_text("# Title")
    page.keyboard.press("ArrowDown")
    expect(line(page, 0)).to_have_text("Title")
    page.keyboard.press("ArrowDown")
    for _ in range(len("Some ")):
        page.keyboard.press("ArrowRight")
    expect(line(page, 2)).to_have_text("Some **bold** and code, see the plan.")
    # To select everything opens nothing in between.
    page.keyboard.press("Control+a")
    expect(line(page, 2)).to_have_text("Some bold and code, see the plan.")
    # What another writes and where they stand is theirs.
    grace.open("live")
    grace.is_told("saved")
    grace.write("!")
    grace.is_told("saved")
    expect(line(page, 2)).to_have_text("Some bold and code, see the plan.")
    assert written(ada, server, "live") == text + "!"


def test_a_box_is_ticked_by_click_and_by_key_and_by_nobody_who_may_only_read(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "tasks", "The list\n\n- [ ] ask the museum\n- [x] ask the council")
    box = page.get_by_role("checkbox", name="ask the museum")
    expect(box).not_to_be_checked()
    box.click()
    expect(box).to_be_checked()
    assert written(ada, server, "tasks") == "The list\n\n- [x] ask the museum\n- [x] ask the council"
    box.focus()
    page.keyboard.press("Space")
    expect(box).not_to_be_checked()
    expect(box).to_be_focused()
    page.locator(".cm-content").focus()
    page.keyboard.press("Control+End")
    page.keyboard.press("Control+Enter")
    assert written(ada, server, "tasks") == "The list\n\n- [ ] ask the museum\n- [ ] ask the council"
    page.get_by_role("button", name="Read", exact=True).click()
    expect(box).to_be_disabled()


def test_a_table_is_a_table_and_its_cells_lead_into_the_source(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "table", f"Before\n\n{TABLE}\n\nAfter")
    table = page.get_by_role("table")
    expect(table.get_by_role("cell", name="1,204").locator("strong")).to_be_visible()
    expect(table.get_by_role("columnheader")).to_have_text(["Drawer", "Cards"])
    table.get_by_role("cell", name="980").click()
    expect(table).to_have_count(0)
    page.keyboard.type("!")
    assert "| 18 | 980! |" in written(ada, server, "table")
    # By keyboard into it and out on the other side.
    page.keyboard.press("Control+Home")
    expect(table).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(table).to_have_count(0)
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    expect(table).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(table).to_have_count(0)


def test_only_safe_links_lead_anywhere_and_pictures_of_other_sites_are_not_loaded(
    arrive: Callable[..., Person], server: Server
) -> None:
    text = (
        "Text\n\n[bad](javascript:alert(1)) [worse](data:text/html,x) [good](https://example.org/a) "
        "<ada@example.org> ![spy](https://example.org/spy.png) ![code](javascript:alert(2))\n\n"
        "| [bad](javascript:alert(3)) | ![spy](https://example.org/spy.png) |\n|---|---|\n| x | y |\n"
    )
    ada = arrive("Ada")
    asked: list[str] = []
    ada.context.route(
        "https://example.org/**",
        lambda route: (asked.append(route.request.url), route.fulfill(body="there")),
    )
    page = begin(ada, "links", text)
    links = page.locator(".cm-content a")
    leads = links.evaluate_all("all => all.map((a) => [a.href, a.target, a.rel])")
    assert {href for href, *_ in leads} == {
        "https://example.org/a",
        "mailto:ada@example.org",
        "https://example.org/spy.png",
    }
    assert all(rest == ["_blank", "noopener"] for _, *rest in leads)
    expect(page.locator(".cm-content img:not(.cm-widgetBuffer)")).to_have_count(0)
    assert asked == []
    good = page.get_by_role("link", name="good", exact=True)
    good.click()  # puts the caret there
    assert len(ada.context.pages) == 1
    with ada.context.expect_page() as opened:
        good.click(modifiers=["Control"])
    assert opened.value.evaluate("window.opener") is None
    with ada.context.expect_page():
        page.get_by_role("link", name="Open https://example.org/a").click()
    page.get_by_role("button", name="Read", exact=True).click()
    with ada.context.expect_page():
        good.click()


def test_on_a_phone_a_finger_opens_a_link_and_the_tools_stand_at_the_foot(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada", viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    page = begin(ada, "phone", "# Title\n\nSee [the plan](https://example.org/a) now\n\n## Two\n")
    page.get_by_role("link", name="the plan").tap()
    expect(page.get_by_role("link", name="Open https://example.org/a")).to_be_visible()
    tools = page.get_by_role("toolbar", name="Formatting").bounding_box()
    assert tools is not None
    assert tools["y"] > 700
    assert tools["height"] >= 44
    page.get_by_role("toolbar", name="View").get_by_role("button", name="Outline").tap()
    page.get_by_role("navigation", name="Outline").get_by_role("button", name="Two").tap()
    expect(page.get_by_role("navigation", name="Outline")).to_have_count(0)
    expect(line(page, 4)).to_have_text("## Two")


def test_formulas_are_drawn_and_may_do_nothing_else(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    page = begin(
        ada,
        "math",
        "Costs $5 and $6.\n\n$e^{i\\pi}$ and $\\href{javascript:alert(1)}{x}$ and "
        "$\\def\\x{\\x\\x}\\x$\n\n$$\n\\frac{1}{2}\n$$\n",
    )
    expect(line(page, 0)).to_have_text("Costs $5 and $6.")
    expect(page.locator(".katex-display")).to_have_count(1)
    expect(page.locator(".cm-line .katex math")).to_have_count(2)
    expect(page.locator(".md-wrong")).to_have_attribute("title", re.compile("Too many expansions"))
    expect(page.locator(".cm-content a")).to_have_count(0)
    page.locator(".katex-display").click()
    expect(page.locator(".cm-line", has_text="\\frac")).to_be_visible()


def test_tools_format_what_is_selected_and_take_the_format_back(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "tools", "- one two\n- three")
    bold = page.get_by_role("button", name="Bold")
    page.keyboard.press("Control+a")
    bold.click()
    assert written(ada, server, "tools") == "- **one two**\n- **three**"
    expect(bold).to_have_attribute("aria-pressed", "true")
    bold.click()
    assert written(ada, server, "tools") == "- one two\n- three"
    select(page, 6, 3)
    page.keyboard.press("Control+i")
    page.keyboard.press("Control+Shift+x")
    assert written(ada, server, "tools") == "- one *~~two~~*\n- three"
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Tasks").click()
    assert written(ada, server, "tools") == "- [ ] one two\n- [ ] three"
    page.get_by_role("button", name="Numbered list").click()
    assert written(ada, server, "tools") == "1. one two\n2. three"
    page.get_by_role("button", name="Numbered list").click()
    page.get_by_role("button", name="Quote").click()
    assert written(ada, server, "tools") == "> one two\n> three"
    page.get_by_role("button", name="Quote").click()
    page.get_by_role("button", name="Code block").click()
    assert written(ada, server, "tools") == "```\none two\nthree\n```"
    page.get_by_role("button", name="Code block").click()
    assert written(ada, server, "tools") == "one two\nthree"
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Alt+2")
    page.get_by_role("button", name="Heading").click()
    expect(page.get_by_role("menuitemradio", name="Heading 2")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert written(ada, server, "tools") == "### one two\nthree"
    page.keyboard.press("Control+End")
    page.keyboard.type(" 😀 x")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Control+k")
    page.keyboard.type("https://example.org")
    assert written(ada, server, "tools") == "### one two\nthree [😀 x](https://example.org)"


def test_the_tools_are_one_stop_of_the_keyboard_and_escape_leads_back(arrive: Callable[..., Person]) -> None:
    ada = arrive("Ada")
    page = begin(ada, "keys", "word")
    expect(page.get_by_role("toolbar", name="Formatting")).to_be_visible()
    page.keyboard.press("Alt+F10")
    expect(page.get_by_role("button", name="Insert")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Bold")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("toolbar", name="View").locator(":focus")).to_have_count(1)
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Bold")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".cm-content")).to_be_focused()


def test_a_slash_offers_what_can_be_inserted_and_escape_leaves_it_a_slash(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "slash", "")
    page.keyboard.type("/")
    offers = page.get_by_role("listbox", name="Insert")
    expect(offers).to_be_in_viewport()
    page.keyboard.type("head")
    expect(offers.get_by_role("option")).to_have_count(4)
    page.keyboard.press("ArrowDown")
    expect(offers.get_by_role("option", selected=True)).to_contain_text("Heading 2")
    assert page.locator(".cm-content").get_attribute("aria-activedescendant")
    page.keyboard.press("Enter")
    page.keyboard.type("A title\nand /")
    expect(offers).to_be_visible()
    page.keyboard.press("Escape")
    expect(offers).to_have_count(0)
    page.keyboard.type("or")
    page.wait_for_timeout(200)
    expect(offers).to_have_count(0)
    page.keyboard.type(" 1/2")
    page.wait_for_timeout(200)
    expect(offers).to_have_count(0)
    assert written(ada, server, "slash") == "## A title\nand /or 1/2"
    page.keyboard.type("\n\n")
    page.get_by_role("button", name="Insert").click()
    expect(offers).to_be_in_viewport()
    offers.get_by_role("option", name="Rule").click()
    assert written(ada, server, "slash") == "## A title\nand /or 1/2\n\n---\n"


GOOGLE = """<meta charset='utf-8'><b style="font-weight:normal;" id="docs-internal-guid-1">
<h1><span style="font-weight:400">Plan</span></h1><p><span style="font-weight:400">We </span>
<span style="font-weight:700">must</span><span style="font-style:italic"> go</span> to
<a href="https://example.org/x"><span style="text-decoration:underline">the site</span></a>.</p>
<ul><li><p>one</p><ul><li><p>inner</p></li></ul></li><li><p>two</p></li></ul></b>"""
WORD = """<html xmlns:o="urn:schemas-microsoft-com:office:office"><head>
<style>p {color: red}</style></head><body>
<!--StartFragment--><p class=MsoNormal>A <b>list</b>:<o:p></o:p></p>
<p class=MsoListParagraphCxSpFirst style='mso-list:l0 level1 lfo1'><![if !supportLists]><span
style='mso-list:Ignore'>·<span>&nbsp;&nbsp;</span></span><![endif]>first</p>
<p class=MsoListParagraphCxSpMiddle style='mso-list:l0 level2 lfo1'><span
style='mso-list:Ignore'>o </span>inner</p>
<p class=MsoListParagraphCxSpLast style='mso-list:l0 level1 lfo1'><span
style='mso-list:Ignore'>· </span>last</p>
<!--EndFragment--></body></html>"""
SHEET = """<google-sheets-html-origin><table><colgroup><col></colgroup><tbody>
<tr><td>Name</td><td>Cards</td></tr>
<tr><td>a|b</td><td style="text-align:right">12</td></tr><tr><td></td><td></td></tr></tbody></table>"""
HOSTILE = """<p>ok</p><img src=x onerror="window.ran=1"><script>window.ran=2</script>
<a href="javascript:window.ran=3">click</a><svg onload="window.ran=4"></svg><iframe srcdoc="x"></iframe>"""


def test_what_is_pasted_from_other_programs_becomes_markdown(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "paste", "")

    def pasted(**data: str) -> str:
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        paste(page, **data)
        expect(page.locator(".cm-content .cm-placeholder")).to_have_count(0)
        return written(ada, server, "paste")

    assert pasted(html=GOOGLE, plain="Plan") == (
        "# Plan\n\nWe **must** *go* to [the site](https://example.org/x).\n\n- one\n  - inner\n- two"
    )
    assert pasted(html=WORD, plain="x") == "A **list**:\n\n- first\n  - inner\n- last"
    assert pasted(html=SHEET, plain="x") == "| Name | Cards |\n| --- | ---: |\n| a\\|b | 12 |"
    assert pasted(html=HOSTILE, plain="x") == "ok\n\nclick"
    assert page.evaluate("window.ran") is None
    # In code, and with Shift, it is what it is.
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.type("word")
    page.keyboard.press("Control+a")
    paste(page, plain="https://example.org/", html='<a href="https://example.org/">x</a>')
    assert written(ada, server, "paste") == "[word](https://example.org/)"
    ada.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """() => navigator.clipboard.write([new ClipboardItem({
             'text/plain': new Blob(['plain'], { type: 'text/plain' }),
             'text/html': new Blob(['<b>plain</b>'], { type: 'text/html' }),
           })])"""
    )
    for key, expected in (("Control+v", "**plain**"), ("Control+Shift+V", "plain")):
        page.keyboard.press("Control+a")
        page.keyboard.press(key)
        expect(page.locator(".cm-content")).to_have_text(expected)
        assert written(ada, server, "paste") == expected


def test_find_counts_and_goes_on_and_replaces(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    page = begin(ada, "find", "One card, two cards.\n\nA Card in **the card** box: cardinal")
    page.keyboard.press("Control+f")
    panel = page.get_by_role("search", name="Find and replace")
    expect(panel.get_by_role("textbox", name="Find")).to_be_focused()
    page.keyboard.type("card")
    expect(panel.get_by_role("status")).to_have_text("1 of 5")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(panel.get_by_role("status")).to_have_text("3 of 5")
    panel.get_by_role("button", name="Match case").click()
    expect(panel.get_by_role("status")).to_have_text("3 of 4")
    panel.get_by_role("button", name="Whole words").click()
    expect(panel.get_by_role("status")).to_have_text(re.compile("of 2$"))
    panel.get_by_role("button", name="Replace", exact=True).first.click()
    panel.get_by_role("textbox", name="Replace with").fill("note")
    panel.get_by_role("button", name="All").click()
    assert written(ada, server, "find") == "One note, two cards.\n\nA Card in **the note** box: cardinal"
    panel.get_by_role("button", name="Regular expression").click()
    panel.get_by_role("textbox", name="Find").fill("(")
    expect(panel.get_by_role("status")).to_have_text("Not an expression")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(page.locator(".cm-content")).to_be_focused()


def test_a_paste_stands_where_it_was_made_whatever_is_typed_until_it_is_ready(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = ada.page
    held = held_back(page, "convert")
    with page.expect_request("**/assets/convert-*.js"):  # before anybody pastes
        begin(ada, "paste-early", "Old and new. ")
    select(page, 4, 3)
    paste(page, html="<p><b>very</b></p>", plain="very")
    page.keyboard.type(" much")
    held[0].continue_()
    expect(line(page, 0)).to_have_text("Old very much new.")
    assert written(ada, server, "paste-early") == "Old **very** much new. "
    page.keyboard.press("Control+End")
    paste(page, html="<p><b>So</b></p>", plain="So")
    expect(line(page, 0)).to_have_text("Old very much new. **So**")
    page.keyboard.type("!")
    assert written(ada, server, "paste-early") == "Old **very** much new. **So**!"


def test_what_is_loaded_while_one_searches_takes_nothing_from_the_field(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = ada.page
    held = held_back(page, "slash")
    with page.expect_request("**/assets/slash-*.js"):
        begin(ada, "find-early", "One card.")
    page.keyboard.press("Control+f")
    field = page.get_by_role("search").get_by_role("textbox", name="Find")
    expect(field).to_be_focused()
    page.keyboard.type("ca")
    with page.expect_response("**/assets/slash-*.js") as answer:
        held[0].continue_()
    answer.value.finished()
    page.wait_for_timeout(300)
    page.keyboard.type("rd")
    expect(field).to_have_value("card")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+End")
    page.keyboard.type("\n/")
    expect(page.locator(".slash-menu")).to_be_visible()


def test_the_outline_leads_to_headings_and_says_how_long_the_text_is(arrive: Callable[..., Person]) -> None:
    ada = arrive("Ada")
    filler = "\n".join(["word"] * 60)
    page = begin(ada, "outline", f"# One *bold*\n\n{filler}\n\n## Two\n\n{filler}\n\n# Three\n\n{filler}")
    page.get_by_role("button", name="Outline").first.click()
    outline = page.get_by_role("navigation", name="Outline")
    expect(outline.get_by_role("listitem")).to_have_text(["One bold", "Two", "Three"])
    expect(outline.get_by_role("button", name="One bold")).to_have_attribute("aria-current", "true")
    expect(outline.locator("dd").first).to_have_text("184")
    outline.get_by_role("button", name="Two").click()
    expect(outline.get_by_role("button", name="Two")).to_have_attribute("aria-current", "true")
    heading = page.locator(".cm-line", has_text="Two")
    expect(heading).to_be_in_viewport()
    page.keyboard.type("!")
    expect(outline.get_by_role("listitem").nth(1)).to_have_text("Two!")
    page.keyboard.press("Shift+Home")
    expect(outline.locator("dl")).to_contain_text("Words selected1")
    outline.get_by_role("button", name="Close the outline").click()
    expect(page.get_by_role("button", name="Outline").last).to_be_focused()


def test_ways_to_look_are_kept_on_the_device_and_reading_writes_nothing(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "modes", "# Title\n\nSome **bold** text")
    page.get_by_role("button", name="Markdown source").click()
    expect(line(page, 2)).to_have_text("Some **bold** text")
    page.reload()
    expect(line(page, 2)).to_have_text("Some **bold** text")
    page.get_by_role("button", name="Read", exact=True).click()
    ada.is_told("saved")
    expect(line(page, 0)).to_have_text("Title")
    expect(page.locator(".cm-content").get_by_role("heading", name="Title", level=1)).to_have_count(1)
    expect(page.get_by_role("toolbar", name="Formatting")).to_be_hidden()
    page.locator(".cm-content").focus()
    page.keyboard.type("never")
    page.keyboard.press("Control+b")
    page.keyboard.press("Control+z")
    paste(page, plain="never")
    assert written(ada, server, "modes") == "# Title\n\nSome **bold** text"
    page.keyboard.press("Control+Alt+v")
    page.keyboard.press("Control+Alt+v")
    ada.write("!")
    assert written(ada, server, "modes") == "# Title\n\nSome **bold** text!"


@CLOSED
def test_who_may_only_read_sees_the_text_as_it_is_meant(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    make(server, "readers")
    ada.page.goto(share(server, "readers", "viewer")["url"])
    ada.is_told("reading")
    set_role(server, "readers", ada.actor(), "editor")
    ada.is_told("saved")
    ada.page.locator(".cm-content").focus()
    ada.page.keyboard.insert_text(f"# Title\n\n- [ ] a **task**\n\n{TABLE}\n\nEnd")
    ada.is_told("saved")
    set_role(server, "readers", ada.actor(), "viewer")
    ada.is_told("reading")
    expect(line(ada.page, 0)).to_have_text("Title")
    expect(ada.page.get_by_role("checkbox", name="a task")).to_be_disabled()
    ada.page.get_by_role("cell", name="17").click()
    expect(ada.page.get_by_role("table")).to_be_visible()
    expect(ada.page.get_by_role("toolbar", name="Formatting")).to_be_hidden()
    assert json.loads(call(server, "GET", at("readers")))["head"] > 0


def test_a_word_being_composed_is_not_drawn_again_when_others_write(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    page = begin(ada, "ime", "**start** \n\nother line")
    grace.open("ime")
    grace.is_told("saved")
    page.keyboard.press("End")
    cdp = page.context.new_cdp_session(page)
    for composed in ("n", "に", "にh", "にほ"):
        cdp.send(
            "Input.imeSetComposition",
            {"text": composed, "selectionStart": len(composed), "selectionEnd": len(composed)},
        )
        grace.write("g")
        page.wait_for_timeout(60)
    cdp.send("Input.insertText", {"text": "日本"})
    grace.is_told("saved")
    ada.is_told("saved")
    expect(line(page, 0)).to_contain_text("日本")
    assert written(ada, server, "ime") == "**start** 日本\n\nother linegggg"
    page.keyboard.type("**b** ")
    page.keyboard.press("Control+End")
    expect(line(page, 0)).to_have_text("start 日本b")


def test_the_tab_key_moves_items_and_goes_from_cell_to_cell(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    page = begin(ada, "tab", "1. one\n2. two\n   - under two\n3. three\n\n| a | b |\n|---|---|\n| c | d |")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    moved = "1. one\n   2. two\n      - under two\n3. three\n\n"
    assert written(ada, server, "tab") == f"{moved}| a | b |\n|---|---|\n| c | d |"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+End")
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("x")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("e")
    page.keyboard.press("Tab")
    page.keyboard.type("f")
    assert written(ada, server, "tab") == f"{moved}| a | b |\n|---|---|\n| x | d |\n| e | f |"
    # Elsewhere, and after Escape, the key leaves the text as it does on every page.
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator(".cm-content")).not_to_be_focused()
