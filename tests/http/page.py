"""The page of genarm serve in a real browser, by real clicks and keys: tests/http/page.sh starts the servers and this.

PAGE_REAL: the default model with the ARMs "one" and NAME, weights 0. PAGE_TINY: a tiny model with the ARM "both", which has the
objectives praise and blame, behind the key "open-sesame". PAGE_SERVE: a command that starts another one. PAGE_AXE: axe-core,
which looks for what keeps people out.
"""
import json
import os
import re
import shlex
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

REAL, TINY, AXE = os.environ["PAGE_REAL"], os.environ["PAGE_TINY"], os.environ["PAGE_AXE"]
NAME = "<img src=x onerror=alert(1)>"
MARKUP = "<img src=x onerror=alert(1)> **bold** \U0001f9ed \u00e9 <script>alert(2)</script>"  # the compass is several tokens


def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ["PAGE_CHROMIUM"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": os.getcwd()})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(os.environ["PAGE_DRIVER"]))


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def asked(text):
    return {"role": "user", "text": text}


def said(text):
    return {"role": "assistant", "shown": 0, "variants": [{"kept": 0, "answers": [{"text": text, "finish": "stop"}]}]}


class PageTest(unittest.TestCase):
    expected_errors = ()  # of the browser's log: what a test provokes

    @classmethod
    def setUpClass(cls):
        cls.d = browser()

    @classmethod
    def tearDownClass(cls):
        cls.d.quit()

    def setUp(self):
        self.screen(1280, 860)
        self.open(REAL)

    def tearDown(self):
        errors = [entry["message"] for entry in self.d.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        known = (*self.expected_errors, "favicon.ico")  # which is looked for beside a file that is opened alone, as open() does
        unexpected = [e for e in errors if not any(re.search(one, e) for one in known)]
        self.assertEqual(unexpected, [], "the browser's log")

    # ---- what a person does ----

    def screen(self, width, height):
        self.d.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})

    def open(self, url, ready=True):
        """As somebody who has never been here."""
        self.d.get(f"{url}/favicon.svg")  # a page of the same origin that remembers nothing
        self.d.execute_script("localStorage.clear(); sessionStorage.clear()")
        self.d.get(url)
        if ready:
            self.wait(self.ready)

    def ready(self):
        return self.d.execute_script("return document.getElementById('status').dataset.state === 'ready'")

    def wait(self, what, seconds=120):
        return WebDriverWait(self.d, seconds, 0.05).until(lambda _: what())

    def before_the_page(self, script):
        """Runs the script in every page from now on, before the page's own."""
        added = self.d.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        self.addCleanup(self.d.execute_cdp_cmd, "Page.removeScriptToEvaluateOnNewDocument", added)

    def id(self, name):
        return self.d.find_element(By.ID, name)

    def all(self, selector):
        return self.d.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.d.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys):
        """A shortcut: all keys but the last are held."""
        chain = ActionChains(self.d)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()

    def settings(self, **values):
        for name, value in values.items():
            field = self.id(f"set-{name}")
            field.clear()
            field.send_keys(str(value))

    def ask(self, text, wait=True):
        self.id("input").send_keys(text, Keys.ENTER)
        if wait:
            self.ended()

    def busy(self):
        return "busy" in (self.one("body").get_attribute("class") or "")

    def ended(self):
        self.wait(lambda: not self.busy())
        time.sleep(0.1)

    def slider(self, name):
        return next(e for e in self.all("#arms input[type=range]") if e.get_attribute("aria-label") == f"Weight of {name}")

    def drag(self, slider, to):
        """To a part of its length, in several moves as a hand would."""
        width = slider.size["width"]
        at = lambda share: int(width * (share - 0.5))
        now = (float(slider.get_property("value")) - float(slider.get_property("min"))) / 4
        chain = ActionChains(self.d, duration=40).move_to_element_with_offset(slider, at(now), 0).click_and_hold()
        for k in range(1, 9):
            chain.move_to_element_with_offset(slider, at(now + (to - now) * k / 8), 0)
        chain.release().perform()

    def saved(self):
        """What the page remembers; settings are written some tenths of a second late."""
        time.sleep(0.4)
        settings, turns = self.d.execute_script("return ['genarm.page', 'genarm.turns'].map((key) => localStorage.getItem(key))")
        return {**json.loads(settings), "turns": json.loads(turns)}

    def answers(self):
        """Of the last turn's last variant."""
        return self.saved()["turns"][-1]["variants"][-1]["answers"]

    def bring(self, turns, **settings):
        """Imports a file of these turns."""
        with open("brought.json", "w", encoding="utf-8") as f:
            json.dump({"format": "genarm conversation", "version": 1, "turns": turns, **settings}, f)
        self.id("file").send_keys(os.path.abspath("brought.json"))
        self.wait(lambda: [e.text for e in self.all(".bubble")] == [t["text"] for t in turns if t["role"] == "user"])

    def texts(self, answer):
        return [token["text"] for token in answer["tokens"]]


class Chat(PageTest):
    def test_policy_is_in_force(self):
        policy = self.d.execute_async_script(
            "const done = arguments[0]; fetch('/').then((r) => done(r.headers.get('content-security-policy')))")
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            self.assertIn(part, policy)
        self.assertNotIn("unsafe", policy)
        self.d.execute_script(
            "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
        self.assertIsNone(self.d.execute_script("return window.ran ?? null"))
        self.assertTrue(any("Content Security Policy" in entry["message"] for entry in self.d.get_log("browser")))

    def test_slider_dragged_while_an_answer_runs_changes_what_follows(self):
        self.settings(temperature=0, max_tokens=120, seed=3)
        self.ask("Tell me a long story about a river.")
        plain = self.texts(self.answers()[0])
        self.assertEqual(self.answers()[0]["changes"], [])
        self.press(Keys.ALT, "r")
        self.wait(lambda: len(self.all(".running .t")) >= 6)
        self.drag(self.slider("one"), 0.9)
        self.assertTrue(self.busy(), "the answer ended before the slider was moved")
        self.ended()
        answer = self.answers()[0]
        self.assertEqual(answer["seed"], 3)
        first = answer["changes"][0]["at"]
        self.assertGreater(first, 0)
        self.assertAlmostEqual(answer["changes"][-1]["arms"]["one"], 2.6, delta=0.2)
        self.assertEqual(self.texts(answer)[:first], plain[:first], "tokens before the slider moved")
        self.assertNotEqual(self.texts(answer)[first:], plain[first:], "tokens after it")
        self.assertEqual(len(self.all(".mark")), len([c for c in answer["changes"] if c["at"] < len(answer["tokens"])]))
        self.assertEqual(self.one(".pager span").text, "2/2")

    def test_arrow_keys_on_a_slider_are_fine_and_reach_a_running_answer(self):
        self.settings(temperature=0, max_tokens=150)
        self.ask("Tell me a long story about a tree.", wait=False)
        self.wait(lambda: len(self.all(".running .t")) >= 3)
        self.press(Keys.ALT, "w")
        self.assertEqual(self.d.switch_to.active_element, self.slider("one"))
        self.press(Keys.ARROW_RIGHT)
        self.press(Keys.ARROW_RIGHT)
        self.press(Keys.PAGE_UP)
        self.assertEqual(float(self.slider("one").get_property("value")), 0.12)
        self.wait(lambda: "one 0.12" in self.one(".weights").text and "changed while it ran" in self.one(".weights").text)
        self.press(Keys.ESCAPE)
        self.ended()
        self.assertEqual(self.answers()[0]["changes"][-1]["arms"], {"one": 0.12, NAME: 0})
        number = self.all("#arms input[type=number]")[0]
        number.click()
        self.press(Keys.CONTROL, "a")
        number.send_keys("-2.5", Keys.ENTER)
        self.assertEqual(self.slider("one").get_attribute("aria-valuetext"), "-2.50")
        self.all("#arms .reset")[0].click()
        self.assertEqual(float(number.get_property("value")), 0)

    def test_side_by_side_with_weights_of_zero_both_say_the_same(self):
        self.settings(max_tokens=24, temperature=0)  # batches of other sizes round otherwise, which may decide a draw
        self.press(Keys.ALT, "b")
        self.ask("Name three birds.")
        guided, unguided = self.answers()
        self.assertEqual(guided["seed"], unguided["seed"])
        self.assertEqual(guided["text"], unguided["text"])
        self.assertEqual(len(self.all(".column")), 2)
        self.drag(self.slider("one"), 0.95)
        self.press(Keys.ALT, "r")
        self.ended()
        guided, unguided = self.answers()
        self.assertGreater(guided["arms"]["one"], 2)
        self.assertEqual(set(unguided["arms"].values()), {0})
        self.assertNotEqual(guided["text"], unguided["text"])
        pressed = lambda: [button.get_attribute("aria-pressed") for button in self.all(".column .keep")]
        self.assertEqual(pressed()[-2:], ["true", "false"])
        self.all(".keep")[1].click()
        self.assertEqual(pressed()[-2:], ["false", "true"])
        self.ask("And three more?")
        sent = self.saved()["turns"]
        self.assertEqual(sent[1]["variants"][1]["kept"], 1)

    def test_slider_steers_the_guided_one_of_two(self):
        self.settings(temperature=0, max_tokens=60)
        self.press(Keys.ALT, "b")
        self.ask("Tell me a long story about a river.")
        plain = self.answers()[1]["text"]
        self.press(Keys.ALT, "r")
        self.wait(lambda: len(self.all(".guided.running .t")) >= 4 and len(self.all(".unguided.running .t")) >= 4)
        self.drag(self.slider("one"), 0.9)
        self.ended()
        guided, unguided = self.answers()
        self.assertGreater(guided["changes"][-1]["arms"]["one"], 2)
        self.assertEqual(unguided["changes"], [])
        self.assertEqual(unguided["text"], plain)
        self.assertNotEqual(guided["text"], plain)

    def test_every_token_tells_what_each_part_thought(self):
        self.settings(max_tokens=16, temperature=0)
        self.ask("Tell me a long story about a river.")
        answer = self.answers()[0]
        tokens = self.all(".t")
        self.assertEqual(len(tokens), len(answer["tokens"]))
        self.assertEqual(self.one(".tokens").get_property("textContent"), answer["text"])
        ActionChains(self.d).move_to_element(tokens[3]).perform()
        self.wait(lambda: self.id("pop").is_displayed())
        heads = [e.text for e in self.all("#pop thead th")]
        self.assertEqual(heads, ["token", "mixture", "base", "one", NAME])
        self.check_table(answer["tokens"][3])
        # The keyboard: one stop of Tab, then arrow keys.
        self.d.execute_script("arguments[0].focus()", self.one(".turn.assistant .actions button"))
        self.press(Keys.SHIFT, Keys.TAB)
        self.press(Keys.HOME)
        self.press(Keys.ARROW_RIGHT)
        self.assertEqual(self.d.switch_to.active_element, tokens[1])
        self.assertEqual(tokens[1].get_attribute("aria-describedby"), "pop")
        self.check_table(answer["tokens"][1])
        self.press(Keys.ESCAPE)
        self.assertFalse(self.id("pop").is_displayed())
        # A click pins it.
        tokens[2].click()
        ActionChains(self.d).move_to_element(self.id("top")).perform()
        time.sleep(0.4)
        self.assertTrue(self.id("pop").is_displayed())
        self.check_table(answer["tokens"][2])

    def check_table(self, token):
        rows = self.all("#pop tbody tr")
        self.assertGreaterEqual(len(rows), 5)
        drawn = self.one("#pop .drawn")
        number = lambda e: float(re.sub("[<%\u202f]", "", e.text))
        shown = [number(e) for e in drawn.find_elements(By.CSS_SELECTOR, ".p")]
        told = [token["logprob"], token["base"], token["arms"]["one"], token["arms"][NAME]]
        for percent, logprob in zip(shown, told, strict=True):
            self.assertAlmostEqual(percent, 100 * 2.718281828 ** logprob, delta=0.51)
        mixture = [number(row.find_element(By.CSS_SELECTOR, ".p")) for row in rows]
        self.assertLess(sum(mixture), 103)

    def test_keys_that_write_are_no_shortcuts_in_a_text_field(self):
        self.bring([asked("One?"), said("Two.")])
        open_panel = lambda: self.id("toggle-panel").get_attribute("aria-expanded")
        def option(key, code):  # as a Mac sends it: Option, a letter, and what they write
            for kind in ("keyDown", "keyUp"):
                self.d.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "modifiers": 1, "key": key, "code": code})
        agent = self.d.execute_script("return navigator.userAgent")
        def platform(name):
            self.d.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "platform": name})
        platform("MacIntel")
        self.addCleanup(platform, "Linux x86_64")
        for field in ("input", "set-seed"):
            self.id(field).click()
            option("Dead", "KeyN")
            option("\u00df", "KeyS")
            self.assertEqual((len(self.all(".turn")), open_panel()), (2, "true"))
            self.press(Keys.ALT, "s")
            self.press(Keys.ALT, "s")
            self.assertEqual(open_panel(), "true")
        self.press(Keys.ALT, "w")
        option("\u00df", "KeyS")
        self.assertEqual(open_panel(), "false")
        platform("Linux x86_64")  # elsewhere Alt writes nothing, and letters may be those of another alphabet
        self.id("input").click()
        option("\u044b", "KeyS")
        self.assertEqual(open_panel(), "true")

    def test_colours_follow_the_chosen_reward(self):
        self.settings(max_tokens=24, temperature=0)
        self.ask("Tell me a long story about a river.")
        token = self.answers()[0]["tokens"]
        steps = lambda: [int(e.get_attribute("data-step")) for e in self.all(".t")]
        edges = [-2, -1, -0.5, -0.15, 0.15, 0.5, 1, 2]
        self.assertEqual(steps(), [sum(t["arms"]["one"] - t["base"] >= e for e in edges) - 4 for t in token])
        Select(self.id("colour-measure")).select_by_value("logprob")
        edges = [0.005, 0.02, 0.06, 0.12, 0.25, 0.4, 0.6, 0.8]
        self.assertEqual(steps(), [sum(2.718281828459045 ** t["arms"]["one"] >= e for e in edges) - 4 for t in token])
        Select(self.id("colour-arm")).select_by_visible_text("base model")
        self.assertEqual(steps(), [sum(2.718281828459045 ** t["base"] >= e for e in edges) - 4 for t in token])
        self.press(Keys.ALT, "c")
        self.assertEqual(self.all(".t"), [])
        self.press(Keys.ALT, "c")
        self.assertEqual(len(self.all(".t")), len(token))

    def test_escape_stops_the_server_too(self):
        self.settings(max_tokens=2000, seed=1)  # of which the answer is a long one
        self.ask("Count to ten thousand.", wait=False)
        self.wait(lambda: len(self.all(".running .t")) >= 3)
        self.assertEqual(self.id("send").text, "Stop")
        self.press(Keys.ESCAPE)
        self.ended()
        self.assertEqual(self.answers()[0]["finish"], "stopped")
        self.assertIn("stopped", self.one(".stats").text)
        idle = "fetch('/slots').then((r) => r.json()).then((s) => arguments[0](s.every((x) => !x.is_processing)))"
        self.wait(lambda: self.d.execute_async_script(idle), 60)

    def test_what_is_said_survives_a_reload_and_a_file(self):
        self.settings(max_tokens=16, seed=5)
        self.id("system-box").click()
        self.id("system").send_keys("Be brief.")
        self.ask("What is a lake?\nIn short.".replace("\n", Keys.SHIFT + Keys.ENTER + Keys.SHIFT))
        text = self.one(".tokens").get_property("textContent")
        self.d.refresh()
        self.wait(self.ready)
        self.assertEqual(self.one(".tokens").get_property("textContent"), text)
        self.press(Keys.ALT, "e")
        name = self.wait(lambda: next((n for n in os.listdir() if re.fullmatch(r"genarm-[\d-]+\.json", n)), None))
        with open(name, encoding="utf-8") as f:
            exported = json.load(f)
        self.assertEqual(exported["format"], "genarm conversation")
        self.assertEqual(exported["system"], "Be brief.")
        self.assertEqual(exported["turns"][0], {"role": "user", "text": "What is a lake?\nIn short."})
        answer = exported["turns"][1]["variants"][0]["answers"][0]
        self.assertEqual((answer["seed"], answer["arms"]), (5, {"one": 0, NAME: 0}))
        self.assertEqual(answer["text"], text)
        self.press(Keys.ALT, "n")
        self.assertEqual(self.all(".turn"), [])
        self.one("#toast button").click()
        self.assertEqual(len(self.all(".turn")), 2)
        self.id("new").click()
        self.assertEqual(self.all(".turn"), [])
        self.id("file").send_keys(os.path.abspath(name))
        self.wait(lambda: self.all(".tokens"))
        self.assertEqual(self.one(".tokens").get_property("textContent"), text)
        self.ask("And a pond?")
        self.assertEqual(len(self.saved()["turns"]), 4)
        with open("wrong.json", "w", encoding="utf-8") as f:
            f.write('{"format": "another"}')
        self.id("file").send_keys(os.path.abspath("wrong.json"))
        self.wait(lambda: "no conversation" in self.id("toast").text)
        self.assertEqual(len(self.all(".turn")), 4)

    def test_a_tab_that_is_left_keeps_what_another_one_saved(self):
        self.settings(max_tokens=4)
        time.sleep(0.4)
        first = self.d.current_window_handle
        self.d.switch_to.new_window("tab")
        try:
            self.screen(1280, 860)
            self.d.get(REAL)
            self.wait(self.ready)
            self.settings(seed=7)
            self.ask("Name a lake.")
            self.saved()
            self.d.switch_to.window(first)
            self.d.get(f"{REAL}/favicon.svg")
            saved = self.saved()
            self.assertEqual([t.get("text") for t in saved["turns"]], ["Name a lake.", None])
            self.assertEqual(saved["sampling"], {"max_tokens": 4, "seed": 7})
        finally:
            for tab in self.d.window_handles:
                if tab != first:
                    self.d.switch_to.window(tab)
                    self.d.close()
            self.d.switch_to.window(first)

    def test_what_has_just_been_typed_or_is_still_running_survives_a_reload(self):
        self.settings(max_tokens=2000)
        self.ask("Count to ten thousand.", wait=False)
        self.wait(lambda: len(self.all(".running .t")) >= 3)
        self.id("input").send_keys("And then")
        self.d.refresh()
        self.wait(self.ready)
        self.assertEqual(self.id("input").get_property("value"), "And then")
        self.assertGreaterEqual(len(self.all(".t")), 3)

    def test_answers_without_text_are_not_sent(self):
        self.bring([asked("One?"), said(""), asked("Two?"), said("Yes.")])
        self.settings(max_tokens=4)
        self.d.execute_script("""
            const real = window.fetch;
            window.fetch = (path, options) => {
                window.sent = options?.body ? JSON.parse(options.body) : null;
                return real(path, options);
            };""")
        self.ask("Three?")
        messages = self.d.execute_script("return window.sent.messages")
        self.assertEqual([(m["role"], m["content"]) for m in messages],
                         [("user", "One?"), ("user", "Two?"), ("assistant", "Yes."), ("user", "Three?")])

    def test_import_can_be_taken_back(self):
        bubbles = lambda: [e.text for e in self.all(".bubble")]
        self.settings(max_tokens=2000, seed=5)
        self.ask("One?", wait=False)
        self.wait(lambda: len(self.all(".running .t")) >= 3)
        with open("wrong.json", "w", encoding="utf-8") as f:
            f.write("{")
        self.id("file").send_keys(os.path.abspath("wrong.json"))
        self.wait(lambda: "no JSON" in self.id("toast").text)
        self.assertTrue(self.busy(), "a file that cannot be read stops nothing")
        self.bring([asked("Two?"), said("Yes.")], sampling={"seed": 6}, weights={"one": 1.5}, system="Be brief.")
        self.ended()
        self.assertEqual(self.saved()["sampling"], {"seed": 6})
        self.assertEqual(float(self.slider("one").get_property("value")), 1.5)
        self.one("#toast button").click()
        self.assertEqual(bubbles(), ["One?"])
        self.assertIn("stopped", self.one(".stats").text)
        self.assertEqual(self.id("set-seed").get_property("value"), "5")
        self.assertEqual(float(self.slider("one").get_property("value")), 0)
        saved = self.saved()
        self.assertEqual((saved["sampling"], saved["system"]), ({"max_tokens": 2000, "seed": 5}, ""))
        self.assertEqual(saved["turns"][0]["text"], "One?")

    def test_question_without_an_answer_is_left_out_of_a_file(self):
        with open("odd.json", "w", encoding="utf-8") as f:
            turns = [said("Hello."), asked("One?"), {**said(""), "variants": []}, asked("Two?"), said("Yes."), asked("Three?")]
            json.dump({"format": "genarm conversation", "version": 1, "turns": turns}, f)
        self.id("file").send_keys(os.path.abspath("odd.json"))
        self.wait(lambda: self.all(".turn"))
        self.assertEqual([e.text for e in self.all(".bubble")], ["Two?"])
        self.settings(max_tokens=4)
        self.press(Keys.ALT, "r")
        self.ended()
        self.assertEqual(self.one(".pager span").text, "2/2")

    def test_text_in_an_open_editor_stays_until_another_conversation(self):
        self.bring([asked("One?"), said("Two.")])
        self.settings(max_tokens=4)
        self.one(".edit").click()
        self.press(Keys.END)
        self.press("!")
        self.press(Keys.ALT, "r")
        self.ended()
        self.assertEqual(self.id("edit").get_property("value"), "One?!")
        self.assertEqual(self.d.switch_to.active_element, self.id("edit"))
        self.one(".pager button").click()
        self.assertEqual(self.id("edit").get_property("value"), "One?!")
        self.bring([asked("Three?"), said("Four.")])
        self.assertEqual(self.all("#edit"), [])

    def test_edited_message_replaces_what_followed(self):
        self.settings(max_tokens=8)
        self.ask("One?")
        self.ask("Two?")
        self.all(".edit")[0].click()
        self.press(Keys.CONTROL, "a")
        self.d.switch_to.active_element.send_keys("Three?", Keys.ENTER)
        self.ended()
        self.assertEqual([t.get("text") for t in self.saved()["turns"]], ["Three?", None])

    def test_markup_of_anybody_is_text(self):
        self.assertIn(NAME, [e.text for e in self.all("#arms .name span")])
        # The model says it, because a grammar lets it say nothing else.
        self.d.execute_script("""
            const real = window.fetch;
            window.fetch = (path, options) => real(path, options?.body && path.includes('chat')
                ? {...options, body: JSON.stringify({...JSON.parse(options.body), grammar: arguments[0]})} : options);
            """.replace("arguments[0]", json.dumps('root ::= ' + json.dumps(MARKUP, ensure_ascii=False))))
        self.ask(MARKUP)
        self.assertEqual(self.answers()[0]["text"], MARKUP)
        self.assertEqual(self.one(".tokens").get_property("textContent"), MARKUP)
        self.assertEqual(self.one(".bubble").text, MARKUP)
        self.assertGreater(len(self.all(".t[data-part]")), 0)  # tokens that end within a character
        self.all(".t")[1].click()
        self.assertTrue(self.id("pop").is_displayed())
        self.press(Keys.ESCAPE)
        self.press(Keys.ALT, "c")
        self.assertEqual(self.one(".plain").text, MARKUP.replace("**", ""))
        self.press(Keys.ALT, "p")
        self.assertIn(NAME, self.one("#plane-square").text)
        self.assertEqual(self.all("main img, main script, aside img"), [])

    def test_markdown_of_any_depth_is_shown(self):
        deep = [mark * 3000 + "the end" for mark in ("- ", "1. ", ">", "> ", "> - ")]
        self.bring([turn for text in deep for turn in (asked("?"), said(text))])
        for _ in range(2):
            shown = self.all(".plain")
            self.assertEqual(len(shown), len(deep))
            self.assertTrue(all(e.get_property("textContent").endswith("the end") for e in shown))
            self.assertLessEqual(len(self.all(".plain li, .plain blockquote")), 10 * len(deep))
            self.d.refresh()
            self.wait(self.ready)

    def test_rules_of_markdown_are_no_lists(self):
        self.bring([asked("?"), said("One\n\n* * *\n- two\n- - -\n- three\n\n---\n _ _ _\n- - four\n* *")])
        self.assertEqual([e.tag_name for e in self.all(".plain > *")], ["p", "hr", "ul", "hr", "ul", "hr", "hr", "ul"])

    def test_errors_of_the_server_are_shown_at_the_answer(self):
        self.expected_errors = (r"status of 400",)
        self.settings(max_tokens=8)
        self.d.execute_script("arguments[0].value = 'word '.repeat(5000)", self.id("input"))
        self.ask("!")
        self.assertEqual(self.answers()[0]["finish"], "error")
        self.assertIn("context", self.one(".error").text)
        self.id("set-top_p").send_keys("7")
        self.assertEqual(self.id("set-top_p").get_attribute("aria-invalid"), "true")
        self.assertEqual(self.saved()["sampling"], {"max_tokens": 8})


    def test_server_that_goes_away_is_found_again(self):
        self.expected_errors = ("ERR_", "status of 503")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        serve = lambda: subprocess.Popen([*shlex.split(os.environ["PAGE_SERVE"]), "--port", str(port)], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server = serve()
        try:
            self.wait(lambda: answers(port))
            self.open(f"http://127.0.0.1:{port}")
            self.ask("Tell me a long story about a river.", wait=False)
            self.wait(lambda: len(self.all(".running .t")) >= 3)
            server.kill()
            server.wait()
            self.ended()
            self.assertIn("connection was lost", self.one(".error").text)
            self.wait(lambda: "cannot be reached" in self.id("banner").text)
            self.assertFalse(self.id("send").is_enabled())
            server = serve()
            self.wait(self.ready)
            self.assertFalse(self.id("banner").is_displayed())
            self.settings(max_tokens=4)
            self.press(Keys.ALT, "r")
            self.ended()
            self.assertEqual(self.answers()[0]["finish"], "length")
        finally:
            server.kill()
            server.wait()

    def test_files_of_the_page_are_sent_once(self):
        for path in ("/", "/app.js", "/style.css", "/favicon.svg"):
            with urllib.request.urlopen(REAL + path) as reply:
                tag = reply.headers["ETag"]
                self.assertGreater(len(reply.read()), 100)
            with self.assertRaises(urllib.error.HTTPError) as again:
                urllib.request.urlopen(urllib.request.Request(REAL + path, headers={"If-None-Match": f'"other", W/{tag}'}))
            self.assertEqual(again.exception.code, 304)
            with urllib.request.urlopen(urllib.request.Request(REAL + path, headers={"If-None-Match": tag[:-2] + '"'})) as reply:
                self.assertEqual(reply.status, 200)


class Plane(PageTest):
    def test_points_of_the_plane_are_answers(self):
        self.id("input").send_keys("Name a colour.")
        self.press(Keys.ALT, "p")
        self.assertEqual(self.id("plane-prompt").get_property("value"), "Name a colour.")
        limit = self.id("plane-limit")
        limit.clear()
        limit.send_keys("8")
        square = self.id("plane-square")
        ActionChains(self.d).move_to_element(square).click().perform()
        self.wait(lambda: len(self.all("#cards .card")) == 1)
        self.d.execute_script("arguments[0].focus()", square)
        self.press(Keys.ARROW_RIGHT)
        self.press(Keys.ARROW_UP)
        self.press(Keys.SHIFT, Keys.ARROW_UP)
        self.press(Keys.ENTER)
        self.wait(lambda: len(self.all("#cards .card")) == 2 and not self.all("#plane .pending, #cards .running"))
        first, second = (e.text for e in reversed(self.all("#cards .weights")))
        number = lambda text, name: float(re.search(re.escape(name) + r" (\S+)", text)[1].replace("\u2212", "-"))
        self.assertAlmostEqual(number(second, "one"), number(first, "one") + 0.1, places=2)
        self.assertAlmostEqual(number(second, NAME), number(first, NAME) + 0.11, places=2)
        self.assertEqual(len(self.all("#plane-square .dot")), 2)
        self.assertEqual(len(self.all("#plane-outcomes .dot")), 2)
        self.id("plane-sweep").click()
        self.wait(lambda: len(self.all("#plane-square .dot")) == 11 and not self.all("#plane .pending, #cards .running"))
        steps = [int(e.get_attribute("data-step")) for e in self.all("#plane-square .dot")]
        self.assertEqual((min(steps), max(steps)), (-4, 4))
        self.assertTrue(all(e.text for e in self.all("#cards .tokens")))
        # A point that is there is shown, not asked again.
        dot = self.all("#plane-square .dot")[0]
        ActionChains(self.d).move_to_element(dot).click().perform()
        self.assertEqual(len(self.all("#plane-square .dot")), 11)
        self.assertEqual(self.one("#cards .selected .weights").text, first)
        self.one("#cards .selected .actions button").click()
        self.assertAlmostEqual(float(self.slider("one").get_property("value")), number(first, "one"), places=2)


    def test_export_tells_what_the_points_were_computed_for(self):
        self.bring([asked("One?"), said("Two.")], system="Be brief.")
        self.id("input").send_keys("Name a colour.")
        self.press(Keys.ALT, "p")
        self.assertEqual(self.id("plane-before").text, "after the 2 earlier messages of the chat")
        limit = self.id("plane-limit")
        limit.clear()
        limit.send_keys("4")
        ActionChains(self.d).move_to_element(self.id("plane-square")).click().perform()
        self.wait(lambda: self.all("#cards .card") and not self.all("#plane .pending, #cards .running"))
        self.id("plane-prompt").send_keys(" And another one.")
        self.id("plane-export").click()
        self.wait(lambda: os.path.exists("genarm-plane.json"))
        with open("genarm-plane.json", encoding="utf-8") as f:
            exported = json.load(f)
        self.assertEqual([(m["role"], m["content"]) for m in exported["messages"]],
                         [("system", "Be brief."), ("user", "One?"), ("assistant", "Two."), ("user", "Name a colour.")])
        self.assertEqual(len(exported["points"]), 1)

    def test_prompt_written_on_the_plane_stays(self):
        shown = lambda: (self.id("plane-prompt").get_property("value"), self.id("plane-before").text)
        after = "after the 2 earlier messages of the chat"
        def by_way_of_the_chat(draft):
            self.press(Keys.ALT, "p")
            self.id("input").clear()
            self.id("input").send_keys(draft)
            self.press(Keys.ALT, "p")
        self.bring([asked("One?"), said("Two.")])
        self.press(Keys.ALT, "p")
        self.assertEqual(shown(), ("One?", ""))
        by_way_of_the_chat("Three?")
        self.assertEqual(shown(), ("Three?", after))
        self.id("plane-prompt").send_keys(" Or four?")
        by_way_of_the_chat("Five?")
        self.assertEqual(shown(), ("Three? Or four?", after))
        self.press(Keys.ALT, "n")
        self.press(Keys.ALT, "p")
        self.assertEqual(shown(), ("Three? Or four?", ""))
        self.id("plane-prompt").clear()
        by_way_of_the_chat("Six?")
        self.assertEqual(shown()[0], "Six?")

    def test_plane_leaves_connections_for_the_chat_and_its_weights(self):
        self.before_the_page("""
            const real = window.fetch;
            window.fetch = async (path, options) => {
                const reply = await real(path, options);
                return path === 'props' ? Response.json({...await reply.json(), total_slots: 8}) : reply;
            };""")
        self.open(REAL)
        self.assertIn("8 slots", self.id("about").text)
        self.press(Keys.ALT, "p")
        self.id("plane-prompt").send_keys("Tell me a long story about a river.")
        self.id("plane-sweep").click()
        self.assertEqual(len(self.all("#cards .running")), 3)
        self.press(Keys.ESCAPE)
        self.wait(lambda: not self.all("#cards .running"))

class Tiny(PageTest):
    expected_errors = (r"status of 401",)

    def setUp(self):
        self.screen(1280, 860)
        self.open(TINY, ready=False)

    def key(self, text):
        self.wait(lambda: self.id("key-dialog").is_displayed())
        self.id("key").clear()
        self.id("key").send_keys(text, Keys.ENTER)

    def test_key_is_asked_for_until_it_fits(self):
        self.wait(lambda: self.id("key-dialog").is_displayed())
        self.id("key-cancel").click()
        self.wait(lambda: self.all("#banner button"))[0].click()
        self.key("wrong")
        time.sleep(0.3)
        self.key("open-sesame")
        self.wait(self.ready)
        self.assertEqual(self.d.execute_script("return JSON.stringify(localStorage)").count("sesame"), 0)
        self.d.refresh()
        self.wait(self.ready)
        self.settings(max_tokens=4)
        self.ask("Hi")
        self.assertEqual(self.answers()[0]["error"], "")

    def test_without_storage_the_page_works_as_long_as_it_is_open(self):
        self.before_the_page("""
            for (const name of ['localStorage', 'sessionStorage']) {
                Object.defineProperty(window, name, {get() { throw new DOMException('denied', 'SecurityError'); }});
            }""")
        self.d.get(TINY)
        self.key("open-sesame")
        self.wait(self.ready)
        theme = self.d.execute_script("return document.documentElement.dataset.theme ?? null")
        self.id("theme").click()
        self.assertNotEqual(self.d.execute_script("return document.documentElement.dataset.theme"), theme)
        self.settings(max_tokens=4)
        self.ask("Hi")
        self.assertFalse(self.one(".error").is_displayed())
        self.assertIn("4 tokens", self.one(".stats").text)

    def test_what_another_server_or_file_left_makes_no_request_fail(self):
        stale = {"preferences": {"both": {"praise": 0.5, "brevity": 0.5, "blame": -1}}, "weights": {"both": 5000},
                 "sampling": {"foo": 1, "n": 3, "min_p": 1, "top_k": 1.5, "temperature": 0.5, "max_tokens": 4}}
        self.key("open-sesame")
        self.wait(self.ready)
        self.d.execute_script("addEventListener('pagehide', () => localStorage.setItem('genarm.page', arguments[0]))"
                              .replace("arguments[0]", json.dumps(json.dumps(stale))))
        self.d.refresh()
        self.wait(self.ready)
        self.ask("Hi")
        answer = self.answers()[0]
        self.assertEqual(answer["error"], "")
        self.assertEqual(answer["sampling"], {"temperature": 0.5, "max_tokens": 4})
        self.assertEqual(answer["preferences"], {"both": {"praise": 0.5, "blame": 0}})
        self.id("set-min_p").send_keys("1")
        self.assertEqual(self.id("set-min_p").get_attribute("aria-invalid"), "true")
        with open("stale.json", "w", encoding="utf-8") as f:
            json.dump({"format": "genarm conversation", "version": 1, **stale, "turns": []}, f)
        self.id("file").send_keys(os.path.abspath("stale.json"))
        self.wait(lambda: not self.all(".turn"))
        self.ask("Hi")
        self.assertEqual(self.answers()[0]["error"], "")

    def test_preference_among_objectives_changes_the_answer(self):
        self.key("open-sesame")
        self.wait(self.ready)
        self.settings(max_tokens=24, temperature=0)
        self.drag(self.slider("both"), 0.75)
        said = {}
        for name, other in (("praise", "blame"), ("blame", "praise")):
            for one, key in ((name, Keys.END), (other, Keys.HOME)):
                self.one(f'#arms input[type=range][aria-label="both: {one}"]').send_keys(key)
            self.press(Keys.ALT, "m")
            if said:
                self.press(Keys.ALT, "r")
                self.ended()
            else:
                self.ask("3: what about music?")
            answer = self.answers()[0]
            self.assertEqual(answer["preferences"], {"both": {name: 1, other: 0}})
            said[name] = answer["text"]
        self.assertNotEqual(said["praise"], said["blame"])


class Looks(PageTest):
    def overflow(self):
        return self.d.execute_script("return document.scrollingElement.scrollWidth - innerWidth")

    def test_narrow_screens_scroll_one_way(self):
        self.screen(360, 700)
        self.d.refresh()
        self.wait(self.ready)
        self.assertFalse(self.id("panel").is_displayed())
        self.ask("Hello " + "long" * 40, wait=False)
        self.wait(lambda: len(self.all(".t")) >= 3)
        self.assertLessEqual(self.overflow(), 0)
        self.press(Keys.ESCAPE)
        self.ended()
        self.all(".t")[1].click()
        self.assertTrue(self.id("pop").is_displayed())
        box = self.id("pop").rect
        self.assertTrue(box["x"] >= 0 and box["x"] + box["width"] <= 360, box)
        self.press(Keys.ESCAPE)
        self.id("toggle-panel").click()
        self.assertTrue(self.slider("one").is_displayed())
        self.assertLessEqual(self.overflow(), 0)
        self.assertTrue(self.id("input").is_displayed())
        self.id("to-plane").click()
        self.assertLessEqual(self.overflow(), 0)

    def test_theme_is_switched_and_kept(self):
        paper = lambda: self.d.execute_script("return getComputedStyle(document.body).backgroundColor")
        light = paper()
        self.id("theme").click()
        dark = paper()
        self.assertNotEqual(light, dark)
        self.d.refresh()
        self.assertEqual(paper(), dark)

    def test_nothing_keeps_people_out(self):
        with open(AXE, encoding="utf-8") as f:
            axe = f.read()
        self.settings(max_tokens=20, temperature=0)
        self.press(Keys.ALT, "b")
        self.ask("Tell me a long story about a river.")
        self.all(".t")[2].click()
        for theme in ("as it is", "switched"):
            for view in ("chat", "plane", "keyboard"):
                self.d.execute_script(axe)
                found = self.d.execute_async_script(
                    "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then((r) => done(r.violations))")
                self.assertEqual([(v["id"], v["nodes"][0]["html"]) for v in found], [], f"{view}, theme {theme}")
                if view == "chat":
                    self.press(Keys.ALT, "p")
                elif view == "plane":
                    self.press(Keys.ALT, "k")
            self.press(Keys.ESCAPE)
            self.press(Keys.ALT, "p")
            self.id("theme").click()


if __name__ == "__main__":
    unittest.main(verbosity=2)
