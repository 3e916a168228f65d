//! Tests of the table of rules and of what is masked in sentences.

use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::profile::Example;

fn masked(text: &str) -> (String, Masked) {
    let mut masked = Masked::new();
    let clean = Masking::default().masked(text, &mut masked);
    (clean.unwrap_or_else(|| text.to_owned()), masked)
}

fn clean(text: &str) -> String {
    masked(text).0
}

/// The example of a rule, with random signs in place of `{a36}` and the like. Tokens that are written out would alarm those
/// who search repositories for them.
fn token(form: &str, rng: &mut impl Rng) -> String {
    let mut token = String::new();
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('{') {
        let (class, after) = after.split_once('}').unwrap();
        let signs: Vec<char> = match &class[..1] {
            "a" => ('0'..='9').chain('A'..='Z').chain('a'..='z').collect(),
            "b" => ('0'..='9')
                .chain('A'..='Z')
                .chain('a'..='z')
                .chain("+/".chars())
                .collect(),
            "w" => ('0'..='9')
                .chain('A'..='Z')
                .chain('a'..='z')
                .chain("-_".chars())
                .collect(),
            "k" => ('1'..='9')
                .chain('a'..='k')
                .chain('m'..='z')
                .chain('P'..='Z')
                .collect(),
            "l" => ('A'..='Z').chain('a'..='z').collect(),
            "h" => ('0'..='9').chain('a'..='f').collect(),
            "B" => ('2'..='7').chain('A'..='Z').collect(),
            "d" => ('1'..='9').collect(),
            other => panic!("no class {other}"),
        };
        token.push_str(before);
        let n: usize = class[1..].parse().unwrap();
        token.extend((0..n).map(|_| signs[rng.random_range(0..signs.len())]));
        rest = after;
    }
    (token + rest).replace("\\n", "\n")
}

#[test]
fn each_rule_finds_its_examples_in_any_surroundings() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let masking = Masking {
        contacts: Contact::ALL.to_vec(),
        ..Masking::default()
    };
    for [kind, _, pattern, form, issuer] in table::rows::<5>(include_str!("rules.tsv")) {
        for (before, after) in [
            ("", ""),
            ("It is ", "."),
            ("新しいキーは", "です"),
            ("(\"", "\")\n"),
            ("Hier: ", ", danke"),
        ] {
            let token = token(form, &mut rng);
            let text = format!("{before}{token}{after}");
            let mut masked = Masked::new();
            let clean = masking.masked(&text, &mut masked).unwrap_or_default();
            assert!(
                masked.contains_key(kind),
                "{issuer}, {pattern}: {text:?} became {clean:?}"
            );
            assert!(
                clean.starts_with(before) && clean.ends_with(after),
                "{text:?} became {clean:?}"
            );
        }
    }
}

#[test]
fn words_for_passwords_are_known_in_many_languages() {
    for text in [
        "The wifi password is ~, do not tell Tom.",
        "Password: ~",
        "**Password:** `~`",
        "user anna, password ~",
        "DB_PASSWORD=~\n",
        "{\"user\": \"anna\", \"password\": \"~\"}",
        "my pw... the password for the router at the cabin is \"~\".",
        "Das WLAN-Passwort lautet ~.",
        "Kennwort (neu): ~",
        "Le mot de passe est ~ !",
        "mot de passe : ~",
        "La contraseña del wifi es ~.",
        "La password è ~",
        "A senha é ~, guarda bem.",
        "Het wachtwoord is ~.",
        "Hasło do wifi: ~",
        "Пароль от вайфая: ~",
        "Пароль — ~",
        "Wi-FiのパスワードはT~です。",
        "パスワード：~",
        "密码是~，别告诉别人",
        "WiFi密碼：~",
        "비밀번호는 ~ 입니다",
        "Kablosuz şifresi ~ olarak kaldı",
        "Şifre: ~",
        "Lösenordet är ~.",
        "Lösenordet till nätet är ~.",
        "I changed the password, it's ~ now",
        "my password (~) leaked",
        "anna, PW: ~",
        "the pass for the archive is ~",
        "<password>~</password>",
        "password: |\n  ~\n",
        "Het wachtwoord wordt ~",
        "пароль поменял на ~",
    ] {
        for password in ["Trawler9!x", "kq7Lm2#Pz", "sommar2024"] {
            let text = text.replace('~', password);
            assert!(
                !clean(&text).contains(&password[1..password.len() - 1]),
                "{text:?} became {:?}",
                clean(&text)
            );
        }
    }
}

#[test]
fn the_placeholder_names_the_kind() {
    for (text, expected) in [
        (
            "Password: sunshine\nSee you",
            "Password: [password]\nSee you",
        ),
        (
            "postgres://anna:s3cret@db.example.org/mails",
            "postgres://anna:[password]@db.example.org/mails",
        ),
        (
            "my card is 4111 1111 1111 1111, exp 12/29",
            "my card is [card number], exp 12/29",
        ),
        ("3 times 4111111111111111.", "3 times [card number]."),
        ("Amex 3782 822463 10005", "Amex [card number]"),
        (
            "IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF",
            "IBAN [account number] BIC COBADEFF",
        ),
        (
            "an gb29nwbk60161331926819 bitte",
            "an [account number] bitte",
        ),
        ("Kontonummer 532 013 000", "Kontonummer [account number]"),
        ("The PIN is 4711.", "The PIN is [PIN]."),
        ("the pin's 4711, cvc 123", "the pin's [PIN], cvc [PIN]"),
        (
            "code for the front door is 4711",
            "code for the front door is [PIN]",
        ),
        ("暗証番号は4711です", "暗証番号は[PIN]です"),
        ("My SSN is 219-09-9999", "My SSN is [identity number]"),
        (
            "passport number: C01X00T47",
            "passport number: [identity number]",
        ),
        (
            "words: 1. legal 2. winner 3. thank 4. year 5. wave 6. sausage 7. worth 8. useful 9. legal 10. winner 11. thank 12. yellow!",
            "words: 1. [seed phrase]!",
        ),
        (
            "curl -u anna:hunter2 https://example.org",
            "curl -u anna:[password] https://example.org",
        ),
    ] {
        assert_eq!(clean(text), expected);
        assert_eq!(
            clean(&clean(text)),
            clean(text),
            "masking twice changes nothing"
        );
    }
}

#[test]
fn ordinary_sentences_stay_as_they_are() {
    for text in [
        "I forgot my password, here is the thing: nothing works.",
        "Password: <your password>, password=$DB_PASSWORD, password = getpass()",
        "The password is required to have 8 characters.",
        "The password is 8-character long.",
        "Passwords: a short history of secrets, tokens and keys",
        "password: none",
        "fn open(password: &str) and a new token ([#2006](https://github.com/rust-lang/cc-rs/pull/2006))",
        "0.4111111111111111 and 1.38435736E+12 and 3.44051401359",
        "Is it in a password manager?",
        "token: string; secret: SecretStr",
        "The password was changed in 2019, pass type_comments=True to Tom, pin 13 is free.",
        "The secret is out: we won 2019 and 2020.",
        "La parola amore è bella. A palavra-chave é amor.",
        "Das Passwort steht im Brief.",
        "sk-learn-pipeline-v2-for-something-else and task-list-of-2024-for-everybody",
        "ISBN 978-3-16-148410-0, order 4929 1234, call 0171 1234567",
        "between 1990 and 2000, 1234567890123 ms, 4111 1111 1111 1112",
        "-----BEGIN RSA PRIVATE KEY----- is how a key begins",
        "https://example.org:8080/a@b and mailto:anna@example.org",
        "about able above absent absorb the abstract absurd abuse access accident",
        "spinning 1234 and shopping 4711",
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon",
        "[password] Password: [password]",
    ] {
        assert_eq!(clean(text), text);
    }
}

#[test]
fn contacts_and_names_are_masked_where_asked_for() {
    let text = "Anna Berg (anna@berg.example, +49 30 901820) wrote to tom@berg.example from 192.0.2.17. Annabel and Anna.";
    assert_eq!(clean(text), text);
    let masking = Masking {
        contacts: Contact::ALL.to_vec(),
        names: vec!["Anna Berg".into(), "Anna".into(), " ".into()],
        own_addresses: vec!["Tom@Berg.example".into()],
        ..Masking::default()
    };
    let mut counts = Masked::new();
    let clean = masking.masked(text, &mut counts).unwrap();
    assert_eq!(
        clean,
        "[name] ([e-mail address], [phone number]) wrote to tom@berg.example from [IP address]. Annabel and [name]."
    );
    assert_eq!(
        counts,
        [
            ("IP address", 1),
            ("e-mail address", 1),
            ("name", 2),
            ("phone number", 1)
        ]
        .into()
    );
    let name = Masking {
        names: vec!["田中".into()],
        ..Masking::default()
    };
    assert_eq!(
        name.masked("明日田中さんと", &mut counts).unwrap(),
        "明日[name]さんと"
    );
}

#[test]
fn secrets_can_be_kept() {
    let masking = Masking {
        keeps_secrets: true,
        ..Masking::default()
    };
    assert_eq!(
        masking.masked("password: hunter2", &mut Masked::new()),
        None
    );
}

#[test]
fn all_texts_of_an_example_are_masked_and_counted() {
    let mut example = Example::new("My PIN is 4711, and yours?", "Password: hunter2");
    let mut counts = Masked::new();
    Masking::default().mask(example.texts_mut(), &mut counts);
    assert_eq!(
        example,
        Example::new("My PIN is [PIN], and yours?", "Password: [password]")
    );
    assert_eq!(counts, [("PIN", 1), ("password", 1)].into());
}

proptest! {
    /// Any text is masked without a panic, and masking it again changes nothing.
    #[test]
    fn masking_any_text_ends_and_is_stable(text in "(password|PIN|sk-|DE89|\\PC|[:= \n0-9.@]|ключ|は){0,60}") {
        let masking = Masking { contacts: Contact::ALL.to_vec(), names: vec!["a".into()], ..Masking::default() };
        let mut counts = Masked::new();
        if let Some(clean) = masking.masked(&text, &mut counts) {
            prop_assert!(clean.contains('['));
        }
    }
}
