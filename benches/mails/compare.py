"""Measures how much of the author's own words a program takes from the mails of `threads.py`, and of other people's.

    make bench-mails
    python benches/mails/compare.py mails.jsonl --program ours=target/release/cope-llama --peers

For each tool: precision and recall of own words by token, the share of mails whose own words are exactly right, over all
mails and as the mean of the languages, and the ordinary mails that lost a word. Words are compared without their blanks. The
peers read the plain text, or an HTML part made plain by html5lib's tree; talon reads HTML itself.
"""

import argparse
import collections
import email
import email.policy
import json
import os
import pathlib
import re
import subprocess
import tempfile

TOKEN = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]|\w+")


def tokens(text):
    return TOKEN.findall(text)


def run(program, mail, home, seconds=60):
    """What `user import` of a program takes from a mail."""
    path = pathlib.Path(home) / "mail.mbox"
    path.write_bytes(b"From tom@berg.example Tue Mar  3 10:00:00 2026\n" + mail + b"\n")
    env = {**os.environ, "COPE_HOME": f"{home}/home"}
    command = [program, "user", "import", "tom", str(path), "--author", "tom@berg.example"]
    history = pathlib.Path(home) / "home/users/tom/history.jsonl"
    history.unlink(missing_ok=True)
    subprocess.run(command, env=env, capture_output=True, timeout=seconds)
    if not history.exists():
        return ""
    lines = history.read_text().splitlines()
    return "\n".join(json.loads(line)["messages"][-1]["content"] for line in lines)


def parts(mail):
    """The plain and the HTML text of a mail; either may be None."""
    message = email.message_from_bytes(mail, policy=email.policy.default)
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    return text and text.get_content(), html and html.get_content()


def html_text(html):
    """HTML as text: a line for each block."""
    html = re.sub(r"(?is)<(head|style|script).*?</\1>", "", html)
    html = re.sub(r"(?i)<br\s*/?>|</(p|div|li|tr|blockquote|pre|h\d)>|<(p|div|blockquote|pre|tr|li)\b[^>]*>", "\n", html)
    import html as entities

    text = entities.unescape(re.sub(r"<[^>]+>", "", html)).replace("\u00a0", " ")
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def peers():
    import quotequail
    import talon
    from email_reply_parser import EmailReplyParser
    from mailparser_reply import EmailReplyParser as ReplyParser
    from talon import quotations

    talon.init()
    languages = ["en", "cs", "da", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "sv", "zh"]

    def quail(text):
        found = quotequail.unwrap(text)
        return (found.get("text_top") or "") + "\n" + (found.get("text_bottom") or "") if found else text

    plain = lambda cut: lambda text, html: cut(text if text is not None else html_text(html))

    def with_talon(text, html):
        return quotations.extract_from_plain(text) if text is not None else html_text(quotations.extract_from_html(html))

    return {
        "mail-parser-reply": plain(lambda text: ReplyParser(languages=languages).parse_reply(text=text) or ""),
        "talon": with_talon,
        "quotequail": plain(quail),
        "email-reply-parser": plain(EmailReplyParser.parse_reply),
    }


class Score:
    def __init__(self):
        self.own = self.taken = self.both = self.shortened = self.ordinary = 0
        self.right = collections.defaultdict(list)
        self.wrong = []

    def add(self, mail, text):
        own, taken = (collections.Counter(tokens(text)) for text in (mail["own"], text))
        self.own += own.total()
        self.taken += taken.total()
        self.both += (own & taken).total()
        is_right = tokens(mail["own"]) == tokens(text)
        self.right[mail["lang"]].append(is_right)
        if mail["style"] == "none":
            self.ordinary += 1
            self.shortened += bool(own - taken)
        if not is_right:
            self.wrong.append((mail, text))

    def row(self, name):
        exact = [sum(right) / len(right) for right in self.right.values()]
        every = sum(map(sum, self.right.values())) / sum(map(len, self.right.values()))
        return (f"| {name} | {self.both / max(self.taken, 1):.4f} | {self.both / self.own:.4f} | {every:.3f} | "
                f"{sum(exact) / len(exact):.3f} | {min(exact):.3f} | {self.shortened} of {self.ordinary} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mails", type=pathlib.Path)
    parser.add_argument("--program", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--show", type=int, default=0, help="print so many mails that were cut wrong, of each program")
    args = parser.parse_args()
    mails = [json.loads(line) for line in args.mails.read_text().splitlines()]
    print("| | precision | recall | exactly right | mean of languages | worst language | ordinary mails shortened |")
    print("|---|---|---|---|---|---|---|")
    for name, path in (program.split("=", 1) for program in args.program):
        score = Score()
        with tempfile.TemporaryDirectory() as home:
            for mail in mails:
                score.add(mail, run(path, mail["mail"].encode("latin-1"), home))
        print(score.row(name), flush=True)
        for mail, text in score.wrong[: args.show]:
            print(f"\n=== {mail['id']} {mail['lang']} {mail['program']} {mail['style']} {mail['mode']}\n--- own\n{mail['own']}\n--- taken\n{text}\n")
    for name, cut in (peers() if args.peers else {}).items():
        score = Score()
        for mail in mails:
            try:
                text = cut(*parts(mail["mail"].encode("latin-1")))
            except Exception:
                # A mail that ends a peer by an error is one of which it takes nothing.
                text = ""
            score.add(mail, text or "")
        print(score.row(name), flush=True)


if __name__ == "__main__":
    main()
