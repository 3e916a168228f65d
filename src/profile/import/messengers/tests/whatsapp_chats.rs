//! Chats of `WhatsApp`, and of Signal in the same form.

use super::super::whatsapp::is_chat;
use super::{failure, left, read};

/// The beginnings of lines before a name, as phones of many locales write them.
const STAMPS: [&str; 44] = [
    "12/03/2026, 18:02 - ",
    "3/12/26, 6:02 PM - ",
    "3/12/26, 6:02\u{202f}PM - ",
    "12/03/26, 6:02\u{202f}pm - ",
    "2026-03-12, 6:02 p.m. - ",
    "2026-03-12, 6 h 02 - ",
    "12/3/2026, 6:02\u{a0}p.\u{a0}m. - ",
    "12/3/26 18:02 - ",
    "12/03/2026 18:02 - ",
    "12/03/2026 à 18:02 - ",
    "12.03.26, 18:02 - ",
    "12.03.2026, 18:02 - ",
    "12.03.2026 kl. 18.02 - ",
    "12.3.2026 klo 18.02 - ",
    "12-03-2026 18:02 - ",
    "2026-03-12 18:02 - ",
    "12.03.26 г., 18:02 ч. - ",
    "12. 3. 2026, 18:02 - ",
    "12. 03. 2026. 18:02 - ",
    "2026. 03. 12. 18:02 - ",
    "12/03/26 18.02 - ",
    "18:02, 12/3/26 - ",
    "2026/03/12 18:02 - ",
    "2026/3/12 下午6:02 - ",
    "2026年3月12日 下午6:02 - ",
    "2026. 3. 12. 오후 6:02 - ",
    "2026년 3월 12일 오후 6:02 - ",
    "12/3/2569 18:02 - ",
    "\u{200f}١٢\u{200f}/٣\u{200f}/٢٠٢٦، ٦:٠٢ م - ",
    "۱۴۰۴/۱۲/۲۱،\u{200f} ۱۸:۰۲ - ",
    "१२/३/२६, ६:०२ pm - ",
    "12/3/26, 6:02 μ.μ. - ",
    "12.3.2026, 18:02 - ",
    "12.03.2026 18:02 – ",
    "[12/03/2026, 18:02:11] ",
    "[12.03.26, 18:02:11] ",
    "\u{200e}[12/3/26, 6:02:11\u{202f}PM] ",
    "[12/03/26 18:02:11] ",
    "[2026-03-12, 18:02:11] ",
    "[2026/3/12 下午6:02:11] ",
    "[2026. 3. 12. 오후 6:02:11] ",
    "[12.3.2026 klo 18.02.11] ",
    "[18:02:11, 12/3/26] ",
    "[12/03/2026 à 18:02:11] ",
];

#[test]
fn dates_of_all_locales_begin_messages() {
    for stamp in STAMPS {
        let chat = format!(
            "{stamp}Nora Lind: ladder?\r\n{stamp}Tom Berg: aye\r\nand the paint\n\n{stamp}Nora Lind: good\n"
        );
        let texts = read("chat.txt", &chat, "Tom Berg");
        assert_eq!(texts.unwrap(), ["ladder? → aye\nand the paint"], "{stamp}");
    }
}

#[test]
fn what_the_program_says_is_left_in_every_language() {
    for line in [
        "<Media omitted>",
        "<Medien ausgeschlossen>",
        "<Без медиафайлов>",
        "<Média vynechány>",
        "<some words that no table holds>",
        "\u{200e}image omitted",
        "Bild weggelassen",
        "\u{200e}<attached: 00000012-PHOTO-2026-03-07.jpg>",
        "\u{200e}\u{200e}<adjunto: \u{200e}PTT-20180129-WA0025.opus>",
        "\u{200e}IMG-20260307-WA0001.jpg (file attached)",
        "IMG-20260307-WA0001.jpg (in no table)",
        "Alex.vcf (Datei angehängt)",
        "This message was deleted",
        "Se eliminó este mensaje.",
        "\u{200e}このメッセージは削除されました。",
        "\u{200e}You deleted this message as admin",
        "Missed voice call",
        "\u{200e}Messages and calls are end-to-end encrypted.",
        "\u{200e}ein Satz in einer Sprache, die keine Tabelle kennt.",
        "POLL:\nred or green?\nOPTION: red (2 votes)",
        "투표:\nred or green?\n선택: red (2 표)\n선택: green (1 표)",
        "Alex.vcf (in no table)",
        "location: https://maps.google.com/?q=59.1,18.2",
        "null",
        "",
    ] {
        let chat = format!(
            "12/03/2026, 18:02 - Nora Lind: red or green?\n12/03/2026, 18:03 - Tom Berg: {line}\n12/03/2026, 18:04 - Tom Berg: green\n"
        );
        let texts = read("chat.txt", &chat, "Tom Berg").unwrap();
        assert_eq!(texts, ["red or green? → green"], "{line}");
    }
}

#[test]
fn words_of_the_user_around_the_programs_are_kept() {
    for (written, own) in [
        ("green <This message was edited>", "green"),
        ("green \u{200e}<Diese Nachricht wurde bearbeitet.>", "green"),
        ("green \u{200e}edited in an unknown language", "green"),
        ("<Media omitted>\ngreen", "green"),
        (
            "IMG-20260307-WA0001.jpg (file attached)\ngreen\nor so",
            "green\nor so",
        ),
        (
            "\u{200e}green \u{200e}<attached: 00000012-PHOTO.jpg>",
            "green",
        ),
        ("green <3", "green <3"),
        ("use a Vec<u8>", "use a Vec<u8>"),
        ("<sigh>", "<sigh>"),
        (
            "ask @\u{2068}Nora Lind\u{2069} about 18:30: she knows",
            "ask @Nora Lind about 18:30: she knows",
        ),
        ("12/03/2026 was a Thursday", "12/03/2026 was a Thursday"),
        ("> red or green?\ngreen", "green"),
    ] {
        let chat = format!(
            "12/03/2026, 18:02 - Nora Lind: red or green?\n12/03/2026, 18:03 - Tom Berg: {written}\n"
        );
        let texts = read("chat.txt", &chat, "Tom Berg").unwrap();
        assert_eq!(texts, [format!("red or green? → {own}")], "{written}");
    }
}

#[test]
fn texts_within_minutes_are_one_and_old_questions_are_not_answered() {
    let chat = "12/03/2026, 08:00 - Nora Lind: one\n12/03/2026, 08:01 - Nora Lind: two\n12/03/2026, 08:02 - Tom Berg: a\n\
        12/03/2026, 08:08 - Tom Berg: b\n12/03/2026, 08:30 - Tom Berg: c\n12/03/2026, 09:00 - Nora Lind: three\n\
        13/03/2026, 22:00 - Tom Berg: d\n13/03/2026, 22:01 - Nora Lind: four\n13/03/2026, 22:01 - Nora Lind: <Media omitted>\n\
        13/03/2026, 22:02 - Tom Berg: e\n";
    assert_eq!(
        read("chat.txt", chat, "berg, TOM").unwrap(),
        [
            "one\ntwo → a\nb",
            "Write a text. → c",
            "Write a text. → d",
            "Write a text. → e"
        ]
    );
    assert_eq!(
        left(&[("chat.txt", chat)], "Tom Berg"),
        ["1 an attachment without a text", "4 from somebody else"]
    );
}

#[test]
fn names_are_told_where_several_people_asked() {
    let chat = "12/03/2026, 08:00 - You created group \"Shed: paint\"\n12/03/2026, 08:00 - ~\u{202f}Ada: red?\n12/03/2026, 08:00 - Nora Lind: or green?\n\
        12/03/2026, 08:01 - \u{202a}+44 7700 900123\u{202c}: green\n12/03/2026, 08:03 - Nora Lind: sure?\n12/03/2026, 08:03 - \u{202a}+44 7700 900123\u{202c}: quite\n";
    let expected = ["Ada: red?\nNora Lind: or green? → green", "sure? → quite"];
    for author in ["+447700900123", "+44 (7700) 900-123"] {
        assert_eq!(read("chat.txt", chat, author).unwrap(), expected);
    }
    assert_eq!(
        failure(&[("chat.txt", chat)], ""),
        "whose messages are the user's own? They are by +44 7700 900123 (2), Nora Lind (2), Ada (1)"
    );
    assert_eq!(
        failure(&[("chat.txt", chat)], "Tom"),
        "has no messages by that author; it has some by +44 7700 900123 (2), Nora Lind (2), Ada (1)"
    );
}

#[test]
fn what_others_said_is_not_the_users_where_it_was_pasted() {
    for pasted in [
        "[12/03, 18:02] Nora Lind: a secret",
        "[6:02 PM, 3/12/2026] Nora Lind: a secret",
        "[12/03/26, 18:02:11] Nora Lind: a secret",
        "Nora Lind, [12.03.2026 18:02]\na secret",
        "Nora Lind — 03/12/2026 6:02 PM\na secret",
        "18:02, 12/03/2026 - Nora Lind: a secret",
    ] {
        for before in ["", "look:\n"] {
            let chat = format!(
                "12/03/2026, 18:02 - Tom Berg: {before}{pasted}\n12/03/2026, 18:33 - Tom Berg: well\n"
            );
            let texts = read("chat.txt", &chat, "Tom Berg").unwrap();
            let texts: Vec<_> = texts
                .iter()
                .map(|it| it.split_once(" → ").unwrap().1)
                .collect();
            assert!(
                texts == ["well"] || texts == ["look:", "well"],
                "{pasted}: {texts:?}"
            );
        }
    }
}

#[test]
fn months_are_told_from_days_by_what_can_be_and_by_their_order() {
    // Between the two texts lie eleven days, or eleven months.
    for (dates, expected) in [
        (["3/1/26", "3/12/26", "3/13/26"], 3),
        (["31/3/26", "1/4/26", "1/4/26"], 2),
        (["12/31/25", "1/1/26", "1/1/26"], 2),
    ] {
        let lines = dates.map(|date| format!("{date}, 18:02 - Tom Berg: x\n"));
        let texts = read("chat.txt", &lines.concat(), "Tom Berg").unwrap();
        assert_eq!(texts.len(), expected, "{dates:?}");
    }
}

#[test]
fn signals_chats_by_sigexport_tell_their_owner() {
    let chat = "[2026-03-07 21:22:39] Nora: home yet?  \n\n[2026-03-07 21:23:01] Me: \n\n> home yet?\n\nnearly  \n(- Nora: 👍 -)\n\n\
        [2026-03-07 21:40:00] Me: see ![a.jpg](./media/a.jpg)  \n[2026-03-07 21:50:00] Me: ![a.jpg](./media/a.jpg)  \n";
    let expected = ["home yet? → nearly", "Write a text. → see"];
    assert_eq!(read("chat.md", chat, "").unwrap(), expected);
    assert_eq!(read("chat.md", chat, "Tom Berg").unwrap(), expected);
}

#[test]
fn a_damaged_line_stays_with_the_one_whom_it_names() {
    for damaged in [
        "12/03/2026, 1x:03 - Nora Lind: a secret\n",
        "12/03/20026, 18:03 - Nora Lind: a secret\n",
        "x12/03/2026, 18:03 - Nora Lind: a secret\n",
        "12/03/2026, 18:03 - Nora Lind: a secret\nand more\n",
    ] {
        for glue in ["\n", ""] {
            let chat = format!(
                "12/03/2026, 18:02 - Tom Berg: aye{glue}{damaged}12/03/2026, 18:04 - Tom Berg: well\n"
            );
            let texts = read("chat.txt", &chat, "Tom Berg").unwrap();
            assert!(
                !texts
                    .iter()
                    .any(|it| it.split_once('→').unwrap().1.contains("secret")),
                "{texts:?}"
            );
            assert!(texts.last().unwrap().ends_with("→ well"), "{texts:?}");
        }
    }
}

#[test]
fn a_line_that_begins_with_a_date_ends_a_message() {
    let chat = "12/03/2026, 18:02 - Tom Berg: aye\n12/03/2026, 18:03Nora Lind: a secret\n12/03/2026, 18:33 - Tom Berg: 10:00-11:30 ladder\n12:00-13:30 paint\n";
    assert_eq!(
        read("chat.txt", chat, "Tom Berg").unwrap(),
        [
            "Write a text. → aye",
            "Write a text. → 10:00-11:30 ladder\n12:00-13:30 paint"
        ]
    );
}

#[test]
fn prose_is_no_chat() {
    for text in [
        "A title\n\n12/03/2026 was a Thursday. At 18:02 - I think: it rained.",
        "12/03/2026, 18:02 - it rained\nand rained",
        "[1] Lind: On ladders. 2026.",
        "18:02 - Nora: hello",
        "",
    ] {
        assert!(!is_chat(text), "{text}");
    }
}
