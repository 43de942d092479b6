"""What people write, name and send is only ever text: no script of theirs runs in anybody's browser (R24)."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from urllib.parse import quote

import pytest
from pages import CLOSED, SECRET, Person, at, call, content, make, set_role, share, shown
from playwright.sync_api import Browser, Page, Response, expect
from pycrdt import Awareness, Doc, create_awareness_message
from serverprocess import PATIENCE, Server
from websockets.sync.client import connect

from web import auth

PAYLOADS = """
<script>alert(1)</script>
<ScRiPt>alert(1)</sCrIpT>
<script >alert(1)</script >
<script/x>alert(1)</script>
<script>alert(1)
<script src=data:text/javascript,alert(1)></script>
<script src=//192.0.2.1/x.js></script>
<script type=module>alert(1)</script>
<script>alert`1`</script>
</script><script>alert(1)</script>
</title><script>alert(1)</script>
</textarea><script>alert(1)</script>
</style><script>alert(1)</script>
</noscript><script>alert(1)</script>
</template><script>alert(1)</script>
--><script>alert(1)</script>
]]><script>alert(1)</script>
"><script>alert(1)</script>
'><script>alert(1)</script>
`><script>alert(1)</script>
<<script>alert(1)//<</script>
<img src=x onerror=alert(1)>
<img src=x onerror="alert(1)">
<img/src=x/onerror=alert(1)>
<img src=x onerror=alert&#40;1&#41;>
<img src=x onerror=&#97;&#108;&#101;&#114;&#116;(1)>
<img src=x:x onerror=alert(1)//
<img src=`x` onerror=alert(1)>
<img src onerror=alert(1)>
<IMG SRC=x OnErRoR=alert(1)>
"><img src=x onerror=alert(1)>
'><img src=x onerror=alert(1)>
" onfocus=alert(1) autofocus tabindex=1 x="
' onfocus=alert(1) autofocus tabindex=1 x='
" onmouseover=alert(1) x="
" style=animation-name:x onanimationstart=alert(1) x="
<svg onload=alert(1)>
<svg/onload=alert(1)>
<svg><script>alert(1)</script></svg>
<svg><script href=data:text/javascript,alert(1) /></svg>
<svg><animate onbegin=alert(1) attributeName=x dur=1s>
<svg><set onbegin=alert(1) attributeName=x dur=1s>
<svg><a xlink:href="javascript:alert(1)"><text y=20>x</text></a></svg>
<svg><foreignObject><img src=x onerror=alert(1)></foreignObject></svg>
<svg><style><img src=x onerror=alert(1)></style></svg>
<svg><desc><![CDATA[</desc><script>alert(1)</script>]]></svg>
<math><mtext><img src=x onerror=alert(1)></mtext></math>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=alert(1)&gt;">
<body onload=alert(1)>
<body onpageshow=alert(1)>
<html onclick=alert(1)>
<iframe src=javascript:alert(1)></iframe>
<iframe srcdoc="<script>alert(1)</script>"></iframe>
<iframe srcdoc="&lt;img src=x onerror=parent.alert(1)&gt;"></iframe>
<iframe onload=alert(1)></iframe>
<iframe src="data:text/html,<script>alert(1)</script>"></iframe>
<object data=javascript:alert(1)></object>
<object data="data:text/html,<script>alert(1)</script>"></object>
<embed src=javascript:alert(1)>
<embed src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>">
<a href="javascript:alert(1)" id=x>x</a>
<a href="jAvAsCrIpT:alert(1)">x</a>
<a href="java&#9;script:alert(1)">x</a>
<a href="&#1;javascript:alert(1)">x</a>
<a href="data:text/html,<script>alert(1)</script>">x</a>
<a href="vbscript:alert(1)">x</a>
<form action=javascript:alert(1)><input type=submit autofocus></form>
<form><button formaction=javascript:alert(1)>x</button></form>
<input autofocus onfocus=alert(1)>
<select autofocus onfocus=alert(1)></select>
<textarea autofocus onfocus=alert(1)></textarea>
<details open ontoggle=alert(1)>
<details open ontoggle="alert(1)"><summary>x</summary></details>
<video src=x onerror=alert(1)></video>
<video><source onerror=alert(1)></video>
<audio src=x onerror=alert(1)></audio>
<marquee onstart=alert(1)>x</marquee>
<div style="background:url(javascript:alert(1))">x</div>
<div style="animation:x 1s" onanimationstart=alert(1)>x</div>
<style>@import 'http://192.0.2.1/x.css';</style>
<style>*{background:url(http://192.0.2.1/x)}</style>
<link rel=stylesheet href=http://192.0.2.1/x.css>
<link rel=import href=data:text/html,<script>alert(1)</script>>
<base href=http://192.0.2.1/>
<meta http-equiv=refresh content="0;url=javascript:alert(1)">
<meta http-equiv=refresh content="0;url=http://192.0.2.1/">
<meta http-equiv=Content-Security-Policy content="script-src *">
<template><script>alert(1)</script></template>
<noscript><p title="</noscript><img src=x onerror=alert(1)>">
<isindex type=image src=x onerror=alert(1)>
<x onclick=alert(1) id=x tabindex=1>x</x>
<xss onfocus=alert(1) autofocus tabindex=1>
<dialog open onclose=alert(1)><form method=dialog><button>x</button></form></dialog>
<button popovertarget=p>x</button><div popover id=p onbeforetoggle=alert(1)>x</div>
<slot onslotchange=alert(1)><b slot=x>x</b></slot>
<img srcset=x,y onerror=alert(1)>
<input type=image src=x onerror=alert(1)>
<object type=text/x-scriptlet data=http://192.0.2.1/x></object>
&lt;script&gt;alert(1)&lt;/script&gt;
&#x3c;script&#x3e;alert(1)&#x3c;/script&#x3e;
%3Cscript%3Ealert(1)%3C/script%3E
\\u003cscript\\u003ealert(1)\\u003c/script\\u003e
javascript:alert(1)
[x](javascript:alert(1))
[x](JaVaScRiPt:alert(1) "title")
![x](x"onerror="alert(1))
![x](javascript:alert(1))
<javascript:alert(1)>
[x]: javascript:alert(1)
`<img src=x onerror=alert(1)>`
**<img src=x onerror=alert(1)>**
# <svg onload=alert(1)>
> <script>alert(1)</script>
```html<script>alert(1)</script>```
{{constructor.constructor('alert(1)')()}}
${alert(1)}
';alert(1)//
";alert(1)//
\\';alert(1)//
</script><svg onload=alert(1)>
""".strip().splitlines()

# Tells of every violation of the policy, and of what no text can become.
WITNESS = """
addEventListener('securitypolicyviolation', (event) =>
  console.error('violation', event.violatedDirective, event.blockedURI));
window.foreign = () => [...document.querySelectorAll('*')].filter((element) =>
  /^(SCRIPT|IFRAME|OBJECT|EMBED|BASE|VIDEO|AUDIO|MATH|STYLE|LINK|META)$/i.test(element.tagName)
    && !element.closest('head')
  || [...element.attributes].some(({ name, value }) =>
    /^on/.test(name) || /^(href|src|action|srcdoc)$/.test(name) && /^\\s*(javascript|data):/i.test(value))
).map((element) => element.outerHTML);
"""


class Witness:
    """Sees what a browser does that nobody in it may make it do."""

    def __init__(self, person: Person) -> None:
        self.url = person.url
        self.seen: list[str] = []
        person.context.add_init_script(WITNESS)
        person.context.on("request", self._request)
        self.watch(person.page)

    def watch(self, page: Page) -> None:
        def dismiss(dialog: object) -> None:
            self.seen.append("a dialog")
            dialog.dismiss()  # type: ignore[attr-defined]

        page.on("dialog", dismiss)

    def _request(self, request: object) -> None:
        url: str = request.url  # type: ignore[attr-defined]
        if not url.startswith(self.url):
            self.seen.append(f"a request to {url}")

    def saw_nothing(self, page: Page, what: str) -> None:
        foreign = page.evaluate("window.foreign()")
        assert (self.seen, foreign) == ([], []), what


class Mallory:
    """Somebody whose caret stands in a document, and who can take any name, by token and by presence."""

    def __init__(self, server: Server, document: str) -> None:
        rights = {"*": auth.Role.EDITOR}
        token = auth.issue(SECRET, "mallory", audience="collab", seconds=600, name="M", documents=rights)
        self.socket = connect(f"{server.ws_url}/ws/{quote(document, safe='')}?token={token}")
        self.awareness = Awareness(Doc())

    def be(self, name: str) -> None:
        place = {"type": None, "tname": "content", "item": None, "assoc": 0}
        user = {"name": name, "color": name, "colorLight": name}
        self.awareness.set_local_state(
            {"user": user, "cursor": {"anchor": place, "head": place}, "titled": name}
        )
        update = self.awareness.encode_awareness_update([self.awareness.client_id])
        self.socket.send(create_awareness_message(update))


def test_the_payloads_bite_where_nothing_is_done_against_them(browser: Browser) -> None:
    page = browser.new_page()
    page.route("http://192.0.2.1/**", lambda route: route.abort())
    page.set_content(
        "<script>bitten = new Set(); bite = (n) => bitten.add(n); "
        "newFrame = () => document.createElement('iframe')</script>"
    )
    for number, payload in enumerate(PAYLOADS):
        armed = re.sub(r"alert(\(1\)|`1`)", f"top.bite({number})", payload)
        room = f"<title>x</title><input value=\"{armed}\"><p title='{armed}'>{armed}</p>"
        page.evaluate("(srcdoc) => document.body.append(Object.assign(newFrame(), { srcdoc }))", room)
    assert len(PAYLOADS) >= 100
    # The others want to be clicked, or come through other holes.
    page.wait_for_function("() => bitten.size >= 50")
    page.close()


@CLOSED
def test_no_script_runs_from_titles_or_from_people(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    witness = Witness(ada)
    make(server, "one")
    ada.page.goto(share(server, "one", "editor")["url"])
    ada.is_told("saved")
    mallory = Mallory(server, "one")
    face = ada.page.get_by_role("list", name="Also here").get_by_role("button")
    for payload in PAYLOADS:
        call(server, "PATCH", at("one"), {"title": payload})
        mallory.be(payload)
        expect(ada.page.get_by_label("Title", exact=True)).to_have_value(payload)
        expect(face).to_have_attribute("title", payload.strip()[:40])
        expect(ada.page.locator(".caret-name")).to_have_text(payload.strip()[:40])
        witness.saw_nothing(ada.page, payload)
    mallory.socket.close()
    for payload in PAYLOADS[::10]:
        ada.page.get_by_label("Title", exact=True).fill(payload)
        ada.page.get_by_label("Title", exact=True).press("Enter")
        ada.page.get_by_role("button", name="You are").click()
        ada.page.get_by_role("textbox", name="Your name").fill(payload)
        ada.page.keyboard.press("Enter")
        expect(ada.page).to_have_title(f"{payload} · Collab")
        witness.saw_nothing(ada.page, payload)


@CLOSED
def test_no_script_runs_from_the_name_of_a_document_or_of_an_account(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    witness = Witness(ada)
    person = ada.join(server, "ada@example.org", "Ada")
    for payload in PAYLOADS[::6]:  # each loads the page
        make(server, payload)
        set_role(server, payload, person, "owner")
        ada.rename(payload[:100])
        ada.open(payload)
        ada.write(payload)
        ada.is_told("saved")
        expect(ada.page).to_have_title(f"{payload} · Collab")
        expect(ada.page.locator(".me")).to_have_attribute("title", payload.strip()[:40])
        witness.saw_nothing(ada.page, payload)
        assert payload in content(server, payload)


@CLOSED
def test_no_script_runs_from_a_text_that_holds_them_all(
    arrive: Callable[..., Person], server: Server
) -> None:
    make(server, "all")
    ada, grace = arrive("Ada"), arrive("Grace")
    witnesses = Witness(ada), Witness(grace)
    ada.page.goto(share(server, "all", "editor")["url"])
    grace.page.goto(share(server, "all", "viewer")["url"])
    text = "\n".join(PAYLOADS)
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    ada.page.evaluate(
        """(text) => {
          const data = new DataTransfer();
          data.setData('text/plain', text);
          document.activeElement.dispatchEvent(
            new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
        }""",
        text,
    )
    ada.page.wait_for_function("() => document.querySelectorAll('.cm-line').length > 10")
    ada.is_told("saved")
    assert content(server, "all") == text
    for person, witness in zip((ada, grace), witnesses, strict=True):
        page = person.page
        page.wait_for_function("() => document.querySelectorAll('.cm-line').length > 10")
        for _ in range(20):
            page.mouse.wheel(0, 500)
            page.wait_for_timeout(30)
            witness.saw_nothing(page, shown(page))


@CLOSED
def test_no_script_runs_from_a_page_that_is_pasted(arrive: Callable[..., Person], server: Server) -> None:
    make(server, "pasted")
    ada = arrive("Ada")
    witness = Witness(ada)
    ada.page.goto(share(server, "pasted", "editor")["url"])
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    for payload in (*PAYLOADS, "\n".join(PAYLOADS)):
        ada.page.evaluate(
            """(html) => {
              const data = new DataTransfer();
              data.setData('text/plain', 'plain');
              data.setData('text/html', `<p><b>pasted</b></p>${html}<p>end</p>`);
              document.activeElement.dispatchEvent(
                new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
            }""",
            payload,
        )
    deadline = time.monotonic() + PATIENCE
    while content(server, "pasted").count("**pasted**") <= len(PAYLOADS):
        assert time.monotonic() < deadline, content(server, "pasted")[-500:]
        time.sleep(0.1)
    witness.saw_nothing(ada.page, shown(ada.page))


@CLOSED
def test_no_script_runs_from_the_list(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    witness = Witness(ada)
    person = ada.join(server, "ada@example.org", "Ada")
    for number, payload in enumerate(PAYLOADS):
        make(server, f"{number} {payload}"[:200], payload if number % 2 else "")
        set_role(server, f"{number} {payload}"[:200], person, "owner")
    ada.page.reload()
    rows = ada.page.locator(".row")
    for shown_so_far in range(50, len(PAYLOADS), 50):
        expect(rows).to_have_count(shown_so_far)
        ada.page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(len(PAYLOADS))
    witness.saw_nothing(ada.page, "the list")
    for number in range(0, len(PAYLOADS), 10):
        row = rows.nth(number)
        row.hover()
        row.get_by_role("button").first.click()
        expect(ada.page.get_by_label("New title")).to_be_focused()
        ada.page.keyboard.press("Escape")
    for payload in PAYLOADS[:10]:
        ada.page.get_by_label("Search titles").fill(payload)
        ada.page.wait_for_timeout(20)
    for _ in range(10):
        ada.page.get_by_label("Search titles").fill("")
        expect(rows).to_have_count(50)
        rows.first.hover()
        rows.first.get_by_role("button").last.click()
        expect(ada.page.get_by_text("Deleted “")).to_be_visible()
        ada.page.reload()
    witness.saw_nothing(ada.page, "the list, used")


@CLOSED
def test_no_script_runs_from_what_the_api_says_back(arrive: Callable[..., Person], server: Server) -> None:
    """Answers that hold what somebody sent, opened as pages: links and their labels, problems, documents."""
    ada = arrive("Ada")
    witness = Witness(ada)
    make(server, "linked")
    set_role(server, "linked", ada.join(server, "ada@example.org", "Ada"), "owner")
    for payload in PAYLOADS:
        share(server, "linked", "viewer", label=payload)
    answers: list[Response | None] = [ada.page.goto(f"{server.url}{at('linked')}/links")]
    assert json.dumps(PAYLOADS[0]) in ada.page.inner_text("body")
    for number, payload in enumerate(PAYLOADS):
        encoded = quote(payload, safe="")
        paths = (
            f"/api/documents/{encoded}",
            f"/api/documents?q={encoded}&cursor={encoded}",
            f"/api/{encoded}",
            f"/{encoded}",
        )
        answers.append(ada.page.goto(f"{server.url}{paths[number % len(paths)]}"))
        assert witness.seen == [], payload
    for answer in answers:
        assert answer is not None
        headers = answer.headers
        assert headers["content-type"].partition(";")[0] in (
            "application/json",
            "application/problem+json",
            "text/plain",
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


@CLOSED
def test_no_script_runs_from_an_address(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    witness = Witness(ada)
    for number, payload in enumerate(PAYLOADS[::3]):
        encoded = quote(payload, safe="")
        paths = (
            f"/d/{encoded}",
            f"/s#{payload}",
            f"/join#{encoded}.{encoded}.x",
            f"/sign-in?next={encoded}",
            f"/?q={encoded}#{payload}",
        )
        ada.page.goto("about:blank")
        ada.page.goto(f"{server.url}{paths[number % len(paths)]}")
        ada.page.locator("h1").first.wait_for(state="attached")
        witness.saw_nothing(ada.page, payload)


def test_the_policy_is_a_second_wall(arrive: Callable[..., Person], server: Server) -> None:
    """If markup of somebody got into the page, its scripts would still not run; and it would be reported."""
    ada = arrive("Ada")
    ada.open("walled")
    ada.is_told("saved")
    dialogs: list[object] = []
    ada.page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    for payload in PAYLOADS:
        if "refresh" not in payload:  # to go elsewhere is no script, and no policy keeps from it
            ada.page.evaluate("(payload) => (document.querySelector('main').innerHTML = payload)", payload)
    ada.page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'alert(1)';
          document.body.append(script);
          const frame = document.createElement('iframe');
          frame.srcdoc = '<script>parent.alert(1)<\\/script>';
          document.body.append(frame);
          setTimeout('alert(1)');
        }"""
    )
    ada.page.wait_for_timeout(500)
    assert dialogs == []
    violations = [said for said in ada.complaints if "Content Security Policy" in said]
    assert len(violations) > 20
    ada.complaints.clear()


def test_a_page_of_others_cannot_frame_ours(
    arrive: Callable[..., Person], browser: Browser, server: Server
) -> None:
    page = browser.new_page()
    page.set_content(f"<iframe src='{server.url}/'></iframe>")
    page.wait_for_timeout(500)
    frame = page.frames[1]
    assert frame.evaluate("document.body?.innerText ?? ''").find("Documents") < 0
    page.close()


@pytest.mark.parametrize("path", ["/", "/d/x", "/s", "/join", "/sign-in", "/api/docs", "/sw.js"])
def test_pages_carry_a_policy_without_inline_scripts(shared_server: Server, path: str) -> None:
    with urllib.request.urlopen(f"{shared_server.url}{path}") as answer:
        policy = dict(
            part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert policy["connect-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
