"""What mail programs make of a reply: the line above the quotation, the headers, the marks, in plain text and in HTML.

Dates are written with Unicode's patterns in square brackets, by the CLDR's data of the language.
"""

import html
import re
import textwrap

from babel.dates import format_datetime

LOCALES = {"nb": "nb_NO", "zh": "zh_CN", "pt": "pt_PT"}

GMAIL = {
    "en": "On [EEE, MMM d, y] at [h:mm]\u202f[a] NAME <ADDR> wrote:",
    "de": "Am [EEE, d. MMM y] um [HH:mm] Uhr schrieb NAME <ADDR>:",
    "fr": "Le\u00a0[EEE d MMM y] à\u00a0[HH:mm], NAME <ADDR> a écrit\u00a0:",
    "es": "El [EEE, d MMM y] a las [H:mm], NAME (<ADDR>) escribió:",
    "it": "Il giorno [EEE d MMM y] alle ore [HH:mm] NAME <ADDR> ha scritto:",
    "nl": "Op [EEE d MMM y] om [HH:mm] schreef NAME <ADDR>:",
    "pl": "[EEE, d MMM y] o [HH:mm] NAME <ADDR> napisał(a):",
    "pt": "[EEEE, d/MM/y] à(s) [HH:mm], NAME <ADDR> escreveu:",
    "ru": "[EEE, d MMM y]\u202fг. в [HH:mm], NAME <ADDR>:",
    "uk": "[EEE, d MMM y]\u202fр. о [HH:mm] NAME <ADDR> пише:",
    "sv": "Den [EEE d MMM y] kl [HH:mm] skrev NAME <ADDR>:",
    "nb": "[EEE d. MMM y] kl. [HH:mm] skrev NAME <ADDR>:",
    "da": "Den [EEE d. MMM y] kl. [HH.mm] skrev NAME <ADDR>:",
    "fi": "[EEE d. MMM y] klo [H.mm] NAME (ADDR) kirjoitti:",
    "cs": "[EEE d. M. y] v\u00a0[H:mm] odesílatel NAME <ADDR> napsal:",
    "hu": "NAME <ADDR> ezt írta (időpont: [y. MMM d., EEE, H:mm]):",
    "tr": "NAME <ADDR>, [d MMM y EEE, HH:mm] tarihinde şunu yazdı:",
    "ja": "[y年M月d日(E) H:mm] NAME <ADDR>:",
    "ko": "[y년 M월 d일 (EEE) a h:mm], NAME <ADDR>님이 작성:",
    "zh": "NAME <ADDR> 于[y年M月d日EEE HH:mm]写道：",
}
# Languages of programs in which no mail of the collection is written.
GMAIL_ABROAD = {
    "sk": "[EEE d. M. y] o [H:mm] NAME <ADDR> napísal(a):",
    "ro": "În [EEE, d MMM y] la [HH:mm], NAME <ADDR> a scris:",
    "el": "Στις [EEE, d MMM y] στις [h:mm a], ο χρήστης NAME <ADDR> έγραψε:",
    "vi": "Vào [EEE, d MMM, y] lúc [HH:mm] NAME <ADDR> đã viết:",
    "he": "\u202bבתאריך [EEE, d MMM y] ב-[H:mm] מאת \u202aNAME\u202c\u200f <\u202aADDR\u202c\u200f>:\u202c",
    "hr": "[EEE, d. MMM y.] u [HH:mm] NAME <ADDR> napisao je:",
    "bg": "На [EEE, d.MM.y] г. в [H:mm] NAME <ADDR> написа:",
    "ar": "في [EEE، d MMM y] في [h:mm a] تمت كتابة ما يلي بواسطة NAME <ADDR>:",
    "id": "Pada tanggal [EEE, d MMM y] pukul [HH.mm] NAME <ADDR> menulis:",
    "th": "ในวันที่ [EEE d MMM y] เวลา [HH:mm] NAME <ADDR> เขียนว่า:",
}
APPLE = {
    "en": "On [d MMM y], at [HH:mm], NAME <ADDR> wrote:",
    "de": "Am [dd.MM.y] um [HH:mm] schrieb NAME <ADDR>:",
    "fr": "Le [d MMM y] à [HH:mm], NAME <ADDR> a écrit :",
    "es": "El [d MMM y], a las [H:mm], NAME <ADDR> escribió:",
    "it": "Il giorno [d MMM y], alle ore [HH:mm], NAME <ADDR> ha scritto:",
    "nl": "Op [d MMM y] om [HH:mm] heeft NAME <ADDR> het volgende geschreven:",
    "pl": "Wiadomość napisana przez NAME <ADDR> w dniu [d MMM y], o godz. [HH:mm]:",
    "nb": "Den [d. MMM y] kl. [HH.mm] skrev NAME <ADDR>:",
    "zh": "在 [y年M月d日，HH:mm]，NAME <ADDR> 写道：",
    "ja": "[y/MM/dd HH:mm]、NAME <ADDR>のメール:",
    "sv": "[d MMM y] kl. [HH:mm] skrev NAME <ADDR>:",
    "da": "Den [d. MMM y] kl. [HH.mm] skrev NAME <ADDR>:",
}
THUNDERBIRD = {
    "en": "On [d/M/y HH:mm], NAME wrote:",
    "de": "Am [dd.MM.yy] um [HH:mm] schrieb NAME:",
    "fr": "Le [dd/MM/y] à [HH:mm], NAME a écrit\u00a0:",
    "es": "El [d/M/yy] a las [H:mm], NAME escribió:",
    "it": "Il [dd/MM/y HH:mm], NAME ha scritto:",
    "nl": "Op [dd-MM-y] om [HH:mm] schreef NAME:",
    "pl": "W dniu [d.MM.y] o\u00a0[HH:mm], NAME pisze:",
    "pt": "Às [HH:mm] de [dd/MM/y], NAME escreveu:",
    "ru": "[dd.MM.y HH:mm], NAME пишет:",
    "uk": "[dd.MM.y HH:mm], NAME:",
    "sv": "Den [y-MM-dd] kl. [HH:mm], skrev NAME:",
    "nb": "Den [dd.MM.y HH:mm], skrev NAME:",
    "da": "Den [dd.MM.y] kl. [HH.mm] skrev NAME:",
    "fi": "NAME kirjoitti [d.M.y] klo [H.mm]:",
    "cs": "Dne [d. M. y] v [H:mm] NAME napsal(a):",
    "hu": "[y. MM. dd. H:mm] keltezéssel, NAME írta:",
    "tr": "[d.MM.y HH:mm] tarihinde NAME yazdı:",
    "ko": "[y-MM-dd] [a h:mm]에 NAME 이(가) 쓴 글:",
    "zh": "在 [y/M/d HH:mm], NAME 写道:",
}
LABELS = {
    "en": ("From", "Sent", "To", "Subject"), "de": ("Von", "Gesendet", "An", "Betreff"),
    "fr": ("De\u00a0", "Envoyé\u00a0", "À\u00a0", "Objet\u00a0"), "es": ("De", "Enviado el", "Para", "Asunto"),
    "it": ("Da", "Inviato", "A", "Oggetto"), "nl": ("Van", "Verzonden", "Aan", "Onderwerp"),
    "pl": ("Od", "Wysłane", "Do", "Temat"), "pt": ("De", "Enviado", "Para", "Assunto"),
    "ru": ("От", "Отправлено", "Кому", "Тема"), "uk": ("Від", "Дата", "Кому", "Тема"),
    "sv": ("Från", "Skickat", "Till", "Ämne"), "nb": ("Fra", "Sendt", "Til", "Emne"),
    "da": ("Fra", "Sendt", "Til", "Emne"), "fi": ("Lähettäjä", "Lähetetty", "Vastaanottaja", "Aihe"),
    "cs": ("Od", "Odesláno", "Komu", "Předmět"), "hu": ("Feladó", "Elküldve", "Címzett", "Tárgy"),
    "tr": ("Kimden", "Gönderildi", "Kime", "Konu"), "ja": ("差出人", "送信日時", "宛先", "件名"),
    "ko": ("보낸 사람", "보낸 날짜", "받는 사람", "제목"), "zh": ("发件人", "发送时间", "收件人", "主题"),
}
ORIGINAL = {"en": "Original Message", "de": "Ursprüngliche Nachricht", "fr": "Message d'origine", "es": "Mensaje original",
            "it": "Messaggio originale", "nl": "Oorspronkelijk bericht", "pt": "Mensagem original", "sv": "Ursprungligt meddelande",
            "nb": "Opprinnelig melding", "da": "Oprindelig meddelelse", "ru": "Исходное сообщение"}
FORWARDED = {"en": "Forwarded Message", "de": "Weitergeleitete Nachricht", "fr": "Message transféré", "es": "Mensaje reenviado",
             "it": "Messaggio Inoltrato", "nl": "Doorgestuurd bericht", "pt": "Mensagem reencaminhada",
             "ru": "Перенаправленное сообщение", "sv": "Vidarebefordrat meddelande", "nb": "Videresendt melding",
             "da": "Videresendt meddelelse", "cs": "Přeposlaná zpráva", "hu": "Továbbított üzenet", "tr": "İletilen İleti",
             "ko": "전달된 메시지", "zh": "转发的消息"}
BEGIN = {"en": "Begin forwarded message:", "de": "Anfang der weitergeleiteten Nachricht:", "fr": "Début du message réexpédié :",
         "es": "Inicio del mensaje reenviado:", "it": "Inizio messaggio inoltrato:", "nl": "Begin doorgestuurd bericht:",
         "pl": "Początek przekazywanej wiadomości:", "da": "Start på videresendt besked:", "cs": "Začátek přeposílané zprávy:"}
PHONE = {"en": "Sent from my iPhone", "de": "Von meinem iPhone gesendet", "fr": "Envoyé de mon iPhone", "es": "Enviado desde mi iPhone",
         "it": "Inviato da iPhone", "nl": "Verstuurd vanaf mijn iPhone", "pt": "Enviado do meu iPhone", "pl": "Wysłane z iPhone'a",
         "sv": "Skickat från min iPhone", "nb": "Sendt fra min iPhone", "da": "Sendt fra min iPhone", "fi": "Lähetetty iPhonesta",
         "cs": "Odesláno z iPhonu", "ru": "Отправлено с iPhone", "uk": "Надіслано з iPhone", "tr": "iPhone'umdan gönderildi",
         "ja": "iPhoneから送信", "ko": "나의 iPhone에서 보냄", "zh": "发自我的iPhone"}


PHONES = ["Sent from my Galaxy", "Sent from Yahoo Mail on Android", "Get Outlook for iOS", "Get Outlook for Android<https://aka.ms/x>",
          "Sent from my Pixel 7", "Gesendet von Mail für Windows", "Envoyé depuis Outlook pour Android", "Outlook für Android herunterladen",
          "Sent from Outlook", "Sent from Proton Mail for Android", "Enviado desde mi Samsung Galaxy", "Inviato da Outlook per iOS"]


def filled(lang, pattern, when, name, address):
    """A pattern with its dates, the name and the address."""
    locale = LOCALES.get(lang, lang)
    text = re.sub(r"\[([^]]+)\]", lambda match: format_datetime(when, match[1], locale=locale), pattern)
    return text.replace("NAME", name).replace("ADDR", address)


def quoted(paragraphs, mark="> ", empty=">"):
    """Paragraphs with marks of quotation before each line."""
    lines = "\n\n".join(paragraphs).split("\n")
    return [(mark if not line.startswith(">") else mark.strip()) + line if line else empty for line in lines]


def wrapped(paragraphs, width):
    fill = lambda line: textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    return ["\n".join(fill(line) for line in paragraph.split("\n")) for paragraph in paragraphs]


def broken(line, width=76):
    """A line of attribution as Gmail breaks it: also within the angle brackets."""
    if len(line) <= width:
        return line
    at = line.rfind("<", 0, width)
    if at > 0 and len(line) - at > 20 and len(line) - at - 1 < width:
        return line[: at + 1] + "\n" + line[at + 1 :]
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def escaped(text):
    return html.escape(text, quote=False).replace("\n", "<br>")


def headers(lang, message, bold=False, pattern="[EEEE, d. MMMM y HH:mm]"):
    when = filled(lang, pattern, message["when"], "", "")
    sender = message.get("shown") or f"{message['name']} <{message['address']}>"
    values = (sender, when, "Tom Berg <tom@berg.example>", message["subject"])
    return [f"{'*' if bold else ''}{label}:{'*' if bold else ''} {value}" for label, value in zip(LABELS[lang], values)]


def html_headers(lang, message):
    lines = [line.split(":", 1) for line in headers(lang, message)]
    return "<br>\n".join(f"<b>{escaped(label)}:</b>{escaped(value)}" for label, value in lines)
