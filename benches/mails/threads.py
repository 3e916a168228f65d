"""Prints invented mails in the manner of ten and more mail programs, with the author's own words of each.

    python benches/mails/threads.py --count 1000 --seed 1 > mails.jsonl

Needs the package `babel`. A line is {"id", "lang", "program", "style", "mail", "own"}: `mail` has a character from U+0000 to
U+00FF for each byte, and `own` is what Tom Berg wrote himself. Styles are top, inline and bottom posting, forward, and none
for mails that quote nothing.
"""

import argparse
import datetime
import email.header
import email.message
import email.policy
import json
import random

import clients
import texts
from clients import escaped, filled, headers, html_headers, quoted, wrapped

CHARSETS = {
    "ja": ["iso-2022-jp", "shift_jis", "euc-jp"], "zh": ["gb2312", "gb18030"], "ko": ["euc-kr"], "ru": ["koi8-r", "windows-1251"],
    "uk": ["koi8-u", "windows-1251"], "pl": ["iso-8859-2"], "cs": ["iso-8859-2", "windows-1250"], "hu": ["iso-8859-2"],
    "tr": ["iso-8859-9"],
}
RULES = ["_" * 32, "_" * 32, "-" * 32]


class Reply:
    """What a person answers, before a program makes a mail of it."""

    def __init__(self, rng, lang, style):
        self.rng, self.lang, self.style = rng, lang, style
        # The program may speak another language than its user.
        self.program_lang = lang if rng.random() < 0.8 else rng.choice(["en", "de", "fr", "es"])
        greeting, sentences, closing = texts.TEXTS[lang]
        pool = [self.fill(sentence) for sentence in sentences[:8]]
        rng.shuffle(pool)
        traps = [self.fill(sentence) for sentence in sentences[8:]]
        n_own = rng.randint(1, 3)
        own = pool[:n_own]
        if rng.random() < (0.5 if style == "none" else 0.15):
            own.insert(rng.randint(0, len(own)), rng.choice(traps))
        self.theirs = pool[n_own : n_own + rng.randint(1, 3)]
        self.older = pool[n_own + 3 : n_own + 4] if rng.random() < 0.4 else []
        name = rng.choice(texts.NAMES.get(lang, texts.LATIN_NAMES) + ["n.lind@lind.example"])
        self.name = f'"{name}"' if "," in name and rng.random() < 0.5 else name
        self.address = rng.choice(["nora.lind@lind.example", "n@lind.example", "very.long.address-of-nora+roofs@mail.department.lind.example"])
        self.when = datetime.datetime(2026 - rng.randint(0, 6), rng.randint(1, 12), rng.randint(1, 28), rng.randint(0, 23), rng.randint(0, 59))
        self.subject = self.theirs[0][:24].strip()
        shown = rng.choice([None, None, f"{self.name} [mailto:{self.address}]", f"{self.name} via Roofs <roofs@lists.example>"])
        self.message = {"name": self.name, "address": self.address, "when": self.when, "subject": self.subject, "shown": shown}
        self.sequence = self.order(own, greeting.replace("{name}", name.split()[0]), closing)
        self.signature = rng.choice(texts.SIGNATURES) if rng.random() < 0.4 else ""
        self.disclaimer = texts.DISCLAIMERS.get(lang, "") if rng.random() < 0.15 else ""

    def fill(self, sentence):
        while "{n}" in sentence:
            sentence = sentence.replace("{n}", str(self.rng.randint(2, 59)), 1)
        return sentence.replace("{name}", self.rng.choice(["Ida", "Max", "Lea"]))

    def order(self, own, greeting, closing):
        """Own paragraphs and quoted ones, in the order of the posting style."""
        begin = [greeting] if self.rng.random() < 0.6 else []
        end = [f"{closing}\nTom"] if self.rng.random() < 0.6 else []
        if self.style in ("none", "top", "forward"):
            own = [("own", begin + own + end)]
            return own if self.style == "none" else own + [("quote", self.theirs)]
        if self.style == "bottom":
            return [("quote", self.theirs), ("own", begin + own + end)]
        sequence = [("own", begin)] if begin else []
        for i, paragraph in enumerate(self.theirs):
            sequence.append(("quote", [paragraph]))
            if self.lang == "en" and i + 1 < len(self.theirs) and self.rng.random() < 0.3:
                sequence.append(("own", [self.rng.choice(["And about this:", "You also say:", "But when, for heaven's sake:"])]))
                continue
            answer = own[i : i + 1] if i + 1 < len(self.theirs) else own[i:]
            answer += end if i + 1 == len(self.theirs) else []
            if answer:
                sequence.append(("own", answer))
        if not any(kind == "own" and paragraphs for kind, paragraphs in sequence[1:]):
            sequence.append(("own", own))
        return sequence

    @property
    def own(self):
        return [paragraph for kind, paragraphs in self.sequence if kind == "own" for paragraph in paragraphs]

    def attribution(self, patterns):
        lang = self.program_lang if self.program_lang in patterns else "en"
        return filled(lang, patterns[lang], self.when, self.name, self.address)

    def nested(self, line):
        """The older mail that the quoted one quotes, as the same program or Outlook shows it."""
        if not self.older:
            return []
        if self.rng.random() < 0.3:
            return ["\n".join(["_" * 32] + headers(self.program_lang, self.message)), *self.older]
        return ["\n".join([line, ">"] + quoted(self.older))]


def plain(reply, attribution, width=0, mark="> ", empty=">", gap=1, own_end=(), attribution_inside=False):
    """A plain text whose quotations have marks. `own_end` is what a program adds below the own text."""
    fold = (lambda paragraphs: wrapped(paragraphs, width)) if width else list
    parts, is_quoted = [], False
    sequence = list(reply.sequence)
    for i, (kind, paragraphs) in enumerate(sequence):
        if kind == "own":
            text = "\n\n".join(fold(paragraphs))
            is_last_own = not any(kind == "own" for kind, _ in sequence[i + 1 :])
            parts.append("\n\n".join([text, *own_end]) if is_last_own and own_end else text)
            continue
        is_last_quote = not any(kind == "quote" for kind, _ in sequence[i + 1 :])
        theirs = fold(paragraphs) + (reply.nested(clients.broken(attribution)) if is_last_quote else [])
        lines = quoted(theirs, mark, empty)
        if not is_quoted and attribution_inside:
            lines = [mark + attribution, empty or mark, *lines]
        elif not is_quoted:
            lines = [attribution + "\n" * gap, *lines] if gap else [attribution, *lines]
        is_quoted = True
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def own_html(paragraphs, kind):
    lines = "\n\n".join(paragraphs).split("\n")
    if kind == "word":
        return "".join(f"<p class=MsoNormal>{escaped(line) or '<o:p>&nbsp;</o:p>'}<o:p></o:p></p>\n" for line in lines)
    if kind == "p":
        return "".join(f"<p>{escaped(paragraph)}</p>\n" for paragraph in paragraphs)
    if kind == "br":
        return "<br>\n<br>\n".join(escaped(paragraph) for paragraph in paragraphs)
    return "".join(f"<div>{escaped(line) or '<br>'}</div>" for line in lines)


def html(reply, kind, attribution, quote, own_end=""):
    """An HTML text. `attribution` stands above the first quotation, `quote` makes one."""
    parts, is_quoted = [], False
    for i, (what, paragraphs) in enumerate(reply.sequence):
        if what == "own":
            is_last = not any(what == "own" for what, _ in reply.sequence[i + 1 :])
            parts.append(own_html(paragraphs, kind) + (own_end if is_last else ""))
        else:
            inner = own_html(paragraphs, kind)
            if not any(what == "quote" for what, _ in reply.sequence[i + 1 :]) and reply.older:
                inner += f"<div>{escaped(reply.name)}:</div><blockquote>{own_html(reply.older, kind)}</blockquote>"
            parts.append(quote(inner, "" if is_quoted else attribution))
            is_quoted = True
    return "<html><head><title>x</title></head><body>" + "\n".join(parts) + "</body></html>"


def dashed(reply):
    # Some servers take the blanks from the ends of lines.
    delimiter = "--" if reply.rng.random() < 0.3 and reply.signature != "Tom" else "-- "
    end = [f"{delimiter}\n{reply.signature}"] if reply.signature else []
    return end + ([reply.disclaimer] if reply.disclaimer else [])


def gmail(reply):
    abroad = reply.rng.choice(list(clients.GMAIL_ABROAD))
    line = reply.attribution(clients.GMAIL)
    if reply.rng.random() < 0.2:
        line = filled(abroad, clients.GMAIL_ABROAD[abroad], reply.when, reply.name, reply.address)
    text = plain(reply, clients.broken(line), reply.rng.choice([0, 72, 76]), gap=reply.rng.choice([0, 1]), own_end=dashed(reply))
    sign = f'<div><br></div>-- <br><div dir="ltr" class="gmail_signature">{escaped(reply.signature)}</div>' if reply.signature else ""
    sign += f"<p>{reply.disclaimer}</p>" if reply.disclaimer else ""
    quote = lambda inner, attribution: (
        f'<br><div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">{escaped(line)}<br></div>'
        f'<blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex;border-left:1px solid rgb(204,204,204);padding-left:1ex">{inner}</blockquote></div>'
        if attribution else f'<blockquote class="gmail_quote" style="margin:0 0 0 .8ex">{inner}</blockquote>')
    return text, html(reply, "div", line, quote, sign)


def apple(reply):
    line = reply.attribution(clients.APPLE)
    is_phone = reply.rng.random() < 0.5
    phone = clients.PHONE.get(reply.program_lang, "") if is_phone else ""
    phone = phone.replace("iPhone", reply.rng.choice(["iPhone", "iPhone", "iPad"]))
    end = [phone] if phone else dashed(reply)
    text = plain(reply, line, mark="> ", empty="> ", own_end=end, attribution_inside=True)
    sign = f'<br id="lineBreakAtBeginningOfSignature"><div dir="ltr">{phone}</div>' if phone else ""
    quote = lambda inner, attribution: (
        f'<br><blockquote type="cite">{f"<div>{escaped(line)}</div><br class=Apple-interchange-newline>" if attribution else ""}<div>{inner}</div></blockquote>')
    return text, html(reply, "div", line, quote, sign)


def thunderbird(reply):
    line = reply.attribution(clients.THUNDERBIRD)
    text = plain(reply, line, 72, gap=0, own_end=dashed(reply))
    sign = f'<pre class="moz-signature" cols="72">-- \n{reply.signature}</pre>' if reply.signature else ""
    quote = lambda inner, attribution: (
        (f'<div class="moz-cite-prefix">{escaped(line)}<br></div>' if attribution else "") + f'<blockquote type="cite" cite="mid:x@lind.example">{inner}</blockquote>')
    return text, html(reply, reply.rng.choice(["p", "br"]), line, quote, sign)


def unmarked(reply, above):
    """A plain text that ends with the answered mail as it was."""
    own = "\n\n".join(reply.own)
    older = []
    if reply.older:
        older = ["\n".join(headers(reply.program_lang, reply.message)) + "\n\n" + "\n\n".join(reply.older)]
    return "\n\n".join([own, above, *reply.theirs, *older])


def outlook(reply):
    lang = reply.program_lang
    lines = headers(lang, reply.message, bold=reply.rng.random() < 0.2)
    if reply.rng.random() < 0.3:
        lines.insert(3, "Cc: Ida Holm <ida@holm.example>; Max Rot <max@rot.example>;\n\tLea Grün <lea@gruen.example>")
    lines = "\n".join(lines)
    rule = reply.rng.choice(["", "", f"-----{clients.ORIGINAL.get(lang, 'Original Message')}-----"])
    text = unmarked(reply, "\n" + (f"{rule}\n" if rule else "") + lines)
    quote = lambda inner, attribution: (
        '<div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm"><p class=MsoNormal>'
        f"{html_headers(lang, reply.message)}<o:p></o:p></p></div></div><p class=MsoNormal><o:p>&nbsp;</o:p></p>{inner}")
    return text, html(reply, "word", "", quote)


def outlook_web(reply):
    lang = reply.program_lang
    text = unmarked(reply, f"{reply.rng.choice(RULES)}\n" + "\n".join(headers(lang, reply.message)))
    quote = lambda inner, attribution: (
        '<div id="appendonsend"></div><hr style="display:inline-block;width:98%" tabindex="-1"><div id="divRplyFwdMsg" dir="ltr">'
        f'<font face="Calibri, sans-serif">{html_headers(lang, reply.message)}</font><div>&nbsp;</div></div>{inner}')
    sign = f'<div id="Signature"><div>{escaped(reply.signature)}</div></div>' if reply.signature else ""
    if reply.rng.random() < 0.3:
        phone = reply.rng.choice(clients.PHONES)
        text = text.replace("\n\n".join(reply.own), "\n\n".join([*reply.own, phone]), 1)
        sign = f'<div id="ms-outlook-mobile-signature">{escaped(phone)}</div>'
    return text, html(reply, "div", "", quote, sign)


def yahoo(reply):
    line = filled("en", "On [EEEE, MMMM d, y] at [hh:mm:ss a] GMT+1, NAME <ADDR> wrote:", reply.when, reply.name, reply.address)
    theirs = "\n\n".join(" " + paragraph for paragraph in reply.theirs)
    text = "\n\n".join(reply.own) + f"\n\n    {line}  \n \n{theirs}"
    quote = lambda inner, attribution: f'<div id="ydp1yahoo_quoted_1" class="ydp1yahoo_quoted yahoo_quoted"><div><div>{escaped(line)}</div><div><br></div><div>{inner}</div></div></div>'
    return text, html(reply, "div", line, quote)


def proton(reply):
    line = filled("en", "On [EEEE, MMMM d], [y] at [h:mm a], NAME <ADDR> wrote:", reply.when, reply.name, reply.address)
    text = plain(reply, line, gap=1, own_end=["Sent with Proton Mail secure email."] if reply.rng.random() < 0.3 else [])
    quote = lambda inner, attribution: (
        f'<div class="protonmail_quote">{escaped(line)}<br><blockquote class="protonmail_quote" type="cite">{inner}</blockquote></div>'
        if attribution else f'<blockquote class="protonmail_quote" type="cite">{inner}</blockquote>')
    return text, html(reply, "div", line, quote)


def gmx(reply):
    sent = filled("de", "[EEEE, d. MMMM y] um [HH:mm] Uhr", reply.when, "", "")
    lines = [f"Gesendet: {sent}", f'Von: {reply.name} <{reply.address}>', "An: tom@berg.example", f"Betreff: {reply.subject}"]
    text = unmarked(reply, "\n".join(lines))
    head = "<br>".join(f"<b>{escaped(line.split(':', 1)[0])}:</b>{escaped(line.split(':', 1)[1])}" for line in lines)
    quote = lambda inner, attribution: (
        '<div name="quote" style="margin:10px 5px 5px 10px; padding: 10px 0 10px 10px; border-left:2px solid #C3D9E5;">'
        f'<div style="margin:0 0 10px 0;">{head}</div><div name="quoted-content">{inner}</div></div>')
    return text, html(reply, "div", "", quote)


def k9(reply):
    day = filled("en", "[MMMM d, y h:mm:ss a] GMT+01:00", reply.when, "", "")
    lines = [f"From: {reply.name} <{reply.address}>", f"Sent: {day}", "To: Tom Berg <tom@berg.example>", f"Subject: {reply.subject}"]
    return unmarked(reply, "-------- Original Message --------\n" + "\n".join(lines)), None


def mutt(reply):
    line = filled("en", reply.rng.choice([
        "On [EEE, MMM dd, y] at [hh:mm:ssa] +0100, NAME wrote:", "On [EEE, y-MM-dd] at [HH:mm] +0100, NAME wrote:", "NAME <ADDR> writes:",
        "* NAME <ADDR> [y-MM-dd HH:mm]:"]), reply.when, reply.name, reply.address)
    mark = reply.rng.choice(["> ", ">", "> "])
    return plain(reply, line, 72, mark=mark, gap=0, own_end=dashed(reply)), None


def zoho(reply):
    line = filled("en", "---- On [EEE, dd MMM y HH:mm:ss] +0100 NAME <ADDR> wrote ----", reply.when, reply.name, reply.address)
    text = plain(reply, line, gap=1)
    quote = lambda inner, attribution: (
        (f'<div class="zmail_extra"><div>{escaped(line)}</div>' if attribution else "<div>") + f'<blockquote style="margin: 0px;">{inner}</blockquote></div>')
    return text, html(reply, "div", line, quote)


def gmail_old(reply):
    """Gmail of about 2015 to 2017: other lines, and no element of its own for them."""
    patterns = {"de": "NAME <ADDR> schrieb am [EEE, d. MMM y] um [HH:mm] Uhr:", "en": "[y-MM-dd HH:mm] GMT+01:00 NAME <ADDR>:",
                "nl": "Op [d MMM y HH:mm] schreef NAME <ADDR> het volgende geschreven:", "fr": "Le [d MMM y HH:mm], NAME <ADDR> a écrit :",
                "pt": "Em [d 'de' MMMM 'de' y HH:mm], NAME <ADDR> escreveu:", "ru": "[d MMMM y] г., [HH:mm] пользователь NAME <ADDR> написал:"}
    line = reply.attribution(patterns)
    text = plain(reply, clients.broken(line), 76, gap=reply.rng.choice([0, 1]))
    quote = lambda inner, attribution: (
        f'<div class="gmail_extra"><br><div class="gmail_quote">{escaped(line)}<br><blockquote class="gmail_quote" style="margin:0 0 0 .8ex">{inner}</blockquote></div></div>'
        if attribution else f'<blockquote class="gmail_quote">{inner}</blockquote>')
    return text, html(reply, "div", line, quote)


def outlook_mac(reply):
    """Outlook for Mac: a line, and below it the mail as it was."""
    patterns = {"en": "On [M/d/yy, h:mm a], NAME <ADDR> wrote:", "de": 'Am [dd.MM.yy, HH:mm] schrieb "NAME" <ADDR>:',
                "fr": "Le [dd/MM/y HH:mm], « NAME » <ADDR> a écrit :", "sv": 'Den [y-MM-dd HH:mm] skrev "NAME" <ADDR> följande:',
                "nb": "NAME <ADDR> skrev følgende den [dd.MM.y HH:mm]:", "hu": "[y. MM. dd. HH:mm] időpontban NAME <ADDR> ezt írta:",
                "ru": '[dd.MM.y, HH:mm] пользователь "NAME" <ADDR> написал:'}
    line = reply.attribution(patterns)
    text = unmarked(reply, line)
    quote = lambda inner, attribution: f'<span id="OLK_SRC_BODY_SECTION"><div>{escaped(line)}</div><div>{inner}</div></span>'
    return text, html(reply, "div", line, quote)


def mail_ru(reply):
    line = filled("ru", '[EEEE, d MMMM y, HH:mm] +03:00 от NAME <ADDR>:', reply.when, reply.name, reply.address)
    text = plain(reply, line, mark=">", empty=">", gap=reply.rng.choice([0, 1]))
    quote = lambda inner, attribution: (
        f'<blockquote style="border-left:1px solid #0857A6; margin:10px; padding:0 0 0 10px;">{escaped(line) + "<br>" if attribution else ""}{inner}</blockquote>')
    return text, html(reply, "div", line, quote)


def samsung(reply):
    day = filled("en", "[d/M/yy HH:mm] (GMT+01:00)", reply.when, "", "")
    head = f"-------- {reply.rng.choice(['Original message', 'Original message', 'Oprindelig besked'])} --------"
    lines = [f"From: {reply.name} <{reply.address}>", f"Date: {day}", "To: tom@berg.example", f"Subject: {reply.subject}"]
    phone = ["Sent from my Galaxy"] if reply.rng.random() < 0.5 else []
    return "\n\n".join(reply.own + phone + ["\n".join([head, *lines]), *reply.theirs]), None


def qq(reply):
    day = filled("zh", "[y年M月d日(EEEE) HH:mm]", reply.when, "", "")
    lines = [f'发件人: "{reply.name}" <{reply.address}>;', f"发送时间: {day}", '收件人: "Tom Berg"<tom@berg.example>;', f"主题: {reply.subject}"]
    return unmarked(reply, "\n".join(["------------------ 原始邮件 ------------------", *lines])), None


def forward(reply):
    lang = reply.program_lang
    lines = "\n".join(headers(lang, reply.message))
    theirs = "\n\n".join(reply.theirs)
    own = "\n\n".join(reply.own)
    program = reply.rng.choice(["gmail", "apple", "thunderbird", "outlook"])
    if program == "gmail":
        label = clients.LABELS[lang][0]
        day = filled(lang, "[EEE, d MMM y HH:mm]", reply.when, "", "")
        head = [f"---------- Forwarded message {'-' * reply.rng.choice([9, 10])}", f"{label}: {reply.name} <{reply.address}>", f"Date: {day}",
                f"Subject: {reply.subject}", "To: Tom Berg <tom@berg.example>"]
        web = (own_html(reply.own, "div") + '<br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">' + escaped("\n".join(head))
               + f"</div><br><br>{own_html(reply.theirs, 'div')}</div>")
        return "\n\n".join([own, "\n".join(head), "", theirs]), web
    if program == "apple":
        begin = clients.BEGIN.get(lang, clients.BEGIN["en"])
        web = own_html(reply.own, "div") + f'<br><blockquote type="cite"><div>{begin}</div><br>{html_headers(lang, reply.message)}<br><br>{own_html(reply.theirs, "div")}</blockquote>'
        mark = reply.rng.choice(["> ", ""])
        return own + "\n\n" + "\n".join((mark + line).rstrip() for line in f"{begin}\n\n{lines}\n\n{theirs}".split("\n")), web
    if program == "thunderbird":
        rule = f"-------- {clients.FORWARDED.get(lang, 'Forwarded Message')} --------"
        web = own_html(reply.own, "p") + f'<div class="moz-forward-container"><br><br>{rule}<table class="moz-email-headers-table"><tbody><tr><th>{html_headers(lang, reply.message)}</th></tr></tbody></table>{own_html(reply.theirs, "p")}</div>'
        return "\n\n".join([own, f"{rule}\n{lines}", theirs]), web
    return outlook(reply)


PROGRAMS = {"gmail": gmail, "apple": apple, "thunderbird": thunderbird, "outlook": outlook, "outlook-web": outlook_web, "yahoo": yahoo,
            "proton": proton, "gmx": gmx, "k9": k9, "mutt": mutt, "zoho": zoho, "gmail-old": gmail_old, "outlook-mac": outlook_mac,
            "mail.ru": mail_ru, "samsung": samsung, "qq": qq}
TOP_ALONE = ["outlook", "outlook-web", "yahoo", "gmx", "k9", "outlook-mac", "samsung", "qq"]


def ordinary(reply):
    """A mail that quotes nothing, perhaps with a rule or dashes within."""
    own = list(reply.own)
    if reply.rng.random() < 0.3:
        own.insert(1, reply.rng.choice(["----", "* * *", "1. a\n2. b", "From: Berlin\nTo: Hamburg", "Total:\n--\n12 + 30 = 42", "==> x"]))
    reply.sequence = [("own", own)]
    return "\n\n".join(own), own_html(own, reply.rng.choice(["div", "p", "br", "word"]))


def tight(rng, text):
    """A plain text without some of the empty lines around quotations."""
    lines = text.split("\n")
    kept = []
    for i, line in enumerate(lines):
        before, after = lines[i - 1 : i], lines[i + 1 : i + 2]
        is_edge = not line and before and after and (before[0].startswith(">") != after[0].startswith(">"))
        if not (is_edge and rng.random() < 0.5):
            kept.append(line)
    return "\n".join(kept)


def noisy(rng, text):
    """A plain text as it arrives: with blanks at the ends of lines, and more empty lines than were written."""
    lines = []
    for line in text.split("\n"):
        lines.append(line + rng.choice(["", "", "", " "]) if line != "--" else line)
        if not line and rng.random() < 0.1:
            lines.append("")
    return "\n".join(lines)


LIST = "_" * 47 + "\nroofs mailing list\nroofs@lists.example\nhttps://lists.example/mailman/listinfo/roofs"
GROUP = ("-- \nYou received this message because you are subscribed to the Google Groups \"roofs\" group.\nTo unsubscribe from this "
         "group and stop receiving emails from it, send an email to roofs+unsubscribe@groups.example.")


def flowed(text):
    """A text as format=flowed (RFC 3676): lines within a paragraph end with a blank."""
    lines = text.split("\n")
    for i, line in enumerate(lines[:-1]):
        depth = lambda line: len(line) - len(line.lstrip("> ")) and line[: len(line) - len(line.lstrip("> "))].count(">")
        is_prose = line and lines[i + 1] and line != "-- " and depth(line) == depth(lines[i + 1]) and len(line) > 50
        lines[i] = line + " " if is_prose else line
    return "\n".join(lines)


def encoded(reply, text, web, mode):
    """The message with its parts, each in a charset and a transfer encoding."""
    message = email.message.EmailMessage(policy=email.policy.SMTP.clone(max_line_length=200, cte_type="8bit"))
    message["From"] = "Tom Berg <tom@berg.example>"
    message["To"] = email.header.Header(reply.name.replace('"', ""), "utf-8").encode(maxlinelen=0) + f" <{reply.address}>"
    message["Subject"] = email.header.Header(reply.subject, "utf-8").encode(linesep="", maxlinelen=0)
    message["Date"] = "Tue, 3 Mar 2026 10:00:00 +0000"
    message["Message-ID"] = f"<{reply.rng.getrandbits(64):x}@berg.example>"

    def add(part, content, kind):
        charsets = ["utf-8", "utf-8"] + CHARSETS.get(reply.lang, ["iso-8859-1", "windows-1252"])
        charset = reply.rng.choice(charsets)
        try:
            content.encode(charset)
        except UnicodeEncodeError:
            charset = "utf-8"
        ascii_only = charset == "iso-2022-jp"
        cte = "7bit" if ascii_only else reply.rng.choice(["8bit", "quoted-printable", "base64"])
        if max(map(len, content.split("\n"))) > 900 and cte in ("8bit", "7bit"):
            cte = "base64"
        part.set_content(content, subtype=kind, charset=charset, cte=cte)
        if kind == "plain" and content == flowed_text:
            part.set_param("format", "flowed")

    flowed_text = flowed(text) if mode == "flowed" else None
    if mode in ("plain", "flowed"):
        add(message, flowed_text or text, "plain")
    elif mode == "html":
        add(message, web, "html")
    else:
        message.make_alternative()
        for content, kind in ((text, "plain"), (web, "html")):
            part = email.message.EmailMessage(policy=message.policy)
            add(part, content, kind)
            del part["MIME-Version"]
            message.attach(part)
    return message.as_bytes()


def mail(rng, number):
    lang = rng.choice(list(texts.TEXTS))
    style = rng.choices(["top", "inline", "bottom", "forward", "none"], [45, 15, 15, 10, 15])[0]
    if style in ("forward", "none"):
        program = style
    else:
        program = rng.choice([name for name in PROGRAMS if style == "top" or name not in TOP_ALONE])
    reply = Reply(rng, lang, style)
    make = {"forward": forward, "none": ordinary}.get(program) or PROGRAMS[program]
    text, web = make(reply)
    modes = ["plain"] if web is None else ["plain", "html", "both"]
    if program in ("thunderbird", "none"):
        modes.append("flowed")
    mode = rng.choice(modes)
    if mode == "plain" and rng.random() < 0.2:
        text = tight(rng, text)
    if mode == "plain" and rng.random() < 0.3:
        text = noisy(rng, text)
    if mode == "plain" and rng.random() < 0.08:
        text += "\n\n" + rng.choice([LIST, GROUP])
    own = "\n\n".join(reply.own)
    message = encoded(reply, text, web, mode)
    if rng.random() < 0.5:
        message = message.replace(b"\r\n", b"\n")
    return {"id": number, "lang": lang, "program": program, "style": style, "mode": mode,
            "mail": message.decode("latin-1"), "own": own}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for number in range(args.count):
        print(json.dumps(mail(random.Random(f"{args.seed}/{number}"), number)))


if __name__ == "__main__":
    main()
