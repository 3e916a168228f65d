//! Mails: the user's own words are taken, in whatever mailbox and charset and by whatever program they were written, and what
//! others or programs wrote is cut or left.

use std::fs;
use std::path::Path;

use cope_llama::profile::{Example, ImportOptions, Imported, import};

use super::Folder;

const TOM: &str = "tom@berg.example";

fn by(author: &str) -> ImportOptions {
    ImportOptions {
        authors: vec![author.to_owned()],
        ..ImportOptions::default()
    }
}

/// A mail of Tom's with more headers (`charset=…` is that of a plain text) and a body.
fn mail(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!(
        "From: Tom Berg <{TOM}>\nTo: Nora Lind <nora@lind.example>\nSubject: Ladder\nMIME-Version: 1.0\n"
    );
    let headers = match headers.strip_prefix("charset=") {
        Some(charset) => format!("Content-Type: text/plain; charset={charset}\n"),
        None => headers.to_owned(),
    };
    [head.as_bytes(), headers.as_bytes(), b"\n", body.as_ref()].concat()
}

fn mbox(mails: &[Vec<u8>]) -> Vec<u8> {
    let separator = format!("From {TOM} Tue Mar  3 10:00:00 2026\n");
    let mails = mails
        .iter()
        .map(|mail| [separator.as_bytes(), mail, b"\n\n"].concat());
    mails.collect::<Vec<_>>().concat()
}

fn imported(mails: &[Vec<u8>]) -> Imported {
    Folder::new().import_with("a.mbox", mbox(mails), &by(TOM))
}

fn responses(imported: &Imported) -> Vec<&str> {
    let examples = imported.examples.iter();
    examples.map(|example| example.response.as_str()).collect()
}

/// The text that is taken of one mail in UTF-8.
fn own(headers: &str, body: &str) -> String {
    let imported = imported(&[mail(headers, body)]);
    responses(&imported).concat()
}

#[test]
fn every_charset_is_decoded() {
    for (headers, body, text) in [
        (
            "charset=iso-2022-jp",
            &b"\x1b$B$O$7$4$r;}$C$F9T$-$^$9\x1b(B"[..],
            "はしごを持って行きます",
        ),
        (
            "Content-Type: text/plain; charset=gb2312\nContent-Transfer-Encoding: base64\n",
            b"ztK0+Mzd19M=",
            "我带梯子",
        ),
        (
            "charset=koi8-r",
            b"\xf0\xd2\xc9\xd7\xc5\xd4, \xce\xcf\xd2\xc1",
            "Привет, нора",
        ),
        ("charset=utf-7", b"Caf+AOk- at eight", "Café at eight"),
        (
            "charset=windows-1252",
            b"\x93Quoted\x94 \x96 dash\x85",
            "“Quoted” – dash…",
        ),
        (
            "Content-Type: text/plain\n",
            b"Caf\xe8 at eight",
            "Cafè at eight",
        ),
        (
            "charset=unknown-8bit",
            "Café at nine".as_bytes(),
            "Café at nine",
        ),
        ("charset=us-ascii", "Café at ten".as_bytes(), "Café at ten"),
        (
            "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n",
            b"TGFkZGVyIOKAkyBwYWNrZWQg4piC",
            "Ladder – packed ☂",
        ),
        (
            "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n",
            b"Caf=E9, a line that has to break =\nin two. 2+2=3D4",
            "Café, a line that has to break in two. 2+2=4",
        ),
    ] {
        assert_eq!(
            responses(&imported(&[mail(headers, body)])),
            [text],
            "{headers}"
        );
    }
}

/// Replies without a rule of underscores, with what the author wrote.
const REPLIES: [(&str, &str); 17] = [
    (
        "Good.\n\n\nFrom: Nora [mailto:nora@lind.example]\nSent: 2 March 2026 18:01\nTo: Tom\nSubject: Ladder\n\nWill you?",
        "Good.",
    ),
    (
        "Yes!\n\nOn 2 Mar 2026, at 18:01, Nora Lind <nora@lind.example> wrote:\n\nWill you?",
        "Yes!",
    ),
    (
        "Oui.\n\nLe lun. 2 mars 2026 à 18:01, Nora <nora@lind.example> a écrit :\n\n> Tu viens ?",
        "Oui.",
    ),
    (
        "Sí.\n\nEl lun, 2 mar 2026 a las 18:01, Nora (<nora@lind.example>) escribió:\n\n> ¿Vienes?",
        "Sí.",
    ),
    (
        "Ja.\n\nOp ma 2 mrt 2026 om 18:01 schreef Nora <nora@lind.example>:\n\n> Kom je?",
        "Ja.",
    ),
    (
        "Ja.\n\nDen mån 2 mars 2026 kl 18:01 skrev Nora <nora@lind.example>:\n\n> Kommer du?",
        "Ja.",
    ),
    (
        "Tak.\n\npon., 2 mar 2026 o 18:01 Nora <nora@lind.example> napisał(a):\n\n> Przyjdziesz?",
        "Tak.",
    ),
    (
        "Sim.\n\nEm seg., 2 de mar. de 2026 às 18:01, Nora <nora@lind.example> escreveu:\n\n> Vens?",
        "Sim.",
    ),
    (
        "Yes.\n\nOn Mon, Mar 2, 2026 at 6:01 PM Nora of the Very Long Department of Roofs\nand Gutters <\nnora@lind.example> wrote:\n\n> Will you?",
        "Yes.",
    ),
    (
        "Am Montag, dem 02.03.2026 um 18:01 +0100 schrieb Nora Lind:\n> Wann?\n\nUm acht.\n\n> Wo?\n\nAm Schuppen.",
        "Um acht.\n\nAm Schuppen.",
    ),
    (
        "FYI\n\n---------- Forwarded message ---------\nFrom: Nora <n@lind.example>\nDate: Mon\nSubject: Roof\n\nThe roof leaks.",
        "FYI",
    ),
    ("On my way\n\nSent from my iPhone", "On my way"),
    (
        "ja\n\nVon meinem iPhone gesendet\n\n> Am 02.03.2026 um 18:01 schrieb Nora <nora@lind.example>:\n> \n> Kommst du?",
        "ja",
    ),
    (
        "Saturday then.\n\nBest,\nTom\n\n--\nTom Berg | Ladders Ltd | +00 000 000\nThis e-mail is confidential.",
        "Saturday then.\n\nBest,\nTom",
    ),
    ("Ok\n--\u{a0} \nTom Berg, Ladders Ltd", "Ok"),
    ("Table:\n--\nrow one", "Table:\n--\nrow one"),
    (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nYours.\n-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----",
        "Yours.",
    ),
];

#[test]
fn the_words_of_others_are_cut_in_every_style() {
    for (body, text) in REPLIES {
        assert_eq!(own("charset=utf-8", body), text);
    }
    let rule = "_".repeat(32);
    let outlook = format!(
        "Fine, I'll bring it.\n\nTom\n\n{rule}\nFrom: Nora <nora@lind.example>\nSent: Monday\nTo: Tom\nSubject: Ladder\n\nCan you?"
    );
    assert_eq!(
        own("charset=utf-8", &outlook),
        "Fine, I'll bring it.\n\nTom"
    );
    let android = format!(
        "Yes\n\nGet Outlook for Android<https://aka.ms/x>\n{rule}\nFrom: Nora\nSent: Monday\nTo: Tom\nSubject: x\n\nWill you?"
    );
    assert_eq!(own("charset=utf-8", &android), "Yes");
    let list = format!(
        "I second that.\n\n{}\nroofs mailing list\nroofs@lists.example\nhttps://lists.example/roofs",
        "_".repeat(47)
    );
    assert_eq!(own("charset=utf-8", &list), "I second that.");
}

#[test]
fn html_is_cut_by_its_structure_and_a_text_without_words_is_no_text() {
    let html = "Content-Type: text/html; charset=utf-8\n";
    let gmail = "<div dir=ltr>Saturday it is.</div><br><div class=gmail_quote><div class=gmail_attr>On Mon, Nora wrote:<br></div>\
        <blockquote class=gmail_quote><div>Can you come?</div></blockquote></div>";
    assert_eq!(own(html, gmail), "Saturday it is.");
    let page = "<html><head><style>p{color:red}</style><title>x</title></head><body><p>Hello Nora,</p><p>the ladder&nbsp;is <b>yours</b> \
        &amp; free.</p><ul><li>steps: 9</li></ul></body></html>";
    assert_eq!(
        own(html, page),
        "Hello Nora,\n\nthe ladder is yours & free.\n\nsteps: 9"
    );
    let alternative = "Content-Type: multipart/alternative; boundary=b\n";
    let empty = "--b\nContent-Type: text/plain; charset=utf-8\n\n\n--b\nContent-Type: text/html; charset=utf-8\n\n<p>Only the HTML has it.</p>\n--b--\n";
    assert_eq!(own(alternative, empty), "Only the HTML has it.");
    let mixed = "Content-Type: multipart/mixed; boundary=b\n";
    let attached = "--b\nContent-Type: text/html; charset=utf-8\n\n<p>See the file.</p>\n--b\nContent-Type: text/plain; name=n.txt\n\
        Content-Disposition: attachment; filename=n.txt\n\nNora wrote these notes.\n--b--\n";
    assert_eq!(own(mixed, attached), "See the file.");
    let alone = "--b\nContent-Type: text/plain; name=n.txt\nContent-Disposition: attachment; filename=n.txt\n\nMinutes by Nora.\n--b--\n";
    let left = imported(&[mail(mixed, alone), mail("", "Mine.")]);
    assert_eq!(responses(&left), ["Mine."]);
    assert_eq!(left.skipped, [("no text".to_owned(), 1)].into());
}

#[test]
fn flowed_lines_are_joined() {
    let flowed = "Content-Type: text/plain; charset=utf-8; format=flowed\n";
    let body = "This is a long line that was \nbroken by the mailer.\n\n> Quoted text that was \n> broken as well.\n\nYes.\n-- \nTom";
    assert_eq!(
        own(flowed, body),
        "This is a long line that was broken by the mailer.\n\nYes."
    );
    let body = "Lines of \none text\n\nThanks \nOn Mon, Mar 2, 2026 at 6:01 PM Nora <nora@lind.example> wrote:\n> Will \n> you?";
    let replied = imported(&[mail(flowed, body)]);
    assert_eq!(
        replied.examples,
        [Example::new(
            "Answer this mail:\n\nWill you?",
            "Lines of one text\n\nThanks"
        )]
    );
    let delsp = "Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes\n";
    assert_eq!(
        own(delsp, "No spaces \nhere \nat all."),
        "No spaceshereat all."
    );
}

#[test]
fn what_a_program_wrote_is_left_and_counted() {
    let calendar = "Content-Type: multipart/alternative; boundary=b\n";
    let answer = "--b\nContent-Type: text/plain\n\nAccepted.\n--b\nContent-Type: text/calendar; method=REPLY\n\nBEGIN:VCALENDAR\n--b--\n";
    let all = [
        mail(
            "Auto-Submitted: auto-replied\nPrecedence: bulk\n",
            "I am away until Monday.",
        ),
        mail("Auto-Submitted: no\n", "Mine."),
        mail(calendar, answer),
        mail(
            "",
            "-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----",
        ),
        mail(
            "Content-Type: multipart/encrypted; boundary=b\n",
            "--b\n\nVersion: 1\n--b--\n",
        ),
        mail(
            "Content-Type: multipart/report; boundary=b\n",
            "--b\n\nIt was read.\n--b--\n",
        ),
        mail("", "> Will you?"),
        b"Subject: nobody's\n\nx".to_vec(),
    ];
    let imported = imported(&all);
    assert_eq!(responses(&imported), ["Mine."]);
    let expected = [
        ("an automatic answer", 1),
        ("an invitation, or an answer to one", 1),
        ("a report of delivery or reading", 1),
        ("encrypted", 2),
        ("not an e-mail with a sender", 1),
        ("nothing but quoted text", 1),
    ];
    assert_eq!(
        imported.skipped,
        expected.map(|(why, n)| (why.to_owned(), n)).into()
    );
}

#[test]
fn what_was_cut_is_counted_and_signatures_may_be_kept() {
    let signed = |text: &str| {
        mail(
            "charset=utf-8",
            format!("{text}\n\nTom Berg\nLadders Ltd\nTel. 0123 456789"),
        )
    };
    let mails = [
        signed("One."),
        signed("Two."),
        signed("Three."),
        mail("", "Four.\n-- \nTom\n> Will you?"),
        mail("", "Five.\n\nSent from my iPhone"),
    ];
    let cut = imported(&mails);
    assert_eq!(
        responses(&cut),
        ["One.", "Two.", "Three.", "Four.", "Five."]
    );
    assert_eq!(
        cut.cut,
        [("lines of phones", 1), ("quotations", 1), ("signatures", 4)].into()
    );
    let options = ImportOptions {
        keep_signature: true,
        ..by(TOM)
    };
    let kept = Folder::new().import_with("a.mbox", mbox(&mails), &options);
    assert_eq!(
        responses(&kept)[2..4],
        [
            "Three.\n\nTom Berg\nLadders Ltd\nTel. 0123 456789",
            "Four.\n--\nTom"
        ]
    );
}

#[test]
fn an_mbox_is_split_where_a_mail_begins() {
    let text = "\u{feff}From tom@berg.example Tue Mar  3 10:00:00 2026\nFrom: tom@berg.example\nSubject: a\n\nDear Nora,\n\n\
        >From the roof I see the sea.\n\nFrom now on I use the stairs.\nFrom here at 10:00:00 2026\n\nTom\n\n\
        From 182625943453455425@xxx Tue Mar 11 01:31:25 +0000 2025\nFrom: =?utf-8?b?VMO2bSBCZXJn?= <tom@berg.example>\n\
        Subject: =?iso-8859-1?Q?Caf=E9_at?= =?iso-8859-1?Q?_eight?=\n\nTwo.\n";
    let imported = Folder::new().import_with("a.mbox", text, &by(TOM));
    let first = "Dear Nora,\n\nFrom the roof I see the sea.\n\nFrom now on I use the stairs.\nFrom here at 10:00:00 2026\n\nTom";
    assert_eq!(
        imported.examples,
        [
            Example::new("Write a mail with the subject \"a\".", first),
            Example::new("Write a mail with the subject \"Café at eight\".", "Two."),
        ]
    );
}

#[test]
fn mails_are_found_in_every_kind_of_mailbox() {
    let folder = Folder::new();
    let root = folder.0.path();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let one = mail("Date: Tue, 3 Mar 2026 10:00:00 +0000\n", "In the shed.");
    write("Sent", &mbox(std::slice::from_ref(&one)));
    write("Sent.mbox/mbox", &mbox(std::slice::from_ref(&one)));
    write("maildir/.Sent/cur/1.M1P1.host:2,S", &one);
    write("emls/2026/one.eml", &one);
    let emlx = [
        format!("{}\n", one.len()).as_bytes(),
        &one,
        b"<?xml version=\"1.0\"?>\n<plist/>",
    ]
    .concat();
    write("V10/Sent.mbox/Data/Messages/1.emlx", &emlx);
    for name in [
        "maildir/cur",
        "maildir/new",
        "maildir/tmp",
        "maildir/.Sent/new",
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for path in [
        "Sent",
        "Sent.mbox",
        "maildir",
        "emls",
        "emls/2026/one.eml",
        "V10",
    ] {
        let imported = import(&root.join(path), &by(TOM)).unwrap();
        assert_eq!(responses(&imported), ["In the shed."], "{path}");
    }
}

#[test]
fn the_user_is_known_by_address_name_or_label() {
    let folder = Folder::new();
    let from = |from: &str, labels: &str, body: &str| {
        format!("From: {from}\nSubject: x\n{labels}\n{body}").into_bytes()
    };
    let all = [
        from("\"Berg, Tom\" <t@work.example>", "", "By name."),
        from("Tom <TOM@berg.example>", "", "By address."),
        from("Nora <nora@lind.example>", "", "Hers."),
        from(
            "me@alias.example",
            "X-Gmail-Labels: =?UTF-8?Q?=C3=85pnet,Sendt,Kategori:_Reklame?=\n",
            "By label.",
        ),
    ];
    let path = folder.file("a.mbox", mbox(&all));
    for (authors, expected) in [
        (vec!["tom berg"], vec!["By name.", "By label."]),
        (vec!["tom@berg.example"], vec!["By address.", "By label."]),
        (vec![], vec!["By label."]),
        (vec!["Tom"], vec!["By address.", "By label."]),
    ] {
        let options = ImportOptions {
            authors: authors.into_iter().map(str::to_owned).collect(),
            ..ImportOptions::default()
        };
        assert_eq!(responses(&import(&path, &options).unwrap()), expected);
    }
}

#[test]
fn a_copy_of_a_mail_is_left_and_the_answered_mail_is_the_prompt() {
    let own = "Date: Tue, 3 Mar 2026 10:00:00 +0000\nMessage-ID: <2@berg.example>\nIn-Reply-To: <1@lind.example>\n";
    let reply = mail(own, "Gladly.\n\n> Shall");
    let question =
        b"From: Nora <nora@lind.example>\nMessage-ID: <1@lind.example>\n\nShall we eat?\n-- \nNora"
            .to_vec();
    let imported = imported(&[reply.clone(), reply, question]);
    assert_eq!(
        imported.examples,
        [Example::new(
            "Answer this mail:\n\nShall we eat?",
            "Gladly."
        )]
    );
    let skipped = [("a copy of another mail", 1), ("from somebody else", 1)];
    assert_eq!(
        imported.skipped,
        skipped.map(|(why, n)| (why.to_owned(), n)).into()
    );
}

/// The mails of `tests/golden/mails.jsonl`, which `benches/mails/threads.py --count 240 --seed 7` has printed, with their
/// bytes, which are written as the characters from U+0000 to U+00FF.
fn golden() -> Vec<(serde_json::Value, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mails.jsonl");
    let text = fs::read_to_string(path).unwrap();
    let mails = text.lines().map(|line| {
        let item: serde_json::Value = serde_json::from_str(line).unwrap();
        let characters = item["mail"].as_str().unwrap().chars();
        let bytes = characters.map(|byte| u8::try_from(byte).unwrap()).collect();
        (item, bytes)
    });
    mails.collect()
}

#[test]
fn the_words_of_invented_mails_in_twenty_languages_are_told_apart() {
    let folder = Folder::new();
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (mut n, mut n_right, mut shortened) = (0, 0, Vec::new());
    for (item, bytes) in golden() {
        let own = words(item["own"].as_str().unwrap());
        let taken = import(&folder.file("a.eml", bytes), &by(TOM));
        let taken = taken.map(|imported| words(&responses(&imported).concat()));
        let taken = taken.unwrap_or_default();
        n += 1;
        n_right += usize::from(taken == own);
        if item["style"] == "none" && own.iter().any(|word| !taken.contains(word)) {
            shortened.push(item["id"].clone());
        }
    }
    assert_eq!(shortened, Vec::<serde_json::Value>::new());
    assert!(n >= 200 && 100 * n_right >= 98 * n, "{n_right} of {n}");
}

#[test]
fn damaged_mails_are_read_or_left_and_never_taken_from_others() {
    let folder = Folder::new();
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (_, bytes) in golden() {
        for _ in 0..8 {
            let mut damaged = bytes.clone();
            for _ in 0..=next(4) {
                let (start, n) = (next(damaged.len()), next(40));
                let end = (start + n).min(damaged.len());
                match next(3) {
                    0 => drop(damaged.drain(start..end)),
                    1 => damaged[start..end].fill(next(256) as u8),
                    _ => damaged.extend_from_within(start..end),
                }
                damaged.push(b'\n');
            }
            let path = folder.file("a.mbox", mbox(&[damaged]));
            if let Err(error) = import(&path, &by(TOM)) {
                assert!(matches!(error, cope_llama::Error::Input(_)), "{error:?}");
            }
            import(&path, &by("nobody@berg.example")).unwrap_err();
        }
    }
}
